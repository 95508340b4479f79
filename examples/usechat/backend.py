"""Chats of the App for pages of `useChat` (the AI SDK) and of AG-UI's client, on FastAPI.

    bash examples/usechat/start.sh

It calls the App at `DYNAMIQ_APP_URL` with the key in `DYNAMIQ_ACCESS_KEY`. The script builds the
pages with npm, and serves them at http://127.0.0.1:8000/ and /agent.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from dynamiq_async import AsyncApp, DynamiqError, Upload
from dynamiq_async.relay import Chat, Start, session_for
from dynamiq_async.relay.starlette import chat_routes, error_response

HERE = Path(__file__).parent


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, AsyncApp]]:
    async with AsyncApp() as app:
        yield {"app": app}


api = FastAPI(lifespan=lifespan)
api.add_exception_handler(DynamiqError, error_response)


def app_of(request: Request) -> AsyncApp:
    app: AsyncApp = request.state.app
    return app


async def owner(request: Request, chat_id: str) -> str | None:
    """Who is asking. Here belongs your session; this example knows people by a cookie only.

    The chat's id needs no look-up: it is part of the run's session together with the user, so a
    user who sends another's id gets a chat of their own.
    """
    return request.cookies.get("user")


def as_input(chat: Chat) -> Start:
    """The App's input, and the files that the page has uploaded before."""
    files = chat.extra.get("files", [])
    return Start({"question": chat.text}, {"file_ids": [str(file) for file in files]})


api.router.routes.extend(chat_routes(app_of, input=as_input, owner=owner, sdk_version=7, stop=True))
api.router.routes.extend(
    chat_routes(
        app_of,
        path="/api/agent",
        wire="ag-ui",
        input=lambda chat: {"question": chat.text},
        owner=owner,
        stop=True,
    )
)


@api.post("/api/files")
async def upload(name: str, request: Request) -> dict[str, str]:
    """The body is the file. A page sends the ids with its message, as `files` beside it."""
    if not request.cookies.get("user"):
        raise HTTPException(404)
    file = await app_of(request).files.upload(Upload(request.stream(), name=name))
    return {"id": file.id}


@api.get("/api/chat/{chat_id}/history")
async def history(chat_id: str, request: Request) -> list[dict[str, str]]:
    """What this user asked in this chat, oldest first. The service keeps it."""
    user = request.cookies.get("user")
    if not user:
        raise HTTPException(404)
    runs = app_of(request).runs.list(session_id=session_for(user, chat_id), page_size=50)
    page = await runs
    asked = [run for run in reversed(page.data) if isinstance(run.input, dict)]
    return [{"id": f"asked-{run.id}", "text": str(run.input.get("question", ""))} for run in asked]


@api.get("/")
@api.get("/agent")
async def page(request: Request) -> Response:
    name = "agent.html" if request.url.path == "/agent" else "page.html"
    response = FileResponse(HERE / name)
    if not request.cookies.get("user"):
        response.set_cookie("user", str(uuid4()), httponly=True, samesite="strict")
    return response


api.mount("/built", StaticFiles(directory=HERE / "built", check_dir=False))
