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
from dynamiq_async.emulator.core.feed import Feed, Reader
from dynamiq_async.emulator.core.log import Log

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
        for body in (STREAM, {"input": {}}):
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


async def test_expect_100_continue_is_answered(connect: Any) -> None:
    async with Emulator("echo", access_key=None) as emulator:
        client = await connect(emulator)
        client.writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 12\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await client.head()).status == 100
        client.writer.write(b'{"input":{}}')
        assert (await client.read()).status == 200


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
        assert emulator.access_key not in repr(record)
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


def test_a_log_keeps_the_newest_and_counts_all() -> None:
    log: Log[int] = Log(3)
    for number in range(5):
        log.add(number)
    assert list(log) == [2, 3, 4]
    assert (log[0], log[-1], log[:2]) == (2, 4, [2, 3])
    assert (len(log), log.total) == (3, 5)
    assert repr(log) == "<Log of 5>"


async def test_a_feed_takes_nothing_behind_its_end() -> None:
    feed = Feed()
    reader = Reader(feed)
    feed.append("a", b"1")
    feed.close()
    feed.append("b", b"2")
    assert [event.type for event in await reader.batch()] == ["a"]
    assert reader.at_end


# --- callbacks -------------------------------------------------------------------------------


async def test_callbacks_are_delivered_when_the_run_ends(connect: Any) -> None:
    async with (
        Emulator("echo", access_key="token-of-the-receiver") as receiver,
        Emulator("echo", allow_loopback_callbacks=True, callback_deliveries=2) as emulator,
    ):
        client = await connect(emulator)
        body = {
            "input": {"a": 1},
            "execution_mode": "async",
            "callbacks": [
                {
                    "url": f"{receiver.url}/hook?x=1",
                    "auth": {"type": "bearer", "token": "token-of-the-receiver"},
                    "metadata": {"order": 7},
                },
                {"url": f"http://localhost:{receiver.port}/other"},
            ],
        }
        accepted = await client.post("/", body)
        assert accepted.status == 202
        assert accepted.json["status"] == "accepted"
        await emulator.wait_until(lambda: emulator.deliveries.total == 4)
        hook = next(request for request in receiver.requests if request.path == "/hook")
        other = next(request for request in receiver.requests if request.path == "/other")
        assert hook.query["x"] == "1"
        assert hook.headers["Authorization"] == "Bearer token-of-the-receiver"
        assert "Authorization" not in other.headers
        timestamp = hook.json.pop("timestamp")
        assert len(timestamp) == len("2026-11-21T23:33:36.474665123Z")
        assert hook.json == {
            "id": accepted.json["id"],
            "status": "succeeded",
            "output": {"output-1": {"status": "success", "input": {"a": 1}, "output": {"a": 1}}},
            "metadata": {"order": 7},
        }
        assert "metadata" not in other.json
        assert {delivery.status for delivery in emulator.deliveries} == {404}


async def test_a_failed_run_has_no_output_for_its_callbacks(connect: Any) -> None:
    async with (
        Emulator("echo") as receiver,
        Emulator("failing", allow_loopback_callbacks=True) as emulator,
    ):
        url = receiver.url
        body = {"input": {}, "execution_mode": "async", "callbacks": [{"url": url}]}
        await (await connect(emulator)).post("/", body)
        await emulator.wait_until(lambda: emulator.deliveries.total)
        assert set(receiver.requests[0].json) == {"id", "status", "timestamp"}
        assert receiver.requests[0].json["status"] == "failed"


async def test_a_receiver_that_is_not_there_is_noted(connect: Any) -> None:
    async with Emulator("echo") as receiver:
        url = receiver.url
    async with Emulator("echo", allow_loopback_callbacks=True) as emulator:
        body = {"input": {}, "execution_mode": "async", "callbacks": [{"url": url}]}
        await (await connect(emulator)).post("/", body)
        await emulator.wait_until(lambda: emulator.deliveries.total)
        assert emulator.deliveries[0].status is None
        assert emulator.deliveries[0].error.startswith("ConnectionRefusedError")


async def test_async_mode_needs_no_callbacks(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        body = {"input": {}, "execution_mode": "async"}
        assert (await (await connect(emulator)).post("/", body)).status == 202
        await emulator.wait_for_executions(1)


PUBLIC = "https://example.com/hook"
NOT_PUBLIC = "must be a public HTTPS URL"


@pytest.mark.parametrize(
    ("callback", "field", "complaint"),
    [
        ("text", "callbacks[0]", "must be an object"),
        ({}, "callbacks[0].url", "cannot be blank"),
        ({"url": 1}, "callbacks[0].url", "must be a string"),
        ({"url": "http://[bad"}, "callbacks[0].url", "must be a valid URL"),
        ({"url": "http://example.com"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://localhost"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://a.localhost"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://127.0.0.1"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://10.0.0.1"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://169.254.0.1"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://[::1]"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": PUBLIC, "auth": "x"}, "callbacks[0].auth", None),
        ({"url": PUBLIC, "auth": {"type": "bearer"}}, "callbacks[0].auth", None),
        ({"url": PUBLIC, "metadata": []}, "callbacks[0].metadata", "must be an object"),
    ],
)
async def test_bad_callbacks_are_refused(
    connect: Any, callback: Any, field: str, complaint: str | None
) -> None:
    async with Emulator("echo") as emulator:
        body = {"input": {}, "execution_mode": "async", "callbacks": [callback]}
        answer = await (await connect(emulator)).post("/", body)
    assert answer.status == 400
    told = answer.error["details"][field]
    assert told == (complaint or 'must be {"type": "bearer", "token": string}')


async def test_five_callbacks_are_the_most(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        body = {
            "input": {},
            "execution_mode": "async",
            "callbacks": [{"url": PUBLIC}] * 6,
        }
        answer = await (await connect(emulator)).post("/", body)
    assert answer.error["details"] == {"callbacks": "the length must be no more than 5"}
