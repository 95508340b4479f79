"""Faults do what they say, to the byte."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from typing import Any, Literal

import pytest

from dynamiq_async.emulator import FOREVER, HTML_PAGE, Emulator, Fault, RequestRecord, RunContext

STREAM = {"input": {}, "stream": True}
HOWS: tuple[Literal["reset", "close", "truncate"], ...] = ("reset", "close", "truncate")
ENDS = {"reset": "reset", "close": "closed", "truncate": "closed"}


async def counting(input: dict[str, Any], run: RunContext) -> Any:
    """Streams numbered messages of about a hundred bytes, or more."""
    filling = b"x" * input.get("size", 100)
    for number in range(input.get("count", 5)):
        await run.send(b'{"number":%d,"filling":"%b"}' % (number, filling))
    return "done"


@pytest.fixture
async def emulator() -> Any:
    async with Emulator(counting) as running:
        yield running


def numbers(response: Any) -> list[int]:
    return [event["number"] for event in response.events if "number" in event]


# --- at a position ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_drop_after_events_delivers_exactly_those(
    emulator: Emulator, connect: Any, how: Any, count: int
) -> None:
    emulator.script(Fault(after_events=count, drop=how))
    response = await (await connect(emulator)).stream()
    assert numbers(response) == list(range(count))
    assert response.body.endswith(b"\n\n" if count else b"")
    assert response.end == ENDS[how]
    assert bool(response.announced) == (how == "truncate")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("at", [0, 1, 50, 200])
@pytest.mark.parametrize("body", [STREAM, {"input": {"text": "x" * 300}}])
async def test_drop_at_byte_delivers_exactly_so_many(
    connect: Any, how: Any, at: int, body: Any
) -> None:
    async with Emulator("echo", apps={"counting": counting}) as emulator:
        path = "/counting" if body is STREAM else "/"
        client = await connect(emulator)
        emulator.script(Fault(at_byte=at, drop=how))
        response = await client.post(path, body)
        assert len(response.body) == at
        assert response.end == ENDS[how]
        record = emulator.requests[0]
        assert (record.bytes_sent, record.status) == (at, 200)


@pytest.mark.parametrize("how", HOWS)
async def test_a_drop_behind_the_last_byte_leaves_the_body_without_its_end(
    emulator: Emulator, connect: Any, how: Any
) -> None:
    client = await connect(emulator)
    whole = await client.stream()
    emulator.script(Fault(at_byte=len(whole.body), drop=how))
    response = await client.stream()
    assert len(response.body) == len(whole.body)
    assert response.end == ENDS[how]


async def test_a_reset_comes_behind_everything_before_it(emulator: Emulator, connect: Any) -> None:
    """More than the client's system takes at once, and a client that is slow to read."""
    emulator.script(Fault(after_events=300, drop="reset"))
    client = await connect(emulator)
    large = {"count": 400, "size": 50_000}
    await client.send("POST", "/", {"input": large, "stream": True})
    response = await client.head()
    await asyncio.sleep(0.05)
    with pytest.raises(ConnectionResetError):
        await client.read_body(response)
    assert numbers(response) == list(range(300))


async def test_send_puts_bytes_in(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    emulator.script(
        Fault(after_events=1, send=b"garbage\xff"), Fault(at_byte=0, send=b"\xef\xbb\xbf")
    )
    response = await client.stream()
    assert response.blocks[1].startswith(b"garbage\xffevent: data\ndata: {")
    assert response.end == "whole"
    assert (await client.stream()).body.startswith(b"\xef\xbb\xbfevent: ")


@pytest.mark.parametrize("how", HOWS)
async def test_send_stall_and_drop_happen_in_this_order(
    emulator: Emulator, connect: Any, how: Any
) -> None:
    emulator.script(Fault(at_byte=10, send=b"!", stall=0.05, drop=how))
    started = time.monotonic()
    response = await (await connect(emulator)).stream()
    assert time.monotonic() - started >= 0.05
    assert (response.body[10:], len(response.body)) == (b"!", 11)
    assert response.end == ENDS[how]
    assert bool(response.announced) == (how == "truncate")


async def test_a_stall_ends_by_itself_or_with_the_client(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    emulator.script(Fault(after_events=2, stall=0.05), Fault(after_events=2, stall=FOREVER))
    assert numbers(await client.stream()) == [0, 1, 2, 3, 4]
    await client.send("POST", "/", STREAM)
    await client.head()
    for _ in range(2):
        await client.reader.readuntil(b"\n\n")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.reader.readuntil(b"\n\n")
    client.abort()
    await emulator.wait_until(lambda: emulator.requests[-1].finished)
    assert emulator.requests[-1].disconnected


# --- before the response -----------------------------------------------------------------------


async def test_another_response_takes_the_place_of_the_apps(
    emulator: Emulator, connect: Any
) -> None:
    client = await connect(emulator)
    emulator.script(
        Fault(status=503, headers={"Retry-After": "1"}),
        Fault(status=429, body={"error": "slow down"}),
        Fault.html_page(),
        Fault(body="text"),
        Fault(body=b"\0", headers={"Content-Type": "application/json"}),
        Fault(status=599),
    )
    busy = await client.post()
    assert (busy.status, busy.headers["retry-after"]) == (503, "1")
    assert busy.error["code"] == "service_unavailable"
    limited = await client.post()
    assert (limited.status, limited.json) == (429, {"error": "slow down"})
    page = await client.post()
    assert (page.status, page.body) == (502, HTML_PAGE)
    assert page.headers["content-type"].startswith("text/html")
    text = await client.post()
    assert (text.status, text.body) == (200, b"text")
    raw = await client.post()
    assert (raw.headers["content-type"], raw.body) == ("application/json", b"\0")
    assert (await client.post()).error["code"] == "error"
    assert not emulator.executions
    assert (await client.post()).status == 200
    assert emulator.connections == 1


async def test_headers_alone_are_added_to_the_apps_response(
    emulator: Emulator, connect: Any
) -> None:
    emulator.script(Fault(headers={"content-type": "text/plain", "X-More": "1"}))
    response = await (await connect(emulator)).post()
    assert (response.status, response.headers["x-more"]) == (200, "1")
    assert response.headers["content-type"] == "text/plain"


@pytest.mark.parametrize("executes", [False, True])
@pytest.mark.parametrize("body", [STREAM, {"input": {}}])
async def test_a_drop_before_the_response_may_hide_a_run(
    emulator: Emulator, connect: Any, executes: bool, body: Any
) -> None:
    endings: tuple[tuple[Literal["close", "reset"], type[Exception]], ...] = (
        ("close", asyncio.IncompleteReadError),
        ("reset", ConnectionResetError),
    )
    for how, error in endings:
        emulator.script(Fault(drop=how, executes=executes))
        with pytest.raises(error):
            await (await connect(emulator)).post("/", body)
        assert emulator.requests[-1].status is None
    assert [run.status for run in emulator.executions] == ["success"] * (2 * executes)


async def test_a_status_may_hide_a_run(emulator: Emulator, connect: Any) -> None:
    emulator.script(Fault(status=504, executes=True))
    assert (await (await connect(emulator)).stream()).status == 504
    assert emulator.executions[0].status == "success"
    assert emulator.requests[0].status == 504


async def test_delay_comes_before_the_first_byte(emulator: Emulator, connect: Any) -> None:
    emulator.script(Fault(delay=0.05), Fault(delay=math.inf))
    client = await connect(emulator)
    started = time.monotonic()
    await client.post()
    assert time.monotonic() - started >= 0.05
    await client.send("POST", "/", STREAM)
    await emulator.wait_for_requests(2)
    assert emulator.executions.total == 1
    client.abort()
    await emulator.wait_until(lambda: emulator.requests[1].disconnected)


# --- at the end, and how the bytes travel ----------------------------------------------------


async def test_the_terminator_may_be_late_or_missing(emulator: Emulator, connect: Any) -> None:
    emulator.script(Fault(terminator=0.05), Fault(terminator="missing"))
    client = await connect(emulator)
    sent = time.monotonic()
    await client.send("POST", "/", STREAM)
    response = await client.head()
    while b"Workflow" not in response.body:
        response.announced = int(await client.reader.readuntil(b"\r\n"), 16)
        response.chunks.append(await client.reader.readexactly(response.announced))
        await client.reader.readexactly(2)
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"
    assert time.monotonic() - sent >= 0.05
    cut = await client.stream()
    assert cut.end == "closed"
    assert cut.events[-1]["source"]["type"].endswith("Workflow")


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_framings(emulator: Emulator, connect: Any, framing: Any) -> None:
    emulator.script(Fault(framing=framing), Fault(framing=framing), times=2)
    bodies: tuple[dict[str, Any], ...] = (STREAM, {"input": {}})
    for body in bodies:
        client = await connect(emulator)
        response = await client.post("/", body)
        headers = response.headers
        assert headers.get("transfer-encoding") == ("chunked" if framing == "chunked" else None)
        assert ("content-length" in headers) == (framing == "length")
        assert headers.get("connection") == ("close" if framing == "close" else None)
        assert response.end == "whole"
        assert b"done" in response.body
        if framing == "close":
            assert client.reader.at_eof()
        else:
            assert (await client.post("/", {"input": {}})).status == 200


@pytest.mark.parametrize("framing", ["length", "close"])
@pytest.mark.parametrize("how", HOWS)
async def test_positions_hold_in_every_framing(
    emulator: Emulator, connect: Any, framing: Any, how: Any
) -> None:
    emulator.script(Fault(framing=framing, after_events=2, drop=how))
    response = await (await connect(emulator)).stream()
    assert numbers(response) == [0, 1]
    # A body that ends with its connection cannot tell a clean end from one that came too early.
    clean = framing == "close" and how != "reset"
    assert response.end == ("whole" if clean else ENDS[how])


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
async def test_write_size_recuts_the_body(emulator: Emulator, connect: Any, size: int) -> None:
    emulator.script(Fault(write_size=size))
    response = await (await connect(emulator)).stream()
    *full, last = map(len, response.chunks)
    assert set(full) <= {size}
    assert last <= size
    assert numbers(response) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", HOWS)
async def test_write_size_keeps_positions(emulator: Emulator, connect: Any, how: Any) -> None:
    emulator.script(
        Fault(write_size=64, after_events=2, drop=how), Fault(write_size=64, at_byte=100, drop=how)
    )
    assert numbers(await (await connect(emulator)).stream()) == [0, 1]
    response = await (await connect(emulator)).stream()
    assert len(response.body) == 100
    assert response.end == ENDS[how]


async def test_http_1_0_gets_a_body_that_ends_with_the_connection(
    emulator: Emulator, connect: Any
) -> None:
    response = await (await connect(emulator)).post("/", STREAM, version="1.0")
    assert "transfer-encoding" not in response.headers
    assert numbers(response) == [0, 1, 2, 3, 4]


async def test_no_content_has_no_length(emulator: Emulator, connect: Any) -> None:
    emulator.script(Fault(status=204, body=b""))
    client = await connect(emulator)
    await client.send("POST", "/", {"input": {}})
    assert "content-length" not in (await client.head()).headers


async def test_faults_over_tls(connect: Any) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with Emulator(counting, ssl_context=server) as emulator:
        assert emulator.url.startswith("https://127.0.0.1:")
        for how in HOWS:
            emulator.script(Fault(after_events=2, drop=how))
            client = await connect(emulator)
            client.close()
            client.reader, client.writer = await asyncio.open_connection(
                emulator.host, emulator.port, ssl=trust
            )
            response = await client.stream()
            assert numbers(response) == [0, 1]
            assert response.end == ENDS[how]


# --- which events a stream holds -------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(skip={2}), [0, 2, 3, 4]),
        (Fault(duplicate=[1, 5]), [0, 0, 1, 2, 3, 4, 4]),
        (Fault(swap=(2,)), [0, 2, 1, 3, 4]),
        (Fault(swap=(2,), duplicate=(2,)), [0, 2, 1, 1, 3, 4]),
        (Fault(swap=(6,)), [0, 1, 2, 3, 4]),
    ],
)
async def test_events_are_left_out_doubled_and_swapped(
    emulator: Emulator, connect: Any, fault: Fault, expected: list[int]
) -> None:
    emulator.script(fault)
    response = await (await connect(emulator)).stream()
    assert numbers(response) == expected
    assert response.events[-1]["source"]["type"].endswith("Workflow")


# --- the script ------------------------------------------------------------------------------


async def test_each_matching_request_takes_the_next_fault(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)

    def named(record: RequestRecord) -> bool:
        return bool(record.json and record.json["input"])

    emulator.script(Fault(), Fault(status=500), match="POST /", times=2)
    emulator.script(Fault(status=404), match="/v1/runs/*/stream")
    emulator.script(Fault(status=418), match=named)
    assert emulator.pending_faults == 6
    assert (await client.get("/v1/runs")).status == 200
    assert (await client.get("/v1/runs/x/stream")).error["code"] == "not_found"
    statuses = [(await client.post()).status for _ in range(4)]
    assert statuses == [200, 500, 200, 500]
    assert emulator.pending_faults == 1
    assert (await client.post()).status == 200
    assert (await client.post("/", {"input": {"a": 1}})).status == 418
    assert emulator.pending_faults == 0


async def test_a_script_may_go_on_for_ever_until_reset(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    emulator.script(Fault(status=500), times=None)
    assert [(await client.post()).status for _ in range(3)] == [500] * 3
    assert emulator.pending_faults == 0
    emulator.reset()
    assert (await client.post()).status == 200
    assert emulator.requests.total == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"after_events": 1},
        {"after_events": 1, "at_byte": 1, "drop": "reset"},
        {"send": b"x"},
        {"stall": 1},
        {"drop": "truncate"},
        {"write_size": 0},
    ],
)
def test_faults_that_make_no_sense_are_refused(arguments: Any) -> None:
    with pytest.raises(ValueError):
        Fault(**arguments)


def test_scripts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError):
        Emulator().script()
    with pytest.raises(ValueError):
        Emulator().script(Fault(), times=0)


@pytest.mark.parametrize("headers", [{"": "x"}, {"X": "a\r\nInjected: 1"}, {"X\n": "a"}])
def test_headers_that_would_be_others_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="headers: "):
        Fault(headers=headers)


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none(status: int) -> None:
    assert Fault(status=status).response() == (status, "application/json", b"")


def test_a_way_to_drop_that_there_is_not_is_refused() -> None:
    drop: Any = "rest"
    with pytest.raises(ValueError, match="'reset', 'close' or 'truncate'"):
        Fault(drop=drop)
