"""What cannot go well stops a batch, and what cannot connect waits."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp, AsyncFlowy, errors
from dynamiq_async._http import outage as outage_module
from dynamiq_async._http.outage import Outage
from dynamiq_async.emulator import Emulator, Fault
from dynamiq_async.transport import Request, Response
from tests.support.travel import travel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from .conftest import Serve

WITHOUT_CODE = Fault(status=403, body=b"<h1>no</h1>", headers={"Content-Type": "text/html"})
INPUTS = [{"n": n} for n in range(200)]


class Answer:
    """A response of a scripted transport."""

    framed = True

    def __init__(self, status: int = 200, after: str | None = None) -> None:
        self.status = status
        self.headers = {"content-type": "application/json"}
        if after is not None:
            self.headers["retry-after"] = after
        self._body = b"{}"

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        """Nothing is open."""


class Scripted:
    """A transport that answers each request as a function says, in a moment."""

    def __init__(self, answer: Callable[[int], Answer | Exception]) -> None:
        self.sent = 0
        self._answer = answer

    async def send(self, request: Request, *, connect_timeout: float | None) -> Response:
        self.sent += 1
        answer = self._answer(self.sent)
        await asyncio.sleep(0.01)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Nothing is open."""


def refused(cause: BaseException | None = None) -> errors.ConnectError:
    error = errors.ConnectError("cannot connect")
    error.__cause__ = cause or ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    return error


def batch(
    transport: Scripted, count: int, client: dict[str, Any] | None = None, **options: Any
) -> tuple[list[Any], errors.BatchStoppedError | None, float]:
    """The results of a batch, what stopped it, and how long it took on a clock that is moved."""

    async def work(clock: Callable[[], float]) -> Any:
        began = clock()
        options.setdefault("concurrency", 4)
        async with AsyncApp("http://127.0.0.1:9", access_key="k", transport=transport) as given:
            app = given if client is None else given.with_options(**client)
            try:
                found: Any = await app.batch([{"n": n} for n in range(count)], **options)
            except errors.BatchStoppedError as stopped:
                return stopped.results, stopped, clock() - began
        return found, None, clock() - began

    found: tuple[list[Any], errors.BatchStoppedError | None, float] = travel(work)
    return found


@pytest.mark.parametrize("mode", ["invoke", "run"])
@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refusal_that_holds_for_all_stops_the_batch(
    serve: Serve, mode: Any, status: int
) -> None:
    app, emulator = await serve()
    emulator.script(Fault(status=status), times=None)
    with pytest.raises(errors.BatchStoppedError, match="was stopped") as caught:
        await app.batch(INPUTS, concurrency=8, mode=mode)
    stopped = caught.value
    assert isinstance(stopped.cause, errors.APIStatusError)
    assert stopped.cause is stopped.__cause__
    assert stopped.cause.status == status
    assert len(emulator.requests) <= 8
    assert stopped.done == len(stopped.results) == len(emulator.requests)
    assert stopped.not_tried == 200 - stopped.done
    assert not any(result.ok for result in stopped.results)
    assert [result.index for result in stopped.results] == list(range(stopped.done))


async def test_a_wrong_key_stops_a_batch_of_one_too(serve: Serve) -> None:
    _, emulator = await serve()
    async with AsyncApp(emulator.url, access_key="wrong") as app:
        with pytest.raises(errors.BatchStoppedError) as caught:
            await app.batch([{}])
    assert isinstance(caught.value.cause, errors.AuthenticationError)
    assert (caught.value.done, caught.value.not_tried) == (1, 0)


async def test_map_hands_out_what_there_is_before_it_raises(serve: Serve) -> None:
    app, emulator = await serve()
    emulator.script(*[Fault()] * 20, Fault(status=402), match="POST /")

    async def endless() -> AsyncIterator[Any]:
        n = 0
        while True:
            yield {"n": n}
            n += 1

    seen = []
    with pytest.raises(errors.BatchStoppedError, match="the rest was not tried") as caught:
        async with app.map(endless(), concurrency=3, ordered=True) as results:
            async for result in results:
                seen.append(result)  # noqa: PERF401 - what came before the error
    assert sum(r.ok for r in seen) == len(emulator.executions) >= 20
    assert [r.index for r in seen] == list(range(len(seen)))
    assert caught.value.done == len(seen)
    assert caught.value.not_tried is None
    assert caught.value.results == []


async def test_streams_and_flowy_are_stopped_too(serve: Serve) -> None:
    app, emulator = await serve()
    emulator.script(Fault(status=401), times=None)
    with pytest.raises(errors.BatchStoppedError):
        async for _ in app.stream_many(INPUTS, concurrency=2):
            pass
    assert len(emulator.requests) <= 2
    async with AsyncFlowy(api_key="wrong", base_url=f"{emulator.url}/v1", allow_http=True) as flowy:
        with pytest.raises(errors.BatchStoppedError) as caught:
            await flowy.batch("haiku", [{}] * 50)
    assert len(caught.value.results) == caught.value.done < 50


async def test_a_403_without_a_code_is_its_inputs_failure(serve: Serve) -> None:
    app, emulator = await serve()
    emulator.script(Fault(), WITHOUT_CODE, match="POST /", times=20)
    results = await app.batch(INPUTS[:40], concurrency=1)
    assert sum(r.ok for r in results) == 20


async def test_five_of_them_stop_a_batch_in_which_no_call_succeeded(serve: Serve) -> None:
    app, emulator = await serve()
    emulator.script(WITHOUT_CODE, times=None)
    with pytest.raises(errors.BatchStoppedError, match="5 calls were refused"):
        await app.batch(INPUTS, concurrency=1)
    assert len(emulator.requests) == 5


@pytest.mark.parametrize("mode", ["invoke", "run"])
async def test_a_journal_goes_on_from_there(serve: Serve, tmp_path: Path, mode: Any) -> None:
    app, emulator = await serve()
    wrong = Fault(status=401)
    emulator.script(*[Fault()] * 5, wrong, match="POST /**", times=1)
    options: dict[str, Any] = {"journal": tmp_path / "job.db", "concurrency": 3, "mode": mode}
    with pytest.raises(errors.BatchStoppedError) as caught:
        await app.batch(INPUTS[:20], **options)
    before = sum(r.ok for r in caught.value.results)
    assert before < 20
    results = await app.batch(INPUTS[:20], **options)
    assert all(r.ok for r in results)
    assert sum(r.from_journal for r in results) == before
    assert len(emulator.executions) == 20


async def test_what_a_function_did_before_a_refusal_is_noted(app: AsyncApp, tmp_path: Path) -> None:
    async def call(_: AsyncApp, n: int) -> int:
        raise errors.AuthenticationError("no", status=401)

    for _ in range(2):
        with pytest.raises(errors.BatchStoppedError):
            await app.batch([1], call=call, journal=tmp_path / "job.db", retry_failed=True)
    [result] = await app.batch([1], call=call, journal=tmp_path / "job.db")
    assert result.from_journal
    assert isinstance(result.error, errors.AuthenticationError)


@pytest.mark.parametrize(
    ("most", "finished"), [(0, 1), (3, 4), (0.0, 100), (0.5, 100), (0.01, 100)]
)
async def test_max_failures(app: AsyncApp, most: float, finished: int) -> None:
    async def call(_: AsyncApp, n: int) -> int:
        raise ValueError(n)

    with pytest.raises(errors.BatchStoppedError, match="max_failures") as caught:
        await app.batch(range(500), call=call, concurrency=1, max_failures=most)
    assert caught.value.done == finished
    assert caught.value.not_tried == 500 - finished
    assert isinstance(caught.value.cause, ValueError)


@pytest.mark.parametrize("most", [50, 0.25])
async def test_as_many_as_max_failures_may_fail(app: AsyncApp, most: float, tmp_path: Path) -> None:
    async def call(_: AsyncApp, n: int) -> int:
        if n % 4 == 3:
            raise errors.RunFailedError("the workflow failed")
        return n

    options: dict[str, Any] = {"call": call, "max_failures": most, "journal": tmp_path / "job.db"}
    results = await app.batch(range(200), **options)
    assert sum(not r.ok for r in results) == 50
    again = await app.batch(range(200), **options | {"max_failures": 0})  # all from the journal
    assert sum(not r.ok for r in again) == 50


@pytest.mark.parametrize("most", [-1, 1.0, 1.5, -0.1, float("nan"), True, "3"])
async def test_what_max_failures_cannot_be(app: AsyncApp, most: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app.map([], max_failures=most)
    assert caught.value.argument == "max_failures"


@pytest.mark.parametrize("patience", [-1, None, "5", True])
async def test_what_connect_patience_cannot_be(app: AsyncApp, patience: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app.map([], connect_patience=patience)
    assert caught.value.argument == "connect_patience"


def test_three_long_waits_in_a_row_stop_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    transport = Scripted(lambda _: Answer(429, "86400"))
    results, stopped, seconds = batch(transport, 50, concurrency=1)
    assert stopped is not None
    assert "3 times in a row" in stopped.message
    assert transport.sent == len(results) == 3
    assert stopped.not_tried == 47
    assert 120 <= seconds < 600
    assert "86400 s" in caplog.text


def test_a_long_wait_is_its_inputs_error_and_the_others_go_on() -> None:
    def answer(n: int) -> Answer:
        return Answer(429, "1000000000") if n % 3 == 0 else Answer()

    transport = Scripted(answer)
    results, stopped, _ = batch(transport, 12, concurrency=1)
    assert stopped is None
    assert sum(isinstance(r.error, errors.RateLimitError) for r in results) == 4
    assert transport.sent == 12


@pytest.mark.parametrize("mode", ["invoke", "run"])
@pytest.mark.parametrize("asked", ["0", "0.0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_wait_of_nothing_is_no_hot_loop(mode: Any, asked: str) -> None:
    transport = Scripted(lambda n: Answer(429 if n % 2 else 503, asked))

    async def work(clock: Callable[[], float]) -> None:
        async with (
            AsyncApp("http://127.0.0.1:9", access_key="k", transport=transport) as app,
            app.map([{"n": n} for n in range(3)], mode=mode) as results,
        ):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(results), 60)

    travel(work)
    assert 3 * 3 <= transport.sent <= 3 * 20  # the backoff is a random one


def outage(first: int, last: int, cause: BaseException | None = None) -> Scripted:
    """A service that cannot be reached from one attempt to another."""
    return Scripted(lambda n: refused(cause) if first <= n < last else Answer())


@pytest.mark.parametrize("mode", ["invoke", "call", "stream"])
def test_an_outage_costs_no_input(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    transport = outage(6, 40)

    async def call(app: AsyncApp, given: Any) -> Any:
        return await app.invoke(given)

    options: dict[str, Any] = {"call": call} if mode == "call" else {}
    results, stopped, seconds = batch(transport, 30, **options)
    assert stopped is None
    assert all(r.ok for r in results)
    assert 20 < seconds < 600
    assert "waits up to 600 s for a connection" in caplog.text
    assert "can be reached again" in caplog.text
    assert max(r.attempts or 0 for r in results) > 3 or mode == "call"


def test_an_outage_is_probed_by_one_call_at_a_time() -> None:
    transport = outage(6, 10**6)
    results, stopped, seconds = batch(transport, 30, concurrency=20, connect_patience=100)
    assert stopped is not None
    assert isinstance(stopped.cause, errors.ConnectError)
    assert 100 <= seconds < 130
    assert transport.sent < 5 + 20 * 3 + 3 * 20
    assert sum(r.ok for r in results) == 5
    assert stopped.done + (stopped.not_tried or 0) == 30


def test_the_time_of_an_outage_is_not_the_calls() -> None:
    results, stopped, seconds = batch(outage(6, 40), 30, timeout=5)
    assert stopped is None
    assert all(r.ok for r in results)
    assert seconds > 5


@pytest.mark.parametrize(
    ("transport", "patience"),
    [
        (outage(1, 10**6), 600),  # there never was a connection
        (outage(6, 10**6), 0),
        (outage(6, 10**6, socket.gaierror(socket.EAI_NONAME, "no such name")), 600),
        (outage(6, 10**6, ssl.SSLError(1, "no shared cipher")), 600),
    ],
)
def test_what_does_not_come_back_is_not_waited_for(transport: Scripted, patience: float) -> None:
    _, stopped, seconds = batch(transport, 100, connect_patience=patience)
    assert stopped is not None
    assert isinstance(stopped.cause, errors.ConnectError)
    assert transport.sent <= 5 + 4 * 3
    assert seconds < 30


def test_retry_false_waits_for_no_connection() -> None:
    _, stopped, seconds = batch(outage(6, 10**6), 100, retry=False)
    assert stopped is not None
    assert seconds < 1


def test_a_journal_goes_on_after_an_outage(tmp_path: Path) -> None:
    from dynamiq_async.batch.journal import MemoryJournal

    journal = MemoryJournal()
    before, stopped, _ = batch(outage(6, 10**6), 30, connect_patience=10, journal=journal)
    assert stopped is not None
    transport = Scripted(lambda _: Answer())
    results, stopped, _ = batch(transport, 30, journal=journal)
    assert stopped is None
    assert all(r.ok for r in results)
    assert transport.sent == 30 - sum(r.ok for r in before)


def test_progress_tells_of_an_outage() -> None:
    transport = outage(6, 10**6)

    async def work(clock: Callable[[], float]) -> list[float]:
        async with (
            AsyncApp("http://127.0.0.1:9", access_key="k", transport=transport) as app,
            app.map([{"n": n} for n in range(30)], concurrency=2) as results,
        ):
            seen = [results.progress.offline]
            await asyncio.sleep(30)
            seen.append(results.progress.offline)
        return seen

    before, meanwhile = travel(work)
    assert before == 0
    assert 20 < meanwhile < 30


def test_too_many_open_files_are_waited_for_like_a_slot() -> None:
    """And no input fails, however long it takes, nor do the waits count as its retries."""
    transport = outage(1, 100, OSError(errno.EMFILE, "Too many open files"))
    results, stopped, _ = batch(transport, 30, {"max_retries": 0})
    assert stopped is None
    assert all(r.ok for r in results)


@pytest.mark.parametrize("cancel", [True, False])
def test_a_call_that_leaves_the_outage_leaves_the_others_waiting(cancel: bool) -> None:
    async def work(clock: Callable[[], float]) -> list[Any]:
        watch = Outage(60)
        watch.connected()
        waiting = [
            asyncio.create_task(watch.wait("POST /", refused() if n else None)) for n in (1, 0, 1)
        ]
        await asyncio.sleep(0.5)
        assert watch.down
        if cancel:
            waiting[2].cancel()
            await asyncio.sleep(3)
            watch.connected()
            await asyncio.wait(waiting)
            return [task.cancelled() for task in waiting]
        await asyncio.sleep(100)
        with pytest.raises(errors.ConnectError, match="no connection for 60 s"):
            await watch.wait("POST /", None)
        await asyncio.wait(waiting)
        return [task.exception() for task in waiting]

    assert travel(work) == ([False, False, True] if cancel else [None, None, None])


async def test_a_service_that_comes_back_at_its_address(
    no_backoff: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outage_module, "FIRST_PAUSE", 0.01)
    first = Emulator(access_key="k")
    async with first, AsyncApp(first.url, access_key="k") as app, asyncio.timeout(60):
        results = app.map(INPUTS[:9], concurrency=1)
        seen = [await anext(results)]
        port = int(first.url.rpartition(":")[2])
        await first.__aexit__(None, None, None)
        reading = asyncio.create_task(rest_of(results))
        while "waits up to" not in caplog.text:
            await asyncio.sleep(0.01)
        async with Emulator(access_key="k", port=port):
            seen += await reading
    assert len(seen) == 9
    # What was on its way over a connection that closed is of unknown outcome.
    assert all(r.ok or isinstance(r.error, errors.AmbiguousOutcomeError) for r in seen)
    assert sum(r.ok for r in seen) >= 7


async def rest_of(results: Any) -> list[Any]:
    return [result async for result in results]
