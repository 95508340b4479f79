"""The journal, with each store: nothing it was told is lost, and no key is begun twice."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings, strategies
from msgspec import structs

from dynamiq_async import errors
from dynamiq_async.batch.journal import Claim, Header, Journal, JournalStore, MemoryJournal, Record
from dynamiq_async.batch.journal.sqlite import _AT_ONCE
from tests.support.journals import KINDS, Checked, Held, Kept

URL = "https://my-app.example"
DIGEST = b"d" * 16


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    return Kept(request.param, tmp_path)


@pytest.fixture
async def journal(kept: Kept) -> AsyncIterator[Journal]:
    async with await opened(kept) as journal:
        yield journal


async def opened(kept: Kept, **options: Any) -> Journal:
    return await opened_by(Checked(kept.store()), **options)


async def opened_by(store: JournalStore, **options: Any) -> Journal:
    return await Journal.open(store, **{"mode": "invoke", "app_url": URL, **options})


async def work(journal: Journal, key: str, **end: Any) -> Claim:
    claim = await journal.begin(key, DIGEST)
    await journal.finish(key, claim.record.attempt, **end)
    return claim


def said(claim: Claim) -> tuple[str, int]:
    return claim.state, claim.record.attempt


# --- what it remembers ---------------------------------------------------------------------------


async def test_what_is_done_is_told_to_the_next_start(kept: Kept) -> None:
    async with await opened(kept) as journal:
        first = await journal.begin("a", DIGEST)
        assert said(first) == ("new", 1)
        await journal.finish("a", 1, output=b'{"x": 1}', attempts=2, seconds=0.5)
    async with await opened(kept, retry_failed=True) as journal:
        claim = await journal.begin("a", DIGEST)
    assert (*said(claim), claim.record.output) == ("done", 1, b'{"x": 1}')
    assert (claim.record.attempts, claim.record.seconds) == (2, 0.5)
    assert claim.record.started_at == first.record.started_at
    assert claim.error is None


async def test_what_failed_is_told_with_its_error_or_begun_again(kept: Kept) -> None:
    error = errors.RateLimitError("slow down", status=429, retry_after=2.5, request_id="r")
    async with await opened(kept) as journal:
        await work(journal, "a", error=error)
    async with await opened(kept) as journal:
        claim = await journal.begin("a", DIGEST)
        assert said(claim) == ("failed", 1)
        assert isinstance(claim.error, errors.RateLimitError)
        assert vars(claim.error) == vars(error)
    async with await opened(kept, retry_failed=True) as journal:
        claim = await journal.begin("a", DIGEST)
        assert (*said(claim), claim.error) == ("retry", 2, None)
        await journal.finish("a", 2, output=b"1")
    entry = kept.entries()["a"]
    assert (entry.state, entry.attempt, entry.error, bytes(entry.output)) == ("done", 2, None, b"1")


async def test_what_was_under_way_is_unknown_with_its_session_and_run(kept: Kept) -> None:
    async with await opened(kept, mode="run") as journal:
        begun = await journal.begin("a", DIGEST)
        journal.note_run("a", 1, "run-1")
        untold = await journal.begin("b", DIGEST)
    assert UUID(begun.session_id) != UUID(untold.session_id)
    async with await opened(kept, mode="run") as journal:
        claim = await journal.begin("a", DIGEST)
        assert (*said(claim), claim.record.run_id) == ("unknown", 1, "run-1")
        assert claim.session_id == begun.session_id
        await journal.finish("a", 1, output=b"{}", run_id=claim.record.run_id)
        assert (await journal.begin("b", DIGEST)).state == "unknown"
        again = await journal.again("b")
        assert (*said(again), again.record.run_id) == ("retry", 2, None)
        assert again.session_id != untold.session_id
        await journal.finish("b", 2, output=b"{}")
    assert [(key, e.state, e.run_id, e.attempt) for key, e in kept.entries().items()] == [
        ("a", "done", "run-1", 1),
        ("b", "done", None, 2),
    ]


async def test_an_unknown_outcome_that_is_skipped_stays_unknown(kept: Kept) -> None:
    async with await opened(kept) as journal:
        await journal.begin("a", DIGEST)
    for _ in range(2):
        async with await opened(kept) as journal:
            assert said(await journal.begin("a", DIGEST)) == ("unknown", 1)


@pytest.mark.parametrize("noted", [False, True])
async def test_withdrawing_the_attempt_after_an_unknown_one_goes_back_to_that(
    kept: Kept, noted: bool
) -> None:
    async with await opened(kept) as journal:
        await journal.begin("a", DIGEST)
        journal.note_run("a", 1, "run-1")
        if noted:
            lost = errors.AmbiguousOutcomeError("lost")
            await journal.finish("a", 1, error=lost, run_id="run-1")
    before = kept.entries()
    async with await opened(kept) as journal:
        assert (await journal.begin("a", DIGEST)).state == "unknown"
        assert (await journal.again("a")).record.attempt == 2
        during = kept.entries()["a"]
        assert (during.state, during.run_id, during.error) == ("running", None, None)
        journal.withdraw("a")
    assert kept.entries() == before


@pytest.mark.parametrize("state", ["new", "retry"])
async def test_a_key_that_is_withdrawn_and_begun_at_once_is_under_way(
    kept: Kept, state: str
) -> None:
    async with await opened(kept) as journal:
        await work(journal, "other", output=b"1")
        if state == "retry":
            await work(journal, "a", error=ValueError("no"))
    async with await opened(kept, retry_failed=True) as journal:
        claim = await journal.begin("a", DIGEST)
        journal.withdraw("a")
        begun = await asyncio.gather(journal.begin("a", DIGEST), journal.begin("b", DIGEST))
        again = begun[0]
        assert said(again) == said(claim)
        entry = kept.entries()["a"]
        assert (entry.state, entry.attempt, entry.error) == ("running", claim.record.attempt, None)


async def test_what_is_withdrawn_is_gone_with_the_run_that_was_noted(kept: Kept) -> None:
    async with await opened(kept) as journal:
        await journal.begin("a", DIGEST)
        journal.note_run("a", 1, "run-1")
        journal.withdraw("a")
        await work(journal, "b", output=b"1")
        assert kept.states() == {"b": "done"}


async def test_the_run_of_an_unknown_attempt_can_be_noted_late(kept: Kept) -> None:
    lost = errors.AmbiguousOutcomeError("lost")
    async with await opened(kept) as journal:
        await work(journal, "a", error=lost, run_id="run-1")
    async with await opened(kept) as journal:
        await journal.begin("a", DIGEST)
        journal.note_run("a", 1, "run-2")
    assert kept.entries()["a"].run_id == "run-2"


async def test_an_ambiguous_error_leaves_the_outcome_unknown(kept: Kept) -> None:
    async with await opened(kept) as journal:
        await work(journal, "a", error=errors.AmbiguousTimeoutError("late", limit="total"))
    assert kept.states() == {"a": "unknown"}
    async with await opened(kept, retry_failed=True) as journal:
        claim = await journal.begin("a", DIGEST)
    assert claim.state == "unknown"
    assert isinstance(claim.error, errors.AmbiguousTimeoutError)
    assert claim.error.limit == "total"


@pytest.mark.parametrize("kind", KINDS)
async def test_two_journals_have_different_sessions_for_one_key(kind: str, tmp_path: Path) -> None:
    sessions = set()
    for name in ("a", "b"):
        async with await opened(Kept(kind, tmp_path, name)) as journal:
            sessions.add((await journal.begin("a", DIGEST)).session_id)
    assert len(sessions) == 2


async def test_a_late_note_about_a_run_changes_nothing(journal: Journal, kept: Kept) -> None:
    await work(journal, "a", output=b"1")
    journal.note_run("a", 1, "run-1")
    await journal.begin("b", DIGEST)
    journal.note_run("b", 7, "run-2")
    await journal.begin("c", DIGEST)
    assert {entry.run_id for entry in kept.entries().values()} == {None}


@pytest.mark.parametrize("count", [1, _AT_ONCE, 3 * _AT_ONCE + 7])
async def test_groups_of_any_size_are_whole(kept: Kept, count: int) -> None:
    keys = [f"key {n} 'ü\0" for n in range(count)]
    for state in ("new", "done"):
        async with await opened(kept) as journal:
            claims = await asyncio.gather(*(journal.begin(key, DIGEST) for key in keys))
            assert [(c.record.key, c.state) for c in claims] == [(key, state) for key in keys]
            if state == "new":
                ends = (journal.finish(key, 1, output=key[4:7].encode()) for key in keys)
                await asyncio.gather(*ends)
    assert list(kept.entries()) == keys


async def test_one_group_may_hold_every_kind_of_key(kept: Kept) -> None:
    async with await opened(kept) as journal:
        for key in ("done", "failed", "withdrawn"):
            await journal.begin(key, DIGEST)
        await journal.finish("done", 1, output=b"1")
        await journal.finish("failed", 1, error=ValueError("no"))
        await journal.begin("running", DIGEST)
        journal.withdraw("withdrawn")
    keys = ("done", "failed", "withdrawn", "running", "other")
    for _ in range(2):
        async with await opened(kept, retry_failed=True) as journal:
            claims = await asyncio.gather(*(journal.begin(key, DIGEST) for key in keys))
            assert {c.record.key: said(c) for c in claims} == {
                "done": ("done", 1),
                "failed": ("retry", 2),
                "withdrawn": ("new", 1),
                "running": ("unknown", 1),
                "other": ("new", 1),
            }
            for key in ("failed", "withdrawn", "other"):
                journal.withdraw(key)
    assert kept.states() == {"done": "done", "failed": "failed", "running": "running"}


# --- misuse --------------------------------------------------------------------------------------


async def test_another_input_under_a_key_is_noticed_and_harms_no_other(kept: Kept) -> None:
    async with await opened(kept) as journal:
        await work(journal, "a", output=b"1")
    async with await opened(kept) as journal:
        begun = await asyncio.gather(
            journal.begin("a", b"e" * 16), journal.begin("b", DIGEST), return_exceptions=True
        )
        changed, other = begun
        assert isinstance(changed, errors.JournalError)
        assert changed.key == "a"
        assert "key 'a' with another input" in changed.message
        assert "use a new one for those that were changed" in changed.message
        assert "key=" in changed.message
        assert isinstance(other, Claim)
        assert other.state == "new"
        assert (await journal.begin("a", DIGEST)).state == "done"


async def test_one_key_for_two_inputs_of_a_batch_is_an_error(journal: Journal) -> None:
    results = await asyncio.gather(
        journal.begin("a", DIGEST), journal.begin("a", DIGEST), return_exceptions=True
    )
    assert isinstance(results[0], Claim)
    assert isinstance(results[1], errors.JournalError)
    await journal.finish("a", 1, output=b"1")
    with pytest.raises(errors.JournalError, match="given to two inputs") as caught:
        await journal.begin("a", DIGEST)
    assert caught.value.key == "a"


async def test_a_key_given_twice_harms_nothing_else_of_its_group(
    journal: Journal, kept: Kept
) -> None:
    await work(journal, "a", output=b"1")
    await journal.begin("b", DIGEST)
    for kind in (Claim, errors.JournalError):  # also when it is known that keys are given twice
        *_, again, other = await asyncio.gather(
            journal.finish("b", 1, output=b"2"),
            journal.begin("b", DIGEST),
            journal.begin("a", DIGEST),
            journal.begin("c", DIGEST),
            return_exceptions=True,
        )
        assert isinstance(again, errors.JournalError)
        assert "given to two inputs" in again.message
        assert isinstance(other, kind)
        assert kept.states() == {"a": "done", "b": "done", "c": "running"}
    assert (await journal.begin("d", DIGEST)).state == "new"


async def test_a_key_whose_unknown_outcome_was_noted_is_not_for_another_input(kept: Kept) -> None:
    async with await opened(kept) as journal:
        await journal.begin("a", DIGEST)
    async with await opened(kept) as journal:
        assert (await work(journal, "a", output=b"1")).state == "unknown"
        with pytest.raises(errors.JournalError, match="given to two inputs"):
            await journal.begin("a", DIGEST)
    assert kept.states() == {"a": "done"}


async def test_an_end_without_a_beginning_is_an_error(journal: Journal) -> None:
    with pytest.raises(errors.JournalError, match="is not under way"):
        await journal.finish("a", 1, output=b"1")
    with pytest.raises(errors.JournalError, match="is not under way"):
        await journal.again("a")


async def test_a_key_that_is_no_text_is_refused(journal: Journal) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await journal.begin("\ud83d", DIGEST)
    assert caught.value.argument == "key"


async def test_a_closed_journal_says_so(kept: Kept) -> None:
    store = Checked(kept.store())
    journal = await opened_by(store)
    await asyncio.gather(journal.aclose(), journal.aclose())
    await journal.aclose()
    assert store.closed == 1
    with pytest.raises(errors.JournalError) as caught:
        await journal.begin("a", DIGEST)
    assert caught.value.message == f"the journal {store} is closed"
    with pytest.raises(errors.JournalError, match="is closed"):
        journal.withdraw("a")


async def test_a_journal_is_for_one_mode_and_one_app(kept: Kept) -> None:
    await (await opened(kept)).aclose()
    for other in ({"mode": "run"}, {"app_url": "https://other.example"}):
        store = Checked(kept.store())
        with pytest.raises(errors.JournalError) as caught:
            await opened_by(store, **other)
        assert f"is for mode 'invoke' at {URL}" in caught.value.message
        assert store.closed == 1
    await (await opened(kept)).aclose()


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_a_second_batch_is_refused_and_the_first_goes_on(kind: str, tmp_path: Path) -> None:
    kept = Kept(kind, tmp_path)
    store = kept.store()
    async with await opened_by(store) as journal:
        for another in (kept.store(), store):
            with pytest.raises(errors.JournalError, match="being written by another") as caught:
                await opened_by(another)
            assert caught.value.key is None
        await work(journal, "a", output=b"1")
    assert kept.states() == {"a": "done"}


# --- cancellation and ends -----------------------------------------------------------------------


async def test_a_cancelled_beginning_was_none_at_any_moment(kept: Kept) -> None:
    async with await opened(kept) as journal:
        await work(journal, "failed", error=ValueError("no"))
    async with await opened(kept, retry_failed=True) as journal:
        for turns in range(12):
            key = f"key {turns}"
            begun = asyncio.create_task(journal.begin(key, DIGEST))
            for _ in range(turns):
                await asyncio.sleep(0.0005 * (turns > 4))
            begun.cancel()
            await asyncio.wait([begun])
            if not begun.cancelled():
                await journal.finish(key, 1, output=b"1")
        for turns in range(12):
            again = asyncio.create_task(journal.begin("failed", DIGEST))
            for _ in range(turns):
                await asyncio.sleep(0)
            again.cancel()
            await asyncio.wait([again])
            if not (again.cancelled() or again.exception()):
                journal.withdraw("failed")
    left = kept.states()
    assert left.pop("failed") == "failed"
    assert set(left.values()) <= {"done"}


async def test_a_beginning_cancelled_in_the_turn_it_succeeds_is_taken_back(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await opened(kept) as journal:
        begun: list[asyncio.Task[Claim]] = []
        settle = Journal._settle

        def settle_and_cancel(self: Journal, *arguments: Any) -> None:
            settle(self, *arguments)
            for task in begun:
                task.cancel()

        monkeypatch.setattr(Journal, "_settle", settle_and_cancel)
        begun.append(asyncio.create_task(journal.begin("a", DIGEST)))
        await asyncio.wait(begun)
        assert begun[0].cancelled()
        begun.clear()
        assert (await journal.begin("a", DIGEST)).state == "new"
        await journal.finish("a", 1, output=b"1")
        begun.append(asyncio.create_task(journal.begin("b", DIGEST)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(journal.aclose())
        await asyncio.sleep(0)  # what cannot be taken back any more counts as begun, to be safe
        await asyncio.wait([*begun, closing])
    assert kept.states() == {"a": "done", "b": "running"}
    async with await opened(kept) as journal:
        begun[:] = [asyncio.create_task(journal.begin("a", DIGEST))]
        await asyncio.wait(begun)
    assert kept.states()["a"] == "done"  # an earlier outcome is not taken back


async def test_a_beginning_cancelled_while_it_is_written_is_taken_back(kept: Kept) -> None:
    async with await opened(kept) as journal:
        await work(journal, "failed", error=ValueError("no"))
    store = Held(kept.store())
    async with await opened_by(store, retry_failed=True) as journal:
        begun = [asyncio.create_task(journal.begin(key, DIGEST)) for key in ("new", "failed")]
        await store.reached.wait()
        for task in begun:
            task.cancel()
        await asyncio.wait(begun)
        store.open.set()
    assert kept.states() == {"failed": "failed"}
    async with await opened(kept, retry_failed=True) as journal:
        assert (await journal.begin("failed", DIGEST)).record.attempt == 2


async def test_a_changed_input_that_nobody_waits_for_is_told_to_nobody(kept: Kept) -> None:
    async with await opened(kept) as journal:
        await work(journal, "a", output=b"1")
    store = Held(kept.store())
    async with await opened_by(store) as journal:
        begun = asyncio.create_task(journal.begin("a", b"e" * 16))
        await store.reached.wait()
        begun.cancel()
        await asyncio.wait([begun])
        store.open.set()
    assert kept.states() == {"a": "done"}


async def test_a_cancelled_end_is_written_all_the_same(kept: Kept) -> None:
    async with await opened(kept) as journal:
        await journal.begin("a", DIGEST)
        ending = journal.finish("a", 1, output=b"1")
        await asyncio.sleep(0)
        ending.cancel()
    assert kept.states() == {"a": "done"}


async def test_nothing_is_told_before_the_store_has_it(kept: Kept) -> None:
    store = Held(kept.store())
    async with await opened_by(store) as journal:
        begun = asyncio.create_task(journal.begin("a", DIGEST))
        await store.reached.wait()
        assert not begun.done()
        store.open.set()
        await begun
        assert kept.states() == {"a": "running"}
        store.reached.clear()
        store.open.clear()
        ended = journal.finish("a", 1, output=b"1")
        await store.reached.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not ended.done()
        store.open.set()
        await ended
        assert kept.states() == {"a": "done"}


async def test_what_is_asked_for_meanwhile_is_one_group(kept: Kept) -> None:
    groups = []

    class Counting(Held):
        async def begin(self, records: Any) -> Any:
            groups.append([record.key for record in records])
            return await super().begin(records)

    store = Counting(kept.store())
    async with await opened_by(store) as journal:
        first = asyncio.create_task(journal.begin("a", DIGEST))
        await store.reached.wait()
        others = [asyncio.create_task(journal.begin(key, DIGEST)) for key in "bcd"]
        await asyncio.sleep(0)
        store.open.set()
        await asyncio.gather(first, *others)
    assert groups == [["a"], ["b", "c", "d"]]


async def test_a_group_does_not_gather_for_ever(kept: Kept) -> None:
    async with await opened(kept) as journal:
        begun = [asyncio.ensure_future(journal.begin("0", DIGEST))]
        async with asyncio.timeout(10):
            while not begun[0].done():
                begun.append(asyncio.ensure_future(journal.begin(str(len(begun)), DIGEST)))
                await asyncio.sleep(0)
        await asyncio.gather(*begun)


async def test_cancelling_the_closing_closes_all_the_same(kept: Kept) -> None:
    store = Held(kept.store())
    journal = await opened_by(store)
    first = asyncio.create_task(journal.begin("a", DIGEST))
    await store.reached.wait()
    second = asyncio.create_task(journal.begin("b", DIGEST))
    await asyncio.sleep(0)
    closing = asyncio.create_task(journal.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    store.open.set()
    assert (await first).state == "new"
    with pytest.raises(errors.JournalError, match="is closed"):
        await second
    await journal.aclose()
    assert store.closed == 1
    assert kept.states() == {"a": "running"}


async def test_cancelling_all_tasks_at_the_end_of_the_loop_closes_the_store(kept: Kept) -> None:
    store = Held(kept.store())
    journal = await opened_by(store)
    tasks = asyncio.all_tasks()
    begun = asyncio.create_task(journal.begin("a", DIGEST))
    await store.reached.wait()
    closing = asyncio.create_task(journal.aclose())
    for _ in range(2):
        await asyncio.sleep(0)
    others = asyncio.all_tasks() - tasks
    for task in others:
        task.cancel()
    await asyncio.wait(others)
    assert begun.cancelled()
    assert closing.cancelled()
    assert store.closed == 1


# --- stores that fail ----------------------------------------------------------------------------


class Failing(Checked):
    """Raises from the methods that `broken` names."""

    def __init__(self, *broken: str, error: BaseException | None = None) -> None:
        super().__init__(MemoryJournal())
        self.broken = set(broken)
        self.error = ConnectionResetError("gone") if error is None else error

    def __str__(self) -> str:
        return "in the cloud"

    async def load(self, header: Header) -> Header:
        self._fail("load")
        return await super().load(header)

    async def begin(self, records: Any) -> Any:
        with self._call("begin", [record.key for record in records]):
            self._fail("begin")
        return await super().begin(records)

    async def end(self, records: Any) -> None:
        with self._call("end", [record.key for record in records]):
            await asyncio.sleep(0.001)
            self._fail("end")
        await super().end(records)

    async def close(self) -> None:
        await super().close()
        self._fail("close")

    def _fail(self, method: str) -> None:
        if method in self.broken:
            raise self.error


GONE = "the journal in the cloud cannot be used (ConnectionResetError('gone'))"


async def test_what_a_store_raises_is_told_as_a_journals_error() -> None:
    store = Failing("load")
    with pytest.raises(errors.JournalError) as caught:
        await opened_by(store)
    assert (caught.value.message, caught.value.__cause__) == (GONE, store.error)
    own = errors.JournalError("there is no such table")
    with pytest.raises(errors.JournalError) as caught:
        await opened_by(Failing("load", error=own))
    assert caught.value is own
    store = Failing("close")
    await store.load(Header(job="j", mode="run", app_url=URL, created_at=0.0))
    store._loaded = False
    store._store._in_use = False  # type: ignore[attr-defined] # what became of another batch
    with pytest.raises(errors.JournalError) as caught:
        await opened_by(store)
    assert caught.value.__cause__ is store.error


@pytest.mark.parametrize("method", ["begin", "end"])
@pytest.mark.parametrize("error", [None, asyncio.CancelledError()], ids=["error", "cancelled"])
async def test_a_store_that_fails_is_told_to_everybody_and_not_used_again(
    method: str, error: BaseException | None
) -> None:
    store = Failing(error=error)
    async with await opened_by(store) as journal:
        await journal.begin("a", DIGEST)
        store.broken.add(method)
        results = await asyncio.gather(
            journal.finish("a", 1, output=b"1"), journal.begin("b", DIGEST), return_exceptions=True
        )
        for result in results:
            assert isinstance(result, errors.JournalError)
            assert "the journal in the cloud cannot be used" in result.message
            assert type(result.__cause__) is type(store.error)
            assert result.key is None
        assert results[0] is not results[1]
        with pytest.raises(errors.JournalError, match="cannot be used"):
            await journal.begin("c", DIGEST)
        journal.note_run("a", 1, "run-1")  # of no use any more, and no error
        journal.withdraw("a")
    assert store.closed == 1


async def test_closing_tells_what_nobody_was_told() -> None:
    store = Failing("end")
    journal = await opened_by(store)
    await journal.begin("a", DIGEST)
    ending = journal.finish("a", 1, output=b"1")
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(errors.JournalError) as caught:
        await journal.aclose()
    assert caught.value.message == GONE
    await journal.aclose()
    journal = await opened_by(Failing("close"))
    with pytest.raises(errors.JournalError) as caught:
        await journal.aclose()
    assert caught.value.message == GONE


async def test_a_store_may_find_what_it_sent_twice() -> None:
    class SentTwice(MemoryJournal):
        async def begin(self, records: Any) -> Any:
            await super().begin(records)
            return [Record(**vars_of(record)) for record in await super().begin(records)]

    async with await opened_by(Checked(SentTwice())) as journal:
        assert said(await work(journal, "a", output=b"1")) == ("new", 1)
        with pytest.raises(errors.JournalError, match="given to two inputs"):
            await journal.begin("a", DIGEST)


def vars_of(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


# --- the stores themselves -----------------------------------------------------------------------

ACTS = strategies.tuples(
    strategies.sampled_from(["begin", "end", "note", "withdraw", "load"]),
    strategies.sets(strategies.sampled_from("abcd"), min_size=1),
    strategies.integers(1, 3),
    strategies.booleans(),
)


@settings(max_examples=60)
@given(strategies.lists(ACTS, max_size=12))
@example([("begin", {"a"}, 1, True), ("end", {"a"}, 1, True), ("begin", {"a", "b"}, 2, True)])
@example([("begin", {"a"}, 1, True), ("load", {"a"}, 1, True), ("end", {"a"}, 1, True)])
@example([("begin", {"a"}, 2, True), ("end", {"a"}, 1, False), ("begin", {"a"}, 2, True)])
@example([("begin", {"a"}, 2, True), ("withdraw", {"a"}, 1, True), ("begin", {"a"}, 1, True)])
async def test_every_store_keeps_the_same(acts: list[tuple[str, set[str], int, bool]]) -> None:
    """Whatever is begun, ended and withdrawn, in any order that a batch may come to."""
    with tempfile.TemporaryDirectory() as folder:
        journals = [Kept(kind, Path(folder)) for kind in KINDS]
        stores = [journal.store() for journal in journals]
        for store in stores:
            await store.load(HEADER)
        model = Model()
        for act, keys, attempt, flag in acts:
            change, held = model.change(act, sorted(keys), attempt, flag)
            for place, store in enumerate(stores):
                if act == "load":
                    await store.close()
                    stores[place] = journals[place].store()
                    other = structs.replace(HEADER, job="other")
                    assert await stores[place].load(other) == HEADER
                elif act == "begin":
                    returned = await store.begin(change)
                    assert sorted(returned, key=lambda record: record.key) == held
                elif change:
                    await getattr(store, "end" if act == "note" else act)(change)
            for journal in journals:
                assert shown(journal.entries()) == shown(model.records)
        for store in stores:
            await store.close()


HEADER = Header(job="j", mode="invoke", app_url=URL, created_at=1.5)


class Model:
    """What a store should hold, and what a batch may ask of it next."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self._opening = 0
        self._time = 0.5

    def change(
        self, act: str, keys: list[str], attempt: int, flag: bool
    ) -> tuple[Any, list[Record]]:
        """The argument for a store, and what it should return."""
        self._time += 1
        if act == "load":
            self._opening += 1
            return None, []
        if act == "begin":
            return self._begin(keys, attempt)
        known = [self.records[key] for key in keys if key in self.records]
        if act == "withdraw":
            before = {record.key: self._failed(record) if flag else None for record in known}
            self.records = {k: r for k, r in (self.records | before).items() if r is not None}
            return before, []
        known = [record for record in known if record.state in ("running", "unknown")]
        changed: dict[str, Any] = {"opening": self._opening}
        if act == "note":
            changed["run_id"] = f"run {self._time}"
        elif flag:
            changed |= {"state": "done", "output": b'"x"', "attempts": 2, "error": None}
        else:
            changed |= {"state": "unknown", "error": b"{}", "finished_at": self._time}
        ended = [structs.replace(record, **changed) for record in known]
        self.records.update((record.key, record) for record in ended)
        return ended, []

    def _begin(self, keys: list[str], attempt: int) -> tuple[list[Record], list[Record]]:
        begun, held = [], []
        for key in keys:
            record = Record(key, DIGEST, attempt, self._opening, "running", self._time)
            begun.append(record)
            if key in self.records and self.records[key].attempt >= attempt:
                held.append(self.records[key])
            else:
                self.records[key] = record
        return begun, held

    def _failed(self, record: Record) -> Record:
        return Record(record.key, DIGEST, 1, 0, "failed", 0.5, "r", 1, 0.5, 2.5, None, b"{}")


def shown(records: dict[str, Any]) -> dict[str, list[Any]]:
    names = ("state", "attempt", "started_at", "run_id", "attempts", "seconds", "finished_at")
    return {
        key: [getattr(record, name) for name in names]
        + [bytes(json or b"") for json in (record.output, record.error)]
        for key, record in records.items()
    }


async def test_an_output_comes_back_as_the_bytes_that_it_was(kept: Kept) -> None:
    output = b'{"broken": "\\ud83d \xff", "null": "\\u0000"}\r\n'
    async with await opened(kept) as journal:
        await work(journal, "a", output=output)
    async with await opened(kept) as journal:
        assert (await journal.begin("a", DIGEST)).record.output == output


async def test_a_journal_in_memory_can_be_looked_at() -> None:
    store = MemoryJournal()
    assert (store.header, store.records) == (None, {})
    async with await opened_by(store) as journal:
        await work(journal, "a", output=b"1")
    assert store.header is not None
    assert store.header.app_url == URL
    assert store.records["a"].output == b"1"
