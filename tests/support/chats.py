"""A backend with a chat's endpoints before an emulator, and an App that is led by the tests."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web
from starlette.applications import Starlette

from dynamiq_async import AsyncApp
from dynamiq_async.emulator import Emulator, WorkflowCanceledError, WorkflowFailedError
from dynamiq_async.relay import aiohttp as on_aiohttp
from dynamiq_async.relay import starlette as on_starlette
from tests.support.backends import aiohttp_serving, uvicorn_serving

if TYPE_CHECKING:
    from dynamiq_async.relay import Chat


class Leading:
    """An App that thinks, uses a tool and speaks, and then does what its text says.

    Attributes:
        go: lets an App that was told to wait go on.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, input: dict[str, Any], run: Any) -> Any:
        text = input["text"]
        await run.thought("I look ")
        await run.thought("it up.")
        await self._tool(run)
        await run.text("It is ")
        if "wait" in text:
            await self.go.wait()
        if "approve" in text:
            answer = await run.approve("Send it?", {"to": "ann", "text": "hi"}, editable=["to"])
            word = f"to {answer.params['to']}" if answer.approved else f"not: {answer.feedback}"
            await run.text(f"sent {word}, ")
        if "ask" in text:
            await run.text(f"for {await run.ask('Who is it for?')}, ")
        await run.text("on its way.")
        if "fail" in text:
            raise WorkflowFailedError("the node at 10.0.0.7 said no")
        if "cancel" in text:
            raise WorkflowCanceledError
        return {"node-1": {"status": "success", "input": input, "output": {"content": "done"}}}

    @staticmethod
    async def _tool(run: Any) -> None:
        await run.event(
            "agent.tool_call.completed",
            {
                "id": "call-1",
                "input": {"order": 7},
                "result": '{"place":"Graz"}',
                "tool": {"name": "find-order"},
                "usage": {"prompt_tokens": 11, "completion_tokens": 7},
            },
        )


def as_input(chat: Chat) -> dict[str, Any]:
    return {"text": chat.text}


def user_of(headers: Any) -> str | None:
    return headers.get("X-User", "ann") or None


class Backend:
    """Serves `/api/chat` (`useChat`) and `/api/agent` (AG-UI) to a user named in `X-User`.

    Attributes:
        emulator, app: the service, and the backend's client of it.
        leading: the App.
        url: of the backend.
    """

    def __init__(self, kind: str = "uvicorn", app: Any = None, **options: Any) -> None:
        self.leading = Leading()
        self._options: dict[str, Any] = {"input": as_input, "stop": True, **options}
        self._app = app or self.leading
        self._kind = kind

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.emulator = await stack.enter_async_context(Emulator(self._app))
            key = self.emulator.access_key
            app = AsyncApp(self.emulator.url, access_key=key)
            self.app = await stack.enter_async_context(app)
            serving = self._aiohttp() if self._kind == "aiohttp" else self._starlette()
            self.port = await stack.enter_async_context(serving)
            self.url = f"http://127.0.0.1:{self.port}"
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _starlette(self) -> Any:
        async def owner(request: Any, chat_id: str) -> str | None:
            return user_of(request.headers)

        routes = []
        for path, wire in (("/api/chat", "ui-message-stream"), ("/api/agent", "ag-ui")):
            options = {"owner": owner, "path": path, "wire": wire, **self._options}
            routes += on_starlette.chat_routes(lambda _: self.app, **options)
        return uvicorn_serving(Starlette(routes=routes))

    def _aiohttp(self) -> Any:
        async def owner(request: web.Request, chat_id: str) -> str | None:
            return user_of(request.headers)

        application = web.Application()
        for path, wire in (("/api/chat", "ui-message-stream"), ("/api/agent", "ag-ui")):
            options = {"owner": owner, "path": path, "wire": wire, **self._options}
            application.add_routes(on_aiohttp.chat_routes(self.app, **options))
        return aiohttp_serving(application)
