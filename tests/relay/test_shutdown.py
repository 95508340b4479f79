"""Servers that have to stop, as processes that get real signals, while relays are open."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp
from dynamiq_async.emulator import Emulator
from tests.support.backends import Browser, listening

if TYPE_CHECKING:
    from pathlib import Path

BACKEND = """
from contextlib import asynccontextmanager

from dynamiq_async import AsyncApp
from dynamiq_async.relay import resume

options = {"format": "FORMAT", "on_leave": "LEAVE", "heartbeat": None}

if "SERVER" == "aiohttp":
    from aiohttp import web

    from dynamiq_async.relay.aiohttp import relay_response, setup

    async def client(backend):
        async with AsyncApp() as app:
            backend["app"] = app
            yield

    async def events(request):
        stream = resume(request.app["app"].runs, request.query["run"], request.headers)
        return await relay_response(request, stream, **options)

    import warnings

    warnings.simplefilter("ignore")
    backend = web.Application()
    setup(backend)
    setup(backend)
    backend.cleanup_ctx.append(client)
    backend.add_routes([web.get("/events", events)])
    web.run_app(backend, host="127.0.0.1", port=PORT)
else:
    from starlette.applications import Starlette
    from starlette.routing import Route

    from dynamiq_async.relay.starlette import RelayResponse

    @asynccontextmanager
    async def lifespan(_):
        async with AsyncApp() as app:
            yield {"app": app}

    async def events(request):
        stream = resume(request.state.app.runs, request.query_params["run"], request.headers)
        return RelayResponse(stream, **options)

    backend = Starlette(routes=[Route("/events", events)], lifespan=lifespan)
    if "SERVER" == "hypercorn":
        import asyncio

        from hypercorn.asyncio import serve
        from hypercorn.config import Config

        config = Config()
        config.bind = ["127.0.0.1:PORT"]
        config.graceful_timeout = 0.5
        asyncio.run(serve(backend, config))
    else:
        import uvicorn

        uvicorn.run(backend, host="127.0.0.1", port=PORT, timeout_graceful_shutdown=GRACE)
"""


async def speak(input: Any, run: Any) -> Any:
    await run.text("hello")
    await asyncio.get_running_loop().create_future()


async def connected(port: int, process: asyncio.subprocess.Process, path: str) -> Browser:
    while True:
        assert process.returncode is None
        with socket.socket() as probe:
            probe.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(probe, ("127.0.0.1", port))
                break
            except ConnectionError:
                await asyncio.sleep(0.05)
    return await Browser.ask(port, path)


BROKEN = b"<broken>"


async def rest(browser: Browser) -> bytes:
    """The rest of the body, and a mark if the connection broke."""
    seen = b""
    try:
        while piece := await browser.piece():
            seen += piece
    except (EOFError, ConnectionError):
        seen += BROKEN
    return seen


async def stopped(
    folder: Path, server: str, format: str, leave: str, grace: float | None
) -> tuple[bytes, bytes, str, str]:
    """What a browser got, what the server printed, the run's id, and what became of the run."""
    sock = listening()
    port = sock.getsockname()[1]
    sock.close()
    values = {"SERVER": server, "FORMAT": format, "LEAVE": leave, "PORT": port, "GRACE": grace}
    script = BACKEND
    for name, value in values.items():
        script = script.replace(name, str(value))
    file = folder / "backend.py"
    file.write_text(script)
    async with Emulator(speak) as emulator, asyncio.timeout(60):
        key = emulator.access_key or ""
        known = {"DYNAMIQ_APP_URL": emulator.url, "DYNAMIQ_ACCESS_KEY": key}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(file),
            env={**os.environ, **known},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with AsyncApp(emulator.url, access_key=key) as app:
                run = await app.runs.create({}, background=True)
            browser = await connected(port, process, f"/events?run={run.id}")
            seen = await browser.until(b"hello")
            process.send_signal(signal.SIGTERM)
            if server == "hypercorn":
                browser.leave()
            else:
                seen += await rest(browser)
                browser.leave()
            assert process.stderr is not None
            printed = await process.stderr.read()
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        status = emulator.runs[run.id].status
        if leave == "detach":
            emulator.runs[run.id].cancel()
        return seen, printed, run.id, status


@pytest.mark.parametrize(
    ("server", "format", "leave", "grace"),
    [
        ("uvicorn", "sse", "detach", None),
        ("uvicorn", "jsonl", "cancel", None),
        ("uvicorn", "sse", "cancel", 5),
        ("aiohttp", "sse", "cancel", None),
        ("aiohttp", "jsonl", "detach", None),
    ],
)
async def test_streams_end_with_their_position_and_runs_that_are_due_are_canceled(
    tmp_path: Path, server: str, format: str, leave: str, grace: float | None
) -> None:
    seen, printed, run, status = await stopped(tmp_path, server, format, leave, grace)
    assert b'"code":"unavailable"' in seen
    assert f'"last_event_id":"{run}:2"'.encode() in seen
    assert b"Traceback" not in printed, printed.decode()
    assert status == ("canceled" if leave == "cancel" else "started")


@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
async def test_a_page_of_usechat_sees_a_connection_that_broke(tmp_path: Path, server: str) -> None:
    """It resumes by itself from no other end."""
    seen, printed, run, _ = await stopped(tmp_path, server, "ui-message-stream", "detach", None)
    assert f'"messageId":"run-{run}"'.encode() in seen
    assert b"[DONE]" not in seen
    assert seen.endswith(BROKEN)
    printed_errors = [line for line in printed.splitlines() if line.startswith(b"ERROR")]
    wanted = [b"ERROR:    ASGI callable returned without completing response."]
    assert printed_errors == (wanted if server == "uvicorn" else [])
    assert b"Traceback" not in printed, printed.decode()


@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
async def test_an_ag_ui_page_is_told_of_the_restart(tmp_path: Path, server: str) -> None:
    seen, printed, _, _ = await stopped(tmp_path, server, "ag-ui", "detach", None)
    assert b'"type":"RUN_ERROR"' in seen
    assert b'"code":"restart"' in seen
    assert b"Traceback" not in printed, printed.decode()


async def test_a_cancelled_response_cancels_its_run_before_the_client_closes(
    tmp_path: Path,
) -> None:
    *_, status = await stopped(tmp_path, "hypercorn", "sse", "cancel", None)
    assert status == "canceled"
