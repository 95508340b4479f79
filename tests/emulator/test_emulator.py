"""The emulator's own life, what it notes, and how it is waited for."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async.emulator import FOREVER, Emulator, Fault, RunContext

STREAM = {"input": {}, "stream": True}


async def endless(input: dict[str, Any], run: RunContext) -> Any:
    while True:
        await run.text("again ")


async def silent(input: dict[str, Any], run: RunContext) -> Any:
    await asyncio.get_running_loop().create_future()


def only(folder: Path) -> Path:
    [found] = folder.iterdir()
    return found


async def test_it_starts_stops_and_starts_again_on_its_port(
    connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    emulator = Emulator("echo")
    with pytest.raises(RuntimeError, match="not running"):
        _ = emulator.url
    async with emulator:
        port = emulator.port
        assert emulator.url == f"http://127.0.0.1:{port}"
        with pytest.raises(RuntimeError, match="is running"):
            await emulator.start()
        await (await connect(emulator)).post()
        folder = only(tmp_path)
        assert folder.is_dir()
    assert not folder.exists()
    await emulator.aclose()
    with pytest.raises(ConnectionRefusedError):
        await connect(emulator)
    async with emulator:
        assert emulator.port == port
        await (await connect(emulator)).post()
        assert emulator.requests.total == 2


async def test_it_listens_on_ipv6_too(connect: Any) -> None:
    try:
        async with Emulator("echo", host="::1") as emulator:
            assert emulator.url == f"http://[::1]:{emulator.port}"
            assert (await (await connect(emulator)).post()).status == 200
    except OSError:  # pragma: no cover - a machine without IPv6
        pytest.skip("no IPv6 here")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(delay=FOREVER),
        Fault(after_events=0, stall=FOREVER),
        Fault(terminator=FOREVER),
        Fault(framing="length"),
        Fault(),
    ],
)
@pytest.mark.parametrize("path", ["/silent/", "/endless/", "/", "/silent/v1/runs"])
async def test_closing_is_prompt_whatever_is_going_on(
    connect: Any, fault: Fault, path: str
) -> None:
    before = asyncio.all_tasks()
    async with Emulator("echo", apps={"silent": silent, "endless": endless}) as emulator:
        emulator.script(fault, times=None)
        bodies: tuple[dict[str, Any], ...] = (STREAM, {"input": {}})
        for body in bodies:
            await (await connect(emulator)).send("POST", path, body)
        await emulator.wait_for_requests(2)
        await asyncio.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 0.5
    assert emulator.open_connections == 0
    await asyncio.sleep(0)
    gc.collect()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("body", [STREAM, {"input": {}}])
@pytest.mark.parametrize("path", ["/silent/", "/endless/"])
async def test_a_client_that_leaves_cancels_its_run(connect: Any, path: str, body: Any) -> None:
    async with Emulator(silent, apps={"silent": silent, "endless": endless}) as emulator:
        for leave in ("close", "abort"):
            client = await connect(emulator)
            await client.send("POST", path, body)
            await emulator.wait_until(
                lambda: any(run.status == "running" for run in emulator.executions)
            )
            getattr(client, leave)()
            await emulator.wait_until(lambda: emulator.executions[-1].status == "canceled")
            await emulator.wait_until(lambda: emulator.requests[-1].disconnected)
        assert str(emulator.executions[0].error).endswith("during execution")


async def test_a_drop_cancels_the_run_and_is_no_disconnect(connect: Any) -> None:
    async with Emulator(endless) as emulator:
        emulator.script(Fault(after_events=3, drop="reset"))
        await (await connect(emulator)).stream()
        await emulator.wait_for_executions(1)
        assert emulator.executions[0].status == "canceled"
        await emulator.wait_until(lambda: emulator.requests[0].finished)
        assert not emulator.requests[0].disconnected
        assert emulator.requests[0].events_sent == 3


async def test_a_client_that_leaves_during_an_upload_is_noted(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        emulator.script(Fault(status=500))
        client = await connect(emulator)
        client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        await emulator.wait_until(lambda: emulator.open_connections)
        client.abort()
        await emulator.wait_until(lambda: emulator.requests and emulator.requests[0].finished)
        assert emulator.requests[0].disconnected
        assert emulator.pending_faults == 1


async def test_connections_are_numbered_and_counted(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        first, second = await connect(emulator), await connect(emulator)
        for client in (first, second, first):
            await client.post()
        assert [request.connection for request in emulator.requests] == [1, 2, 1]
        assert (emulator.connections, emulator.open_connections) == (2, 2)
        first.close()
        await emulator.wait_until(lambda: emulator.open_connections == 1)
        assert emulator.connections == 2


async def test_an_idle_connection_is_closed_in_time(connect: Any) -> None:
    async with Emulator("echo", keepalive_timeout=0.05) as emulator:
        client = await connect(emulator)
        await client.post()
        assert await client.reader.read() == b""


async def test_requests_are_noted_whole(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        await (await connect(emulator)).post("/echo/?a=1&a=2", {"input": {}}, x_mine="yes")
        [record] = emulator.requests
        assert (record.method, record.path, record.endpoint) == ("POST", "/echo/", "/")
        assert record.query.getall("a") == ["1", "2"]
        assert record.headers["X-Mine"] == "yes"
        assert record.json == {"input": {}}
        assert record.body == b'{"input": {}}'
        assert record.size == len(record.body)
        assert record.status == 200
        assert record.received_at.tzinfo is not None
        assert not record.disconnected
        assert str(emulator.access_key) not in repr(record)
        await emulator.wait_until(lambda: record.finished)


async def test_waiting_has_an_end() -> None:
    async with Emulator() as emulator:
        with pytest.raises(TimeoutError):
            await emulator.wait_for_requests(1, timeout=0.01)


async def test_pace_is_the_time_between_events(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        for _ in range(3):
            await run.text("x")

    async with Emulator(app, pace=0.02) as emulator:
        started = time.monotonic()
        await (await connect(emulator)).stream()
        assert time.monotonic() - started >= 0.06
