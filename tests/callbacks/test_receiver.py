"""`CallbackReceiver` without any framework: handled once, acknowledged when it is done."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from dynamiq_async.callbacks import (
    CallbackReceiver,
    CallbackReply,
    CallbackResult,
    Claim,
    MemoryStore,
    SQLiteStore,
)
from dynamiq_async.callbacks import receiver as module
from dynamiq_async.callbacks.verifier import parse_result
from dynamiq_async.errors import InvalidArgumentError
from tests.support.callback_senders import TOKEN, callback
from tests.support.log_records import fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.usefixtures("quick_collections", "leaves_nothing")

HEAD = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}


class Handler:
    """Holds each call until `go` is set, then raises what `errors` say, one for each call."""

    def __init__(self, *errors: Exception | None, held: bool = False) -> None:
        self.results: list[CallbackResult] = []
        self.finished = 0
        self.errors = list(errors)
        self.go = asyncio.Event()
        if not held:
            self.go.set()

    async def __call__(self, result: CallbackResult) -> None:
        self.results.append(result)
        await self.go.wait()
        if self.errors and (error := self.errors.pop(0)):
            raise error
        self.finished += 1


def receiver(handler: Any, **options: Any) -> CallbackReceiver:
    return CallbackReceiver(tokens=TOKEN, on_result=handler, **options)


async def deliver(receiver: CallbackReceiver, id: str = "run-1", **fields: Any) -> CallbackReply:
    return await receiver.receive(HEAD, json.dumps(callback(id, **fields)).encode())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- one after another ----------------------------------------------------------------------------


async def test_a_result_is_handled_and_acknowledged() -> None:
    handler = Handler()
    reply = await deliver(receiver(handler), metadata={"order": 7})
    assert (reply.status, reply.body) == (200, b'{"status":"ok"}')
    (result,) = handler.results
    assert (result.id, result.output, result.metadata) == ("run-1", {"answer": 42}, {"order": 7})


async def test_a_repetition_is_acknowledged_and_not_handled() -> None:
    handler = Handler()
    taking = receiver(handler)
    assert [(await deliver(taking)).status for _ in range(3)] == [200, 200, 200]
    assert (await deliver(taking)).body == b'{"status":"duplicate"}'
    assert (await deliver(taking, "run-2")).body == b'{"status":"ok"}'
    assert [result.id for result in handler.results] == ["run-1", "run-2"]


async def test_a_failed_run_is_a_result_like_any_other() -> None:
    handler = Handler()
    body = {"id": "run-1", "status": "failed", "timestamp": "2026-05-04T03:02:01.000000001Z"}
    reply = await receiver(handler).receive(HEAD, json.dumps(body).encode())
    assert reply.status == 200
    assert (handler.results[0].status, handler.results[0].output) == ("failed", None)


async def test_a_plain_function_may_handle() -> None:
    results: list[CallbackResult] = []
    assert (await deliver(receiver(results.append))).status == 200
    assert len(results) == 1


async def test_when_the_handler_raises_it_can_be_delivered_again() -> None:
    handler = Handler(ValueError("no database"), None)
    taking = receiver(handler)
    with pytest.raises(ValueError, match="no database"):
        await deliver(taking)
    assert (await deliver(taking)).body == b'{"status":"ok"}'
    assert (await deliver(taking)).body == b'{"status":"duplicate"}'
    assert (len(handler.results), handler.finished) == (2, 1)


@pytest.mark.parametrize(
    ("headers", "body", "method", "status"),
    [
        (HEAD, b"{}", "GET", 405),
        ({}, b"{}", "POST", 401),
        (HEAD | {"content-type": "text/html"}, b"{}", "POST", 415),
        (HEAD, b"x" * 101, "POST", 413),
        (HEAD, b"{}", "POST", 400),
    ],
)
async def test_what_is_refused_is_not_handled(
    headers: Any, body: bytes, method: str, status: int
) -> None:
    handler = Handler()
    taking = receiver(handler, max_body_bytes=100)
    reply = await taking.receive(headers, body, method=method)
    assert reply.status == status
    assert handler.results == []


async def test_refusals_are_logged_for_who_looks_and_without_the_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "dynamiq_async")
    await receiver(Handler()).receive({"authorization": "Bearer guessed"}, b"{}")
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert "401" in record.getMessage()
    assert "guessed" not in record.getMessage()
    assert TOKEN not in record.getMessage()
    assert fields(record)["status"] == 401


# --- bodies in pieces -----------------------------------------------------------------------------


class Pieces:
    def __init__(self, *pieces: bytes) -> None:
        self.left = list(pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


class CopiedPieces(Pieces):
    """As a server hands them out: each in memory of its own."""

    async def __anext__(self) -> bytes:
        return bytes(bytearray(await super().__anext__()))


async def test_a_body_may_come_in_pieces() -> None:
    handler = Handler()
    body = json.dumps(callback()).encode()
    pieces = Pieces(*(body[n : n + 1] for n in range(len(body))), b"")
    assert (await receiver(handler).receive(HEAD, pieces)).status == 200
    assert handler.results[0].output == {"answer": 42}


async def test_a_body_is_read_no_further_than_its_limit() -> None:
    pieces = Pieces(*[b"x" * 10] * 100)
    reply = await receiver(Handler(), max_body_bytes=35).receive(HEAD, pieces)
    assert reply.status == 413
    assert len(pieces.left) == 96


async def test_a_body_in_tiny_pieces_takes_little_more_than_its_size() -> None:
    pieces = CopiedPieces(*[b"xy"] * 20_000)
    taking = receiver(Handler())
    tracemalloc.start()
    try:
        assert (await taking.receive(HEAD, pieces)).status == 400
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300_000


async def test_a_body_is_not_touched_when_its_head_is_refused() -> None:
    pieces = Pieces(b"x")
    assert (await receiver(Handler()).receive({}, pieces)).status == 401
    assert len(pieces.left) == 1


# --- at the same time -----------------------------------------------------------------------------


async def test_deliveries_at_the_same_time_are_handled_once() -> None:
    handler = Handler(held=True)
    taking = receiver(handler)
    deliveries = [asyncio.ensure_future(deliver(taking)) for _ in range(20)]
    await turns()
    assert not any(delivery.done() for delivery in deliveries)
    handler.go.set()
    replies = await asyncio.gather(*deliveries)
    assert [reply.status for reply in replies] == [200] * 20
    assert sorted(reply.body for reply in replies) == [b'{"status":"duplicate"}'] * 19 + [
        b'{"status":"ok"}'
    ]
    assert len(handler.results) == 1


async def test_other_ids_do_not_wait() -> None:
    handler = Handler(held=True)
    taking = receiver(handler)
    deliveries = [asyncio.ensure_future(deliver(taking, f"run-{n}")) for n in range(5)]
    await turns()
    assert len(handler.results) == 5
    handler.go.set()
    await asyncio.gather(*deliveries)


async def test_a_repetition_of_a_delivery_that_failed_gets_a_503() -> None:
    handler = Handler(ValueError("no database"), held=True)
    taking = receiver(handler)
    first, second = (asyncio.ensure_future(deliver(taking)) for _ in range(2))
    await turns()
    handler.go.set()
    with pytest.raises(ValueError, match="no database"):
        await first
    reply = await second
    assert reply.status == 503
    assert int(reply.headers["Retry-After"]) > 0
    assert b"database" not in reply.body
    assert (await deliver(taking)).status == 200
    assert handler.finished == 1


async def test_who_waited_for_one_that_was_cancelled_handles_it() -> None:
    handler = Handler(held=True)
    taking = receiver(handler)
    first, second, third = (asyncio.ensure_future(deliver(taking)) for _ in range(3))
    await turns()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await turns()
    assert len(handler.results) == 2
    handler.go.set()
    assert {(await second).status, (await third).status} == {200}
    assert (len(handler.results), handler.finished) == (2, 1)


async def test_cancelling_one_that_waits_harms_nobody() -> None:
    handler = Handler(held=True)
    taking = receiver(handler)
    first, second = (asyncio.ensure_future(deliver(taking)) for _ in range(2))
    await turns()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    handler.go.set()
    assert (await first).status == 200


async def test_nobody_waits_longer_than_max_wait() -> None:
    handler = Handler(held=True)
    taking = receiver(handler, max_wait=0.01)
    first = asyncio.ensure_future(deliver(taking))
    await turns()
    assert (await deliver(taking)).status == 503
    handler.go.set()
    assert (await first).status == 200


# --- stores ---------------------------------------------------------------------------------------


class SlowStore:
    """A store whose calls can be held: `claim`, `complete` or `release`."""

    def __init__(self, held: str = "", error: Exception | None = None) -> None:
        self.inner = MemoryStore()
        self.held = held
        self.error = error
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self.calls: list[str] = []

    async def _enter(self, call: str) -> None:
        self.calls.append(call)
        if call == self.held:
            self.entered.set()
            if self.error is not None:
                raise self.error
            await self.go.wait()

    async def claim(self, id: str, owner: str) -> Claim:
        claim = await self.inner.claim(id, owner)
        await self._enter("claim")
        return claim

    async def complete(self, id: str) -> None:
        await self._enter("complete")
        await self.inner.complete(id)

    async def release(self, id: str, owner: str) -> None:
        await self._enter("release")
        await self.inner.release(id, owner)


@pytest.mark.parametrize("held", ["claim", "complete"])
async def test_a_cancellation_anywhere_leaves_the_id_to_the_next(held: str) -> None:
    store, handler = SlowStore(held), Handler()
    taking = receiver(handler, store=store)
    first = asyncio.ensure_future(deliver(taking))
    await store.entered.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert store.calls[-1] == "release"
    store.held = ""
    assert (await deliver(taking)).body == b'{"status":"ok"}'


async def test_a_cancellation_within_the_handler_releases_the_id() -> None:
    handler, store = Handler(held=True), MemoryStore()
    first = asyncio.ensure_future(deliver(receiver(handler, store=store)))
    await turns()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(store) == 0


async def test_a_cancelled_scope_of_anyio_releases_the_id_in_a_file(tmp_path: Path) -> None:
    """Its cancellation comes again at each await, also at that of the release."""
    handler, store = Handler(held=True), SQLiteStore(tmp_path / "callbacks.db")
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(deliver, receiver(handler, store=store))
            while not handler.results:
                await asyncio.sleep(0.001)
            scope.cancel()
    assert await store.claim("run-1", "next") == "claimed"


@pytest.mark.parametrize("held", ["claim", "complete"])
async def test_an_error_of_the_store_is_no_acknowledgement(held: str) -> None:
    store, handler = SlowStore(held, OSError("disk full")), Handler()
    taking = receiver(handler, store=store)
    with pytest.raises(OSError, match="disk full"):
        await deliver(taking)
    store.held = ""
    assert (await deliver(taking)).body == b'{"status":"ok"}'


async def test_receivers_of_two_processes_handle_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stores on one file, each with a receiver of its own, know of each other by the file."""
    monkeypatch.setattr(module, "_POLL_SECONDS", (0.001, 0.002))
    handler = Handler(held=True)
    takings = [receiver(handler, store=SQLiteStore(tmp_path / "callbacks.db")) for _ in range(2)]
    deliveries = [asyncio.ensure_future(deliver(taking)) for taking in takings for _ in range(3)]
    while not handler.results:
        await asyncio.sleep(0.001)
    handler.go.set()
    replies = await asyncio.gather(*deliveries)
    assert [reply.status for reply in replies] == [200] * 6
    assert len(handler.results) == 1


async def test_what_another_process_could_not_handle_is_handled_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", (0.001, 0.002))
    handler = Handler()
    store, other = (SQLiteStore(tmp_path / "callbacks.db") for _ in range(2))
    assert await other.claim("run-1", "other") == "claimed"
    delivery = asyncio.ensure_future(deliver(receiver(handler, store=store)))
    await turns()
    await other.release("run-1", "other")
    assert (await delivery).body == b'{"status":"ok"}'
    assert len(handler.results) == 1


async def test_a_dead_process_blocks_an_id_no_longer_than_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", (0.001, 0.002))
    store = SQLiteStore(tmp_path / "callbacks.db", lease=0.05)
    await store.claim("run-1", "dead")
    assert (await deliver(receiver(Handler(), store=store))).body == b'{"status":"ok"}'


async def test_what_another_process_is_still_at_is_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", (0.001, 0.002))
    store, handler = MemoryStore(), Handler()
    await store.claim("run-1", "other")
    reply = await deliver(receiver(handler, store=store, max_wait=0.01))
    assert (reply.status, handler.results) == (503, [])
    assert "retry-after" in {name.lower() for name in reply.headers}
    assert await store.claim("run-1", "third") == "busy"


async def test_without_a_limit_it_waits_for_the_other_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", (0.001, 0.002))
    store = MemoryStore()
    await store.claim("run-1", "other")
    delivery = asyncio.ensure_future(deliver(receiver(Handler(), store=store, max_wait=None)))
    await asyncio.sleep(0.01)
    await store.complete("run-1")
    assert (await delivery).body == b'{"status":"duplicate"}'


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"tokens": []}, "tokens"),
        ({"on_result": None}, "on_result"),
        ({"max_wait": 0}, "max_wait"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(
    arguments: dict[str, Any], argument: str
) -> None:
    given: dict[str, Any] = {"tokens": TOKEN, "on_result": print} | arguments
    with pytest.raises(InvalidArgumentError) as caught:
        CallbackReceiver(**given)
    assert caught.value.argument == argument


async def test_a_large_body_is_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def noted(body: bytes) -> CallbackResult:
        threads.append(threading.get_ident())
        return parse_result(body)

    monkeypatch.setattr(module, "parse_result", noted)
    handler = Handler()
    large = {"numbers": [math.nan], "text": "x" * 100_000}  # as Python's json writes it
    taken = receiver(handler)
    assert (await deliver(taken, "run-1", output={})).status == 200
    assert (await deliver(taken, "run-2", output=large)).status == 200
    assert threads[0] == threading.get_ident() != threads[1]
    assert math.isnan(handler.results[1].output["numbers"][0])
    assert (await taken.receive(HEAD, b"{" * 100_000)).status == 400
