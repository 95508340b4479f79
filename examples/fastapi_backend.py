"""A web backend on FastAPI, with a page: ask, watch the answer come, stop it.

    python -m uvicorn --app-dir examples fastapi_backend:api

It calls the App at `DYNAMIQ_APP_URL` with the key in `DYNAMIQ_ACCESS_KEY`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

from dynamiq_async import AsyncApp, DynamiqError, RunEvent
from dynamiq_async.relay import resume
from dynamiq_async.relay.starlette import RelayResponse, error_response


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, AsyncApp]]:
    async with AsyncApp() as app:
        yield {"app": app}


api = FastAPI(lifespan=lifespan)
api.add_exception_handler(DynamiqError, error_response)


class Question(BaseModel):
    question: str


def words(event: RunEvent) -> dict[str, str] | None:
    """What the page gets to see of an event: only the answer's text."""
    return {"text": event.text} if event.text else None


@api.post("/runs")
async def ask(question: Question, request: Request) -> dict[str, str]:
    run = await request.state.app.runs.create(question, background=True)
    return {"run": run.id}  # here belongs a note that this run is this user's


@api.get("/events")
async def events(run: str, request: Request) -> RelayResponse:
    # Here belongs the question whether this run is this user's.
    return RelayResponse(resume(request.state.app.runs, run, request.headers), map=words)


@api.post("/runs/{run}/cancel")
async def stop(run: str, request: Request) -> None:
    await request.state.app.runs.cancel(run)  # and here


@api.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))
