"""Whoever leaves a stream of a run, in whatever phase, leaves nothing behind; and the position is
that of the last event handed out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp, Timeout, errors
from dynamiq_async.emulator import FOREVER, Emulator, Fault
from dynamiq_async.runs import stream as stream_module
from tests.support.run_apps import Gated, numbers, sequences, truth, waits

from .conftest import in_flight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dynamiq_async import Question, Run, RunEvent, RunStream
    from dynamiq_async._http.paging import PageIterator
    from dynamiq_async.emulator import RunContext

    from .conftest import Serve, Served

STREAMS = "GET /v1/runs/*/stream"
EVENTS = "GET /v1/runs/*/events"
RUN = "GET /v1/runs/????????-*-????????????"

BREAK = Fault(after_events=1, drop="reset")
NOTHING = Fault(after_events=0, drop="close")


async def forever(question: Question) -> str:
    await asyncio.get_running_loop().create_future()
    return ""


async def asks(input: dict[str, Any], run: RunContext) -> Any:
    return await run.ask("?")


class Phase:
    """A stream that comes to wait in one place, after `events` events."""

    def __init__(
        self, app: Any, *scripts: tuple[list[Fault], str | None], events: int, requests: int
    ) -> None:
        self.app = app
        self.scripts = scripts
        self.events = events
        self.requests = requests

    async def reached(self, serve: Serve) -> tuple[Served, RunStream, asyncio.Task[RunEvent]]:
        served = await serve(self.app, client={"max_connections": 2})
        for faults, match in self.scripts:
            served.emulator.script(*faults, match=match, times=None if match else 1)
        stream = served.app.runs.stream({}, on_question=forever)
        for _ in range(self.events):
            await anext(stream)
        reading = asyncio.create_task(anext(stream))
        await served.emulator.wait_for_requests(self.requests)
        await asyncio.sleep(0.01)
        assert not reading.done()
        return served, stream, reading


PHASES = {
    "opening": Phase(waits, ([Fault(delay=FOREVER)], None), events=0, requests=1),
    "reading": Phase(waits, events=1, requests=1),
    "waiting to attach again": Phase(
        waits,
        ([Fault(after_events=1, send=b"retry: 20000\n\n", drop="reset")], None),
        events=1,
        requests=1,
    ),
    "attaching again": Phase(
        waits, ([BREAK], None), ([Fault(delay=FOREVER)], STREAMS), events=1, requests=2
    ),
    "reading again": Phase(waits, ([BREAK], None), events=1, requests=2),
    "asking whether the run is over": Phase(
        waits,
        ([BREAK], None),
        ([NOTHING], STREAMS),
        ([Fault(delay=FOREVER)], RUN),
        events=1,
        requests=3,
    ),
    "fetching the tail": Phase(
        numbers,
        ([BREAK], None),
        ([NOTHING], STREAMS),
        ([Fault(delay=FOREVER)], EVENTS),
        events=1,
        requests=4,
    ),
    "looking into a hole": Phase(
        numbers,
        ([Fault(skip={3})], None),
        ([Fault(delay=FOREVER)], EVENTS),
        events=2,
        requests=2,
    ),
    "asking the handler": Phase(asks, events=1, requests=1),
    "asking whether a question is open": Phase(
        asks,
        ([BREAK], None),
        ([Fault(delay=FOREVER)], RUN),
        events=1,
        requests=3,
    ),
    "looking for a lost run": Phase(
        waits,
        ([Fault(drop="reset")], "POST /v1/runs"),
        ([Fault(delay=FOREVER)], "GET /v1/runs"),
        events=0,
        requests=2,
    ),
}


@pytest.fixture
def real_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    from dynamiq_async._http.retry import RetryPolicy

    monkeypatch.setattr(RetryPolicy, "lengthen", lambda _, seconds: seconds)


async def close(stream: RunStream, reading: asyncio.Task[RunEvent]) -> None:
    await asyncio.gather(stream.aclose(), stream.aclose())
    assert reading.done()
    with pytest.raises(errors.StreamClosedError):
        await reading


async def cancel(stream: RunStream, reading: asyncio.Task[RunEvent]) -> None:
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def run_out_of_time(stream: RunStream, reading: asyncio.Task[RunEvent]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await reading


@pytest.mark.usefixtures("real_pauses")
@pytest.mark.parametrize("leave", [close, cancel, run_out_of_time])
@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
async def test_leaving_leaves_nothing(
    serve: Serve, phase: Phase, leave: Callable[..., Awaitable[None]]
) -> None:
    if phase is PHASES["looking for a lost run"]:
        served = await serve(waits)
        for faults, match in phase.scripts:
            served.emulator.script(*faults, match=match)
        stream = served.app.runs.stream({}, dedupe=True)
        reading = asyncio.create_task(anext(stream))
        await served.emulator.wait_for_requests(2)
    else:
        served, stream, reading = await phase.reached(serve)
    requests = served.emulator.requests.total
    await leave(stream, reading)
    assert in_flight(served.app) == 0
    assert stream.sequence == (phase.events or None)
    assert stream.closed
    with pytest.raises(errors.StreamClosedError):
        await anext(stream)
    await stream.aclose()
    await served.emulator.wait_until(
        lambda: all(seen.finished for seen in served.emulator.requests)
    )
    assert served.emulator.requests.total == requests  # it does not attach again


@pytest.mark.usefixtures("real_pauses")
@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
async def test_closing_the_client_ends_its_streams(serve: Serve, phase: Phase) -> None:
    if phase.app is asks or phase is PHASES["looking for a lost run"]:
        pytest.skip("nothing of the client is waited for")
    served, stream, reading = await phase.reached(serve)
    if phase is PHASES["waiting to attach again"]:
        reading.cancel()
    await served.app.aclose()
    with pytest.raises((errors.DynamiqError, asyncio.CancelledError)):
        await reading
    assert in_flight(served.app) == 0
    assert stream.closed


async def test_a_plain_break_frees_the_connection(serve: Serve) -> None:
    served = await serve(waits)
    async for event in served.app.runs.stream({}):
        assert event.type == "run.started"
        break
    await served.emulator.wait_until(lambda: served.emulator.requests[0].disconnected)
    assert in_flight(served.app) == 0


async def test_a_stream_that_is_never_read_sends_nothing(serve: Serve) -> None:
    served = await serve(waits)
    served.app.runs.stream({})
    served.app.runs.follow("r")
    assert not served.emulator.requests


async def test_entering_opens_and_leaving_closes(serve: Serve) -> None:
    served = await serve(waits)
    async with served.app.runs.stream({}) as stream:
        assert len(served.emulator.requests) == 1
        assert stream.response is not None
        assert (stream.response.status, stream.sequence) == (200, None)
        assert stream.response.request_id == served.emulator.requests[0].request_id
        assert in_flight(served.app) == 1
    assert in_flight(served.app) == 0
    await served.emulator.wait_until(lambda: served.emulator.requests[0].disconnected)
    assert not served.emulator.runs[next(iter(served.emulator.runs))].terminal


async def test_closing_just_as_a_connection_was_made(serve: Serve) -> None:
    """Both happen in the same turn of the loop: the reader must not start to wait."""
    for turns in range(12):
        served = await serve(waits)
        served.emulator.script(BREAK)
        stream = served.app.runs.stream({})
        await anext(stream)
        reading = asyncio.create_task(anext(stream))
        while stream.reconnects == 0:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await stream.aclose()  # not in a task of its own, which would come a turn later
            with pytest.raises(errors.StreamClosedError):
                await reading


async def test_a_handler_may_close_its_stream(serve: Serve) -> None:
    served = await serve(asks)

    async def leaves(question: Question) -> str:
        await stream.aclose()
        return "too late"

    stream = served.app.runs.stream({}, on_question=leaves)
    with pytest.raises(errors.StreamClosedError):
        await stream.run()
    assert served.asked("/input") == []


async def test_a_slow_reader_is_no_idle_timeout(serve: Serve) -> None:
    served = await serve(numbers, client={"timeout": Timeout(idle=0.05)})
    got = []
    async for event in served.app.runs.stream({}):
        got.append(event)
        await asyncio.sleep(0.02)
    assert sequences(got) == truth(served.emulator)
    assert len(served.emulator.requests) == 1


async def test_heartbeats_are_life(serve: Serve) -> None:
    gated = Gated()
    client = {"timeout": Timeout(idle=0.1)}
    served = await serve(gated, client=client, heartbeat=0.02)
    stream = served.app.runs.stream({})
    for _ in range(2):
        await anext(stream)
    reading = asyncio.create_task(stream.run())
    await asyncio.sleep(0.25)
    gated.go.set()
    assert (await reading).status == "completed"
    assert stream.reconnects == 0


async def test_the_idle_limit_of_a_stream_fits_the_heartbeats(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "IDLE_SECONDS", 0.05)
    served = await serve(waits, heartbeat=None)
    stream = served.app.runs.stream({}, max_resumes=2)
    with pytest.raises(errors.StreamInterruptedError) as caught:
        await stream.run()
    assert isinstance(caught.value.__cause__, errors.IdleTimeoutError)
    unlimited = served.app.runs.stream({}, timeout=Timeout(idle=None, first_byte=None))
    await anext(unlimited)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(unlimited), 0.15)


async def test_two_tasks_may_not_read_one_stream(serve: Serve) -> None:
    served = await serve(waits)
    stream = served.app.runs.stream({})
    await anext(stream)
    reading = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    with pytest.raises(errors.StreamError, match="another task"):
        await anext(stream)
    await close(stream, reading)


# --- the position --------------------------------------------------------------------------------


async def test_the_position_is_that_of_the_last_event_handed_out(serve: Serve) -> None:
    served = await serve(numbers)
    run = await served.app.runs.create({"count": 20})
    stream = served.app.runs.follow(run.id)
    await stream.open()
    await served.emulator.wait_until(lambda: served.emulator.requests[-1].finished)
    position = stream.sequence
    assert position is None
    got = []
    async for event in stream:  # all of them are here after the first
        got.append(event.sequence)
        assert stream.sequence == event.sequence
        if event.sequence == 9:
            break
    rest = served.app.runs.follow(run.id, after_sequence=stream.sequence)
    got += sequences([event async for event in rest])
    assert got == truth(served.emulator)
    await stream.aclose()


async def test_the_position_of_batches_is_their_last_event(serve: Serve) -> None:
    served = await serve(numbers)
    run = await served.app.runs.create({"count": 20})
    stream = served.app.runs.follow(run.id)
    first = await anext(stream)
    got = [first.sequence]
    async for batch in stream.batches():
        got += sequences(batch)
        assert stream.sequence == batch[-1].sequence
    assert got == truth(served.emulator)


async def test_after_sequence_zero_is_left_out(serve: Serve) -> None:
    served = await serve(numbers)
    run = await served.app.runs.create({})
    for after in (None, 0):
        stream = served.app.runs.follow(run.id, after_sequence=after)
        assert stream.sequence is None
        assert sequences([event async for event in stream]) == truth(served.emulator)
        assert "after_sequence" not in served.emulator.requests[-1].query


READER = """
import asyncio, sys
from dynamiq_async import AsyncApp

async def main(url, run_id, position, count):
    async with AsyncApp(url, access_key="dynamiq_acc_emulator") as app:
        stream = app.runs.follow(run_id, after_sequence=int(position))
        async for event in stream:
            print(event.sequence)
            count -= 1
            if not count:
                break
        await stream.aclose()

asyncio.run(main(*sys.argv[1:4], int(sys.argv[4])))
"""


async def test_another_process_goes_on_where_this_one_stopped(serve: Serve) -> None:
    gated = Gated()
    served: Served = await serve(gated)
    stream = served.app.runs.stream({})
    got = [(await anext(stream)).sequence for _ in range(2)]
    await stream.aclose()
    gated.go.set()
    while got[-1] != 4:
        arguments = (served.emulator.url, stream.run_id or "", str(got[-1]), "1")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", READER, *arguments, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        got += map(int, out.split())
    assert got == truth(served.emulator) == [1, 2, 3, 4]
    assert served.posts == ["/v1/runs"]


# --- lists ---------------------------------------------------------------------------------------


@pytest.fixture
async def full(serve: Serve) -> Served:
    """An App with six runs."""
    served = await serve("echo")
    for _ in range(6):
        await served.app.runs.create({})
    served.emulator.reset()
    return served


async def fetched_ahead(full: Served) -> None:
    """Return when the second page was asked for, and has come if it comes at all."""
    await full.emulator.wait_for_requests(2)
    if full.emulator.requests[1].fault.delay == 0.0:
        await full.emulator.wait_until(lambda: full.emulator.requests[1].finished)
        for _ in range(20):
            await asyncio.sleep(0)


def pages_asked(emulator: Emulator) -> list[str]:
    return [seen.query["page"] for seen in emulator.requests]


async def test_a_page_is_fetched_ahead_only_if_asked(full: Served) -> None:
    for prefetch in (False, True):
        full.emulator.reset()
        found = 0
        async for _ in full.app.runs.list(page_size=2, prefetch=prefetch):
            found += 1
            expected = (found + 1) // 2 + (prefetch and found <= 4)
            await full.emulator.wait_for_requests(expected)
            await asyncio.sleep(0.005)  # in which more would come
            assert len(full.emulator.requests) == expected
        assert (found, pages_asked(full.emulator)) == (6, ["1", "2", "3"])


@pytest.mark.parametrize("fault", [Fault(delay=FOREVER), Fault(status=403), Fault()])
@pytest.mark.parametrize("way", ["break", "async with", "aclose", "aclose in a list"])
async def test_leaving_a_list_ends_the_fetch_ahead(full: Served, fault: Fault, way: str) -> None:
    full.emulator.script(Fault(), fault)
    pages = full.app.runs.list(page_size=2, prefetch=True)
    if way == "break":
        async for _ in pages:
            await fetched_ahead(full)
            break
    elif way == "async with":
        async with pages as runs:
            await anext(runs)
            await fetched_ahead(full)
        with pytest.raises(errors.StreamClosedError):
            await anext(runs)
    else:
        async with aiter(pages) as runs:
            await anext(runs)
            await fetched_ahead(full)
            for _ in range(2):
                await runs.aclose()
            assert in_flight(full.app) == 0
    for _ in range(5):
        await asyncio.sleep(0)
    assert in_flight(full.app) == 0


async def test_an_error_of_the_fetch_ahead_comes_in_its_place(full: Served) -> None:
    full.emulator.script(Fault(), Fault(status=403))
    runs = aiter(full.app.runs.list(page_size=2, prefetch=True))
    assert len([await anext(runs), await anext(runs)]) == 2
    with pytest.raises(errors.PermissionDeniedError):
        await anext(runs)


@pytest.mark.parametrize("prefetch", [False, True])
async def test_a_list_can_be_closed_while_another_task_reads_it(
    full: Served, prefetch: bool
) -> None:
    full.emulator.script(Fault(), Fault(delay=FOREVER))
    runs = aiter(full.app.runs.list(page_size=2, prefetch=prefetch))
    for _ in range(2):
        await anext(runs)
    reading = asyncio.create_task(anext(runs))
    await full.emulator.wait_for_requests(2)
    with pytest.raises(errors.StreamError, match="another task"):
        await anext(runs)
    await runs.aclose()
    with pytest.raises(errors.StreamClosedError):
        await reading


async def test_a_list_can_be_closed_just_as_a_page_came(full: Served) -> None:
    for turns in range(40):
        runs = aiter(full.app.runs.list(page_size=2))
        reading = asyncio.create_task(anext(runs))
        while not full.emulator.requests:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        if not reading.done():
            await runs.aclose()
            with pytest.raises(errors.StreamClosedError):
                await reading
        full.emulator.reset()
        await reading if not reading.done() else None


@pytest.mark.parametrize("prefetch", [False, True])
async def test_reading_a_list_can_be_cancelled(full: Served, prefetch: bool) -> None:
    full.emulator.script(Fault(), Fault(delay=FOREVER))
    runs = aiter(full.app.runs.list(page_size=2, prefetch=prefetch))
    for _ in range(2):
        await anext(runs)
    reading = asyncio.create_task(anext(runs))
    await full.emulator.wait_for_requests(2)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert in_flight(full.app) == 0
    assert (await anext(runs)).id  # a page that did not come is asked for again


async def test_what_moved_to_the_next_page_is_given_once(full: Served) -> None:
    found: list[str] = []
    newer = ""
    async for run in full.app.runs.list(page_size=4):
        if not found:
            newer = (await full.app.runs.create({})).id
        found.append(run.id)
    assert len(found) == len(set(found)) == 6
    assert newer not in found


async def test_a_list_read_to_its_end_has_nothing_to_close(full: Served) -> None:
    async with full.app.runs.list(page_size=4) as runs:
        assert len([run async for run in runs]) == 6
        with pytest.raises(StopAsyncIteration):
            await anext(runs)


async def ahead(kept: list[PageIterator[Run]]) -> None:
    """Leave a list in the middle of a fetch."""
    async with Emulator("echo") as emulator:
        app = AsyncApp(emulator.url, access_key=emulator.access_key)
        async with app:
            for _ in range(2):
                await app.runs.create({})
            emulator.script(Fault(), Fault(delay=FOREVER))
            kept.append(aiter(app.runs.list(page_size=1, prefetch=True)))
            await anext(kept[0])


async def test_a_list_may_outlive_its_loop() -> None:
    kept: list[PageIterator[Run]] = []
    await asyncio.to_thread(lambda: asyncio.run(ahead(kept)))
    kept.clear()
