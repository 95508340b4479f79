"""A web backend on aiohttp.web, with a page: ask, watch the answer come, stop it.

    python examples/aiohttp_backend.py

It calls the App at `DYNAMIQ_APP_URL` with the key in `DYNAMIQ_ACCESS_KEY`.
"""

from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from dynamiq_async import AsyncApp, RunEvent
from dynamiq_async.relay import resume
from dynamiq_async.relay.aiohttp import relay_response, setup

APP = web.AppKey("APP", AsyncApp)


def words(event: RunEvent) -> dict[str, str] | None:
    """What the page gets to see of an event: only the answer's text."""
    return {"text": event.text} if event.text else None


async def ask(request: web.Request) -> web.Response:
    question = (await request.json())["question"]
    run = await request.app[APP].runs.create({"question": question}, background=True)
    return web.json_response({"run": run.id})  # here belongs a note that this run is this user's


async def events(request: web.Request) -> web.StreamResponse:
    # Here belongs the question whether this run is this user's.
    stream = resume(request.app[APP].runs, request.query["run"], request.headers)
    return await relay_response(request, stream, map=words)


async def stop(request: web.Request) -> web.Response:
    await request.app[APP].runs.cancel(request.match_info["run"])  # and here
    return web.json_response(None)


async def page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(Path(__file__).with_name("page.html"))


async def client(application: web.Application) -> AsyncIterator[None]:
    async with AsyncApp() as application[APP]:
        yield


def backend() -> web.Application:
    application = web.Application()
    setup(application)
    application.cleanup_ctx.append(client)
    application.add_routes(
        [
            web.post("/runs", ask),
            web.get("/events", events, allow_head=False),
            web.post("/runs/{run}/cancel", stop),
            web.get("/", page),
        ]
    )
    return application


if __name__ == "__main__":
    web.run_app(backend(), host="127.0.0.1", port=8000)
