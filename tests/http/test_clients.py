"""A client's life: views, a session of the user's, event loops, forks, and clients never closed."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
import trustme

from dynamiq_async import AsyncApp, errors
from tests.support.network import in_flight, turns
from tests.support.wire import (
    CHUNKED,
    LAST_CHUNK,
    Peer,
    Wire,
    chunk,
    final,
    make_response,
    says,
    script,
    server_context,
    sse,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from tests.support.network import MakeApp, Serve

INPUT = {"question": "?"}
OK = make_response({"a": 1})
ONE, END = sse(says("one")), sse(final())


class ServerThread:
    """A server in a thread of its own, for tests that start and end event loops themselves."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._tls = tls
        self.wire: Wire
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _handle(self, peer: Peer) -> None:
        if b'"stream"' in peer.request.body:
            await peer.send(CHUNKED, chunk(ONE))
            await peer.gone()
        else:
            await peer.send(OK)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with Wire(self._handle, tls=self._tls) as self.wire:
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> Wire:
        self._thread.start()
        self._ready.wait()
        return self.wire

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@pytest.fixture
def threaded() -> Iterator[Wire]:
    with ServerThread() as wire:
        yield wire


# --- closing -------------------------------------------------------------------------------------


async def test_closing(serve: Serve) -> None:
    wire = await serve(script(OK))
    async with AsyncApp(wire.url, access_key="k") as app:
        assert await app.invoke(INPUT) == {"a": 1}
        assert wire.open == 1
    await wire.all_closed()
    await app.aclose()
    for call in (app.invoke(INPUT), app.submit(INPUT), app.stream(INPUT).open()):
        with pytest.raises(errors.ClientClosedError):
            await call
    assert in_flight(app) == 0
    assert len(wire.requests) == 1


async def test_closing_what_was_never_used() -> None:
    app = AsyncApp("http://127.0.0.1:9", access_key="k")
    await app.aclose()
    del app
    gc.collect()
    AsyncApp("http://127.0.0.1:9", access_key="k")
    gc.collect()


async def test_a_client_never_closed_warns_once_and_closes(serve: Serve) -> None:
    wire = await serve(script(OK))
    app = AsyncApp(wire.url, access_key="k")
    await app.invoke(INPUT)
    with pytest.warns(ResourceWarning, match=r"AsyncApp\(.*never closed") as caught:
        del app
        gc.collect()
        await turns()
        gc.collect()
    assert len(caught) == 1
    await wire.all_closed()


async def test_a_client_dropped_in_another_thread_closes_too(serve: Serve) -> None:
    wire = await serve(script(OK))
    holder = [AsyncApp(wire.url, access_key="k")]
    await holder[0].invoke(INPUT)
    with pytest.warns(ResourceWarning, match="never closed"):
        thread = threading.Thread(target=holder.clear)
        thread.start()
        thread.join()
    await wire.all_closed()


async def test_an_argument_error_in_the_constructor_warns_of_nothing() -> None:
    with pytest.raises(errors.InvalidArgumentError):
        AsyncApp("http://127.0.0.1:9", access_key="k", max_connections=0)
    gc.collect()


# --- views ---------------------------------------------------------------------------------------


async def test_a_view_shares_connections_slots_and_cooldown(serve: Serve) -> None:
    wire = await serve(script(OK))
    async with AsyncApp(wire.url, access_key="k", headers={"x-a": "1"}) as app:
        view = app.with_options(headers={"X-B": "2", "User-Agent": "mine"}, max_retries=0)
        for client in (app, view, view.with_options(timeout=5), app):
            await client.invoke(INPUT)
        assert wire.connections == 1
        assert view._api.sender is app._api.sender
        first, second, third, fourth = (request.headers for request in wire.requests)
        assert first["x-a"] == second["x-a"] == "1"
        assert second["x-b"] == third["x-b"] == "2"
        assert second["user-agent"] == "mine"
        assert "x-b" not in fourth
        async with view:
            pass
        await view.aclose()
        assert await app.invoke(INPUT) == {"a": 1}
        assert wire.connections == 1
    with pytest.raises(errors.ClientClosedError):
        await view.invoke(INPUT)


async def test_a_view_may_outlive_the_name_of_its_origin(serve: Serve) -> None:
    wire = await serve(script(OK))
    view = AsyncApp(wire.url, access_key="k").with_options(timeout=5)
    gc.collect()
    for _ in range(2):
        assert await view.invoke(INPUT) == {"a": 1}
        gc.collect()
    assert wire.connections == 1
    with pytest.warns(ResourceWarning, match="never closed") as caught:
        del view
        gc.collect()
    assert len(caught) == 1
    await wire.all_closed()


async def test_headers_can_be_set_for_a_call(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(OK))
    app = app_for(wire, headers={"X-A": "1"})
    await app.invoke(
        INPUT,
        extra_headers={"x-a": "2", "X-New": "3"},
        extra_query={"a": ["b", "c d"], "n": None, "t": True},
        extra_body={"plus": 1},
    )
    request = wire.requests[0]
    assert request.headers["x-a"] == "2"
    assert request.headers["x-new"] == "3"
    assert request.raw_head.lower().count(b"x-a:") == 1
    assert request.target == "/?a=b&a=c+d&t=true"
    assert request.json() == {"input": INPUT, "plus": 1}


# --- a session of the user's ---------------------------------------------------------------------


@pytest_asyncio.fixture
async def session() -> Any:
    async with aiohttp.ClientSession(headers={"X-Session": "1"}, raise_for_status=True) as given:
        yield given


async def test_an_own_session_is_used_and_not_closed(
    serve: Serve, session: aiohttp.ClientSession
) -> None:
    async def handler(peer: Peer) -> None:
        if peer.request.method == "GET":
            await peer.send(make_response({"mine": True}))
        elif len(wire.requests) == 2:
            await peer.send(make_response(None, 400))
        else:
            await peer.send(OK)

    wire = await serve(handler)
    async with AsyncApp(wire.url, access_key="k", session=session) as app:
        assert await app.invoke(INPUT) == {"a": 1}
        assert wire.requests[0].headers["x-session"] == "1"
        with pytest.raises(errors.BadRequestError):
            await app.invoke(INPUT)
    assert not session.closed
    async with session.get(wire.url) as response:
        assert await response.json() == {"mine": True}
    assert wire.connections == 1
    with pytest.raises(errors.ClientClosedError):
        await app.invoke(INPUT)


async def test_an_own_session_that_is_closed_is_reported(session: aiohttp.ClientSession) -> None:
    app = AsyncApp("http://127.0.0.1:9", access_key="k", session=session)
    await session.close()
    with pytest.raises(errors.ClientClosedError, match="session is closed"):
        await app.invoke(INPUT)


async def test_an_own_session_can_be_dropped_with_its_client(
    serve: Serve, session: aiohttp.ClientSession
) -> None:
    wire = await serve(script(OK))
    app = AsyncApp(wire.url, access_key="k", session=session)
    await app.invoke(INPUT)
    del app
    gc.collect()
    assert not session.closed


@pytest.mark.parametrize("setting", [{"verify": "x"}, {"proxy": "http://x"}, {"trust_env": True}])
async def test_an_own_session_has_its_own_settings(
    setting: dict[str, Any], session: aiohttp.ClientSession
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        AsyncApp("http://127.0.0.1:9", access_key="k", session=session, **setting)
    assert caught.value.argument == "session"


# --- event loops ---------------------------------------------------------------------------------


def test_one_client_in_two_loops_in_turn(threaded: Wire) -> None:
    """Not a warning, although nothing is closed between the loops."""
    use_in_loops(AsyncApp(threaded.url, access_key="k"))
    assert threaded.connections == 2
    gc.collect()


def test_the_same_over_tls(tmp_path: Any) -> None:
    ca = trustme.CA()
    with ServerThread(server_context(ca)) as wire:
        ca.cert_pem.write_to_path(tmp_path / "ca.pem")
        use_in_loops(AsyncApp(wire.url, access_key="k", verify=tmp_path / "ca.pem"))
        gc.collect()


def use_in_loops(app: AsyncApp) -> None:
    async def use() -> None:
        assert await app.invoke(INPUT) == {"a": 1}
        assert await app.invoke(INPUT) == {"a": 1}

    for _ in range(2):
        asyncio.run(use())
        gc.collect()
    asyncio.run(app.aclose())


def test_a_stream_outlives_its_loop(threaded: Wire) -> None:
    app = AsyncApp(threaded.url, access_key="k")

    async def begin() -> Any:
        stream = app.stream(INPUT)
        assert (await anext(stream)).text == "one"
        return stream

    stream = asyncio.run(begin())
    gc.collect()
    del stream
    gc.collect()
    assert in_flight(app) == 0
    asyncio.run(app.aclose())


JUST_CLOSED = """
import asyncio, gc, sys
from dynamiq_async import AsyncApp

app = AsyncApp(sys.argv[1], access_key="k")

async def begin():
    stream = app.stream({})
    await anext(stream)
    return stream

loop = asyncio.new_event_loop()
stream = loop.run_until_complete(begin())
loop.close()
del stream
gc.collect()
assert app._api.sender.limiter.in_flight == 0
asyncio.run(app.invoke({}))
del app
gc.collect()
"""


def test_a_loop_that_is_just_closed(threaded: Wire) -> None:
    """Without the steps that `asyncio.run` takes, asyncio warns of its sockets; nothing breaks."""
    done = run_python(JUST_CLOSED, threaded.url)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_two_loops_at_once(threaded: Wire) -> None:
    """Each has connections of its own; closing in one closes the other's too."""
    app = AsyncApp(threaded.url, access_key="k")
    used, closed = threading.Event(), threading.Event()

    async def other() -> None:
        await app.invoke(INPUT)
        used.set()
        while not closed.is_set():
            await asyncio.sleep(0.001)
        await turns()
        gc.collect()

    async def main() -> None:
        await app.invoke(INPUT)
        await asyncio.to_thread(used.wait)
        assert threaded.connections == 2
        await app.aclose()
        closed.set()

    thread = threading.Thread(target=lambda: asyncio.run(other()))
    thread.start()
    asyncio.run(main())
    thread.join()
    gc.collect()


def run_python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


FORKED = """
import asyncio, gc, os, sys, warnings
from dynamiq_async import AsyncApp

problems = []
warnings.simplefilter("always")
# From 3.12 on, Python warns of each fork while there are threads.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
warnings.showwarning = lambda *a, **k: problems.append(str(a[0]))
sys.unraisablehook = lambda u: problems.append(repr(u.exc_value))

def child(app, how):
    async def use():
        assert await app.invoke({}) == {"a": 1}
    if how == "use":
        asyncio.run(use())
        asyncio.run(app.aclose())
    elif how == "close":
        asyncio.run(app.aclose())
    gc.collect()

async def parent(app, how):
    await app.invoke({})
    pid = os.fork()
    if pid == 0:
        return pid
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert status == 0, status
    async with asyncio.timeout(5):
        assert await app.invoke({}) == {"a": 1}
    await app.aclose()
    return pid

def main(url, how):
    app = AsyncApp(url, access_key="k")
    loop = asyncio.new_event_loop()
    if how == "after":
        loop.run_until_complete(app.invoke({}))
        pid = os.fork()
        if pid == 0:
            child(app, "use")
            assert not problems, problems
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        loop.run_until_complete(app.invoke({}))
        loop.run_until_complete(app.aclose())
        loop.close()
    else:
        pid = loop.run_until_complete(parent(app, how))
        if pid == 0:
            asyncio.set_event_loop(None)
            if how == "drop":
                del app
                gc.collect()
            else:
                child(app, how)
            assert not problems, problems
            os._exit(0)
        loop.close()
    del app
    gc.collect()
    assert not problems, problems

main(*sys.argv[1:])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("how", ["use", "close", "drop", "after"])
def test_a_fork_leaves_its_parents_connections_alone(how: str, threaded: Wire) -> None:
    """The child connects anew, and the parent goes on with the connection that it has."""
    done = run_python(FORKED, threaded.url, how)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert threaded.connections == (1 if how in ("close", "drop") else 2)


# --- the socket ----------------------------------------------------------------------------------


async def test_tcp_keepalive_is_on(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(OK))
    app = app_for(wire)
    await app.invoke(INPUT)
    transport = app._api.sender._transport
    (session,) = transport._sessions.values()  # type: ignore[union-attr]
    ((protocol, _),) = next(iter(session.client.connector._conns.values()))
    sock = protocol.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3


async def test_aiohttp_is_imported_when_it_is_needed() -> None:
    code = (
        "import sys, dynamiq_async; "
        "dynamiq_async.AsyncApp('https://x.example', access_key='k').stream({}); "
        "assert not {'aiohttp', 'anyio'} & set(sys.modules), sorted(sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_a_drained_stream_and_a_call_share_a_connection(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(CHUNKED + chunk(ONE + END) + LAST_CHUNK, OK))
    app = app_for(wire)
    async for _ in app.stream(INPUT):
        pass
    await app.invoke(INPUT)
    assert wire.connections == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc does this")
def test_reading_does_not_map_a_buffer_anew_each_time() -> None:
    """Two page faults a read are a quarter of what a slow stream's event costs."""
    code = """
import asyncio, contextlib, resource, socket
from dynamiq_async import AsyncApp, errors

async def main():
    async with AsyncApp("http://127.0.0.1:9", access_key=False, max_retries=0) as app:
        with contextlib.suppress(errors.ConnectError):
            await app.invoke({})

asyncio.run(main())
theirs, ours = socket.socketpair()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(500):
    theirs.send(b"x")
    ours.recv(256 * 1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""
    assert int(run_python(code).stdout) < 100
