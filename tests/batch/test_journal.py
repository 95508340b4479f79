"""The journal: nothing it was told is lost, nothing that is not a journal is touched."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dynamiq_async import errors
from dynamiq_async.batch.journal import (
    Claim,
    Journal,
    JournalReader,
    _database,
    _failures,
    _store,
    _writer,
)
from dynamiq_async.runs.models import Run

URL = "https://my-app.example"
DIGEST = b"d" * 16
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("leaves_nothing", "no_thread_is_left")


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if isinstance(thread, _writer._Thread):
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    async with await opened(path) as journal:
        yield journal


async def opened(path: Path, **options: Any) -> Journal:
    return await Journal.open(path, **{"mode": "invoke", "app_url": URL, **options})


async def work(journal: Journal, key: str, **end: Any) -> Claim:
    claim = await journal.begin(key, DIGEST)
    await journal.finish(key, claim.attempt, **end)
    return claim


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(path: Path) -> bytes | None:
    return None if path.is_dir() else path.read_bytes()


def states(path: Path) -> dict[str, str]:
    with Journal.read(path) as reader:
        return {entry.key: entry.state for entry in reader}


def entry_of(path: Path, key: str) -> Any:
    with Journal.read(path) as reader:
        (entry,) = (entry for entry in reader if entry.key == key)
    return entry


class Limiter:
    """Holds the journal's thread back before each group, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        apply = _store.Store.apply

        def held_back(store: _store.Store, group: Any) -> list[Any]:
            self.reached.set()
            self.open.wait()
            return apply(store, group)

        monkeypatch.setattr(_store.Store, "apply", held_back)


# --- what it remembers ---------------------------------------------------------------------------


async def test_what_is_done_is_told_to_the_next_start(path: Path) -> None:
    async with await opened(path) as journal:
        first = await journal.begin("a", DIGEST)
        assert (first.state, first.attempt) == ("new", 1)
        await journal.finish("a", 1, output=b'{"x": 1}', attempts=2, seconds=0.5)
    async with await opened(path, retry_failed=True) as journal:
        claim = await journal.begin("a", DIGEST)
    assert (claim.state, claim.attempt, claim.output) == ("done", 1, b'{"x": 1}')
    assert (claim.attempts, claim.seconds) == (2, 0.5)
    assert claim.started_at == first.started_at
    assert claim.error is None


async def test_what_failed_is_told_with_its_error_or_begun_again(path: Path) -> None:
    error = errors.RateLimitError("slow down", status=429, retry_after=2.5, request_id="r")
    async with await opened(path) as journal:
        await work(journal, "a", error=error)
    async with await opened(path) as journal:
        claim = await journal.begin("a", DIGEST)
        assert (claim.state, claim.attempt) == ("failed", 1)
        assert isinstance(claim.error, errors.RateLimitError)
        assert vars(claim.error) == vars(error)
    async with await opened(path, retry_failed=True) as journal:
        claim = await journal.begin("a", DIGEST)
        assert (claim.state, claim.attempt, claim.error) == ("retry", 2, None)
        await journal.finish("a", 2, output=b"1")
    with Journal.read(path) as reader:
        (entry,) = reader
    assert (entry.state, entry.attempt, entry.error, bytes(entry.output or b"")) == (
        "done",
        2,
        None,
        b"1",
    )


async def test_what_was_under_way_is_unknown_with_its_session_and_run(path: Path) -> None:
    async with await opened(path, mode="run") as journal:
        begun = await journal.begin("a", DIGEST)
        journal.note_run("a", 1, "run-1")
        untold = await journal.begin("b", DIGEST)
    assert UUID(begun.session_id) != UUID(untold.session_id)
    async with await opened(path, mode="run") as journal:
        claim = await journal.begin("a", DIGEST)
        assert (claim.state, claim.attempt, claim.run_id) == ("unknown", 1, "run-1")
        assert claim.session_id == begun.session_id
        await journal.finish("a", 1, output=b"{}", run_id=claim.run_id)
        assert (await journal.begin("b", DIGEST)).state == "unknown"
        again = await journal.again("b")
        assert (again.state, again.attempt, again.run_id) == ("retry", 2, None)
        assert again.session_id != untold.session_id
        await journal.finish("b", 2, output=b"{}")
    with Journal.read(path) as reader:
        assert [(e.key, e.state, e.run_id, e.session_id) for e in reader] == [
            ("a", "done", "run-1", begun.session_id),
            ("b", "done", None, again.session_id),
        ]


async def test_an_unknown_outcome_that_is_skipped_stays_unknown(path: Path) -> None:
    async with await opened(path) as journal:
        await journal.begin("a", DIGEST)
    for _ in range(2):
        async with await opened(path) as journal:
            claim = await journal.begin("a", DIGEST)
            assert (claim.state, claim.attempt) == ("unknown", 1)


@pytest.mark.parametrize("noted", [False, True])
async def test_withdrawing_the_attempt_after_an_unknown_one_goes_back_to_that(
    path: Path, noted: bool
) -> None:
    async with await opened(path) as journal:
        await journal.begin("a", DIGEST)
        journal.note_run("a", 1, "run-1")
        if noted:
            lost = errors.AmbiguousOutcomeError("lost")
            await journal.finish("a", 1, error=lost, run_id="run-1")
    before = [entry_of(path, "a")]
    async with await opened(path) as journal:
        assert (await journal.begin("a", DIGEST)).state == "unknown"
        assert (await journal.again("a")).attempt == 2
        during = entry_of(path, "a")
        assert (during.state, during.run_id, during.error) == ("running", None, None)
        journal.withdraw("a")
    assert [entry_of(path, "a")] == before


@pytest.mark.parametrize("state", ["new", "retry"])
async def test_a_key_that_is_withdrawn_and_begun_at_once_is_under_way(
    path: Path, state: str
) -> None:
    async with await opened(path) as journal:
        await work(journal, "other", output=b"1")
        if state == "retry":
            await work(journal, "a", error=ValueError("no"))
    async with await opened(path, retry_failed=True) as journal:
        claim = await journal.begin("a", DIGEST)
        journal.withdraw("a")
        again, _ = await asyncio.gather(journal.begin("a", DIGEST), journal.begin("b", DIGEST))
        assert (again.state, again.attempt) == (claim.state, claim.attempt)
        entry = entry_of(path, "a")
        assert (entry.state, entry.attempt, entry.error) == ("running", claim.attempt, None)


async def test_the_run_of_an_unknown_attempt_can_be_noted_late(path: Path) -> None:
    lost = errors.AmbiguousOutcomeError("lost")
    async with await opened(path) as journal:
        await work(journal, "a", error=lost, run_id="run-1")
    async with await opened(path) as journal:
        await journal.begin("a", DIGEST)
        journal.note_run("a", 1, "run-2")
    assert entry_of(path, "a").run_id == "run-2"


async def test_an_ambiguous_error_leaves_the_outcome_unknown(path: Path) -> None:
    async with await opened(path) as journal:
        await work(journal, "a", error=errors.AmbiguousTimeoutError("late", limit="total"))
    assert states(path) == {"a": "unknown"}
    async with await opened(path, retry_failed=True) as journal:
        claim = await journal.begin("a", DIGEST)
    assert claim.state == "unknown"
    assert isinstance(claim.error, errors.AmbiguousTimeoutError)
    assert claim.error.limit == "total"


async def test_two_journals_have_different_sessions_for_one_key(tmp_path: Path) -> None:
    sessions = set()
    for name in ("a.db", "b.db"):
        async with await opened(tmp_path / name) as journal:
            sessions.add((await journal.begin("a", DIGEST)).session_id)
    assert len(sessions) == 2


async def test_a_late_note_about_a_run_changes_nothing(journal: Journal, path: Path) -> None:
    await work(journal, "a", output=b"1")
    journal.note_run("a", 1, "run-1")
    await journal.begin("b", DIGEST)
    journal.note_run("b", 7, "run-2")
    await journal.begin("c", DIGEST)
    with Journal.read(path) as reader:
        assert {entry.run_id for entry in reader} == {None}


@pytest.mark.parametrize("count", [1, _store._AT_ONCE, 3 * _store._AT_ONCE + 7])
async def test_groups_of_any_size_are_whole(path: Path, count: int) -> None:
    keys = [f"key {n} 'ü\0" for n in range(count)]
    for state in ("new", "done"):
        async with await opened(path) as journal:
            claims = await asyncio.gather(*(journal.begin(key, DIGEST) for key in keys))
            assert [(claim.key, claim.state) for claim in claims] == [(key, state) for key in keys]
            if state == "new":
                ends = (journal.finish(key, 1, output=key[4:7].encode()) for key in keys)
                await asyncio.gather(*ends)
    with Journal.read(path) as reader:
        assert [entry.key for entry in reader] == keys


# --- misuse --------------------------------------------------------------------------------------


async def test_another_input_under_a_key_is_noticed_and_harms_no_other(path: Path) -> None:
    async with await opened(path) as journal:
        await work(journal, "a", output=b"1")
    async with await opened(path) as journal:
        changed, other = await asyncio.gather(
            journal.begin("a", b"e" * 16), journal.begin("b", DIGEST), return_exceptions=True
        )
        assert isinstance(changed, errors.JournalError)
        assert changed.key == "a"
        assert "key 'a' with another input" in changed.message
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
    journal: Journal, path: Path
) -> None:
    await work(journal, "a", output=b"1")
    await journal.begin("b", DIGEST)
    for _ in range(2):  # also when it is known that keys are given twice
        *_, again, other = await asyncio.gather(
            journal.finish("b", 1, output=b"2"),
            journal.begin("b", DIGEST),
            journal.begin("a", DIGEST),
            journal.begin("c", DIGEST),
            return_exceptions=True,
        )
        assert isinstance(again, errors.JournalError)
        assert "given to two inputs" in again.message
        assert states(path) == {"a": "done", "b": "done", "c": "running"}
    assert isinstance(other, errors.JournalError)
    assert (await journal.begin("d", DIGEST)).state == "new"


async def test_an_end_without_a_beginning_is_an_error(journal: Journal) -> None:
    for ending in (journal.finish("a", 1, output=b"1"), journal.again("a")):
        with pytest.raises(errors.JournalError, match="is not under way"):
            await ending


async def test_a_key_that_is_no_text_is_refused(journal: Journal) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await journal.begin("\ud83d", DIGEST)
    assert caught.value.argument == "key"


async def test_a_closed_journal_says_so(path: Path) -> None:
    journal = await opened(path)
    await asyncio.gather(journal.aclose(), journal.aclose())
    await journal.aclose()
    with pytest.raises(errors.JournalError, match=r"job\.db is closed"):
        await journal.begin("a", DIGEST)


# --- cancellation and ends -----------------------------------------------------------------------


async def test_a_cancelled_beginning_was_none_at_any_moment(path: Path) -> None:
    async with await opened(path) as journal:
        await work(journal, "failed", error=ValueError("no"))
    async with await opened(path, retry_failed=True) as journal:
        for turns in range(12):
            key = f"key {turns}"
            begun = asyncio.create_task(journal.begin(key, DIGEST))
            for _ in range(turns):
                await asyncio.sleep(0.0005 * (turns > 4))
            begun.cancel()
            await asyncio.wait([begun])
            if not begun.cancelled():
                await journal.finish(key, 1, output=b"1")
        again = asyncio.create_task(journal.begin("failed", DIGEST))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        again.cancel()
    left = states(path)
    assert left.pop("failed") == "failed"
    assert set(left.values()) <= {"done"}


async def test_a_beginning_cancelled_in_the_turn_it_succeeds_is_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await opened(path) as journal:
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
        journal._closed = True  # what cannot be taken back any more counts as begun, to be safe
        await asyncio.wait(begun)
    assert states(path) == {"a": "done", "b": "running"}
    async with await opened(path) as journal:
        begun[:] = [asyncio.create_task(journal.begin("a", DIGEST))]
        await asyncio.wait(begun)
    assert states(path)["a"] == "done"  # an earlier outcome is not taken back


async def test_a_beginning_cancelled_while_it_is_written_is_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await opened(path) as journal:
        await work(journal, "failed", error=ValueError("no"))
    limiter = Limiter(monkeypatch)
    async with await opened(path, retry_failed=True) as journal:
        begun = [asyncio.create_task(journal.begin(key, DIGEST)) for key in ("new", "failed")]
        await asyncio.to_thread(limiter.reached.wait)
        for task in begun:
            task.cancel()
        await asyncio.wait(begun)
        limiter.open.set()
    assert states(path) == {"failed": "failed"}
    async with await opened(path, retry_failed=True) as journal:
        assert (await journal.begin("failed", DIGEST)).attempt == 2


async def test_a_cancelled_end_is_written_all_the_same(path: Path) -> None:
    async with await opened(path) as journal:
        await journal.begin("a", DIGEST)
        ending = asyncio.ensure_future(journal.finish("a", 1, output=b"1"))
        await asyncio.sleep(0)
        ending.cancel()
    assert states(path) == {"a": "done"}


async def test_cancelling_the_opening_leaves_no_lock(path: Path) -> None:
    for turns in range(5):
        opening = asyncio.create_task(opened(path))
        await asyncio.sleep(0.001 * turns)
        opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled():
            await opening.result().aclose()
    async with asyncio.timeout(5):
        while True:
            try:
                await (await opened(path)).aclose()
                break
            except errors.JournalError:
                await asyncio.sleep(0.01)


async def test_cancelling_the_closing_closes_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = Limiter(monkeypatch)
    journal = await opened(path)
    first = asyncio.create_task(journal.begin("a", DIGEST))
    await asyncio.to_thread(limiter.reached.wait)
    second = asyncio.create_task(journal.begin("b", DIGEST))
    await asyncio.sleep(0)
    closing = asyncio.create_task(journal.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    limiter.open.set()
    assert (await first).state == "new"
    with pytest.raises(errors.JournalError, match="is closed"):
        await second
    await journal.aclose()
    assert states(path) == {"a": "running"}


async def test_a_dropped_journal_lets_go_of_its_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = Limiter(monkeypatch)
    journal = await opened(path)
    thread = journal._thread
    journal._add(_store.Store.begin, ("a", DIGEST), None)
    await asyncio.to_thread(limiter.reached.wait)
    del journal
    gc.collect()
    limiter.open.set()
    await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)
    async with await opened(path) as journal:
        assert (await journal.begin("a", DIGEST)).state == "unknown"


@pytest.mark.parametrize("busy", [True, False])
def test_an_event_loop_that_died_does_not_keep_the_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    limiter = Limiter(monkeypatch)

    async def leave() -> Journal:
        journal = await opened(path)
        if busy:
            journal._add(_store.Store.begin, ("a", DIGEST), None)
            await asyncio.to_thread(limiter.reached.wait)
        return journal

    with asyncio.Runner() as runner:
        journal = runner.run(leave())
    limiter.open.set()
    thread = journal._thread
    if not busy:  # then the thread has not noticed
        del journal
        gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_a_forgotten_journal_does_not_keep_the_interpreter_from_ending(path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from dynamiq_async.batch.journal import Journal\n"
        "async def main():\n"
        "    global journal\n"
        f"    journal = await Journal.open(sys.argv[1], mode='invoke', app_url={URL!r})\n"
        "    await journal.begin('a', b'1')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, path],
        cwd=ROOT,
        timeout=20,
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert states(path) == {"a": "running"}


# --- one writer, many readers --------------------------------------------------------------------


async def test_a_second_writer_is_refused_and_the_first_goes_on(
    journal: Journal, path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(errors.JournalError, match="being written by another process") as caught:
            await opened(path)
        assert caught.value.key is None
    await work(journal, "a", output=b"1")


async def test_a_killed_writer_leaves_its_rows_and_no_lock(path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from dynamiq_async.batch.journal import Journal\n"
        "async def main():\n"
        f"    journal = await Journal.open(sys.argv[1], mode='invoke', app_url={URL!r})\n"
        f"    await journal.begin('a', {DIGEST!r})\n"
        "    await journal.finish('a', 1, output=b'1')\n"
        f"    await journal.begin('b', {DIGEST!r})\n"
        "    print(flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, path, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert child.stdout is not None
    assert await child.stdout.readline()
    with pytest.raises(errors.JournalError, match="another process"):
        await opened(path)
    child.send_signal(signal.SIGKILL)
    await child.communicate()
    assert states(path) == {"a": "done", "b": "running"}
    async with await opened(path) as journal:
        assert (await journal.begin("a", DIGEST)).state == "done"
        assert (await journal.begin("b", DIGEST)).state == "unknown"


async def test_it_can_be_read_while_it_is_written(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamiq_async.batch.journal._reader._AT_ONCE", 2)
    with Journal.read(path) as reader:
        assert (reader.mode, reader.app_url, list(reader)) == ("invoke", URL, [])
        for n in range(5):
            await work(journal, str(n), output=b"1")
        await work(journal, "5", error=ValueError("no"))
        await journal.begin("6", DIGEST)
        assert reader.counts() == {"done": 5, "failed": 1, "running": 1, "unknown": 0}
        seen = []
        for entry in reader:
            seen.append(entry.key)
            if entry.key == "0":
                await work(journal, "7", output=b"1")
        assert seen == [str(n) for n in range(8)]
        failed = next(entry for entry in reader if entry.key == "5")
        assert failed.failure is not None
        assert failed.failure.message == "ValueError: no"
        assert next(iter(reader)).failure is None
        assert UUID(reader.job)
        assert reader.created_at <= (failed.started_at or 0.0) <= (failed.finished_at or 0.0)


async def test_it_is_exported_as_json_lines(path: Path, tmp_path: Path) -> None:
    async with await opened(path) as journal:
        await work(journal, "plain", output=b'{"a": [1, 2]}', seconds=0.5)
        await work(journal, "lines", output=b'{\r\n  "a": "\\n"\n}')
        await work(journal, "broken", output=b'"\\ud83d \xff"')
        await work(journal, "failed", error=errors.NotFoundError("gone", status=404))
        await journal.begin("begun", DIGEST)
        target = tmp_path / "out.jsonl"
        target.write_text("old")
        with Journal.read(path) as reader:
            assert reader.export(target) == 5
            memory = io.BytesIO()
            assert reader.export(memory) == 5
    assert target.read_bytes() == memory.getvalue()
    lines = {line["key"]: line for line in map(json.loads, target.read_text().splitlines())}
    assert [lines[key].get("output") for key in ("plain", "lines", "broken")] == [
        {"a": [1, 2]},
        {"a": "\n"},
        "\ufffd \ufffd",
    ]
    assert lines["plain"]["seconds"] == 0.5
    assert lines["failed"]["error"] == {"type": "NotFoundError", "message": "gone", "status": 404}
    assert {"state", "attempt", "started_at", "key"} == lines["begun"].keys()
    assert names(tmp_path) == ["job.db", "job.db-lock", "out.jsonl"]


async def test_an_export_that_cannot_be_written_leaves_what_is_there(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    with Journal.read(path) as reader, pytest.raises(errors.InvalidArgumentError) as caught:
        reader.export(tmp_path / "folder")
    assert caught.value.argument == "target"
    assert (tmp_path / "folder").is_dir()
    assert not [name for name in names(tmp_path) if name.startswith(".")]


# --- files that are none of ours -----------------------------------------------------------------


def text(path: Path) -> None:
    path.write_bytes(b"key,value\n" * 100)


def another_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()


def another_application(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA application_id = 1")
    connection.close()


def another_format(path: Path, version: int = 99) -> None:
    write(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def an_older_format(path: Path) -> None:
    another_format(path, 1)


def write(path: Path) -> None:
    async def main() -> None:
        async with await opened(path) as journal:
            ends = (work(journal, str(n), output=b"1" * 500) for n in range(200))
            await asyncio.gather(*ends)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()


def truncate(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    write(path)
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def overwritten_in_the_middle(path: Path) -> None:
    write(path)
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(os.urandom(16 * 4096))


def without_what_it_is_for(path: Path) -> None:
    write(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM meta WHERE name = 'mode'")
    connection.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (text, "is not a journal"),
        (another_database, "database of another program"),
        (another_application, "database of another program"),
        (another_format, "has format 99"),
        (an_older_format, "has format 1"),
        (truncated, "is damaged"),
        (overwritten_in_the_middle, "is damaged"),
        (without_what_it_is_for, "is damaged"),
        (Path.mkdir, "is a folder"),
    ],
)
async def test_what_is_no_journal_is_refused_and_left_alone(
    path: Path, make: Callable[[Path], None], says: str
) -> None:
    make(path)
    before = content(path)
    with pytest.raises(errors.JournalError, match=says):
        await opened(path)
    if make is not overwritten_in_the_middle:  # which only who writes has to know
        with pytest.raises(errors.JournalError, match=says):
            Journal.read(path)
    assert content(path) == before


async def test_a_table_that_is_damaged_is_told_when_it_is_opened(path: Path) -> None:
    write(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE item")
    connection.close()
    with pytest.raises(errors.JournalError, match="no such table"):
        await opened(path)


async def test_a_huge_journal_is_not_looked_through(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwritten_in_the_middle(path)
    monkeypatch.setattr(_database, "_CHECKED_BYTES", 0)
    async with await opened(path) as journal:
        with pytest.raises(errors.JournalError, match="is damaged"):
            for n in range(200):
                await journal.begin(str(n), DIGEST)


async def test_a_foreign_file_gets_no_companions(path: Path) -> None:
    text(path)
    with pytest.raises(errors.JournalError):
        await opened(path)
    assert list(path.parent.iterdir()) == [path]


async def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    truncate(path)
    with pytest.raises(errors.JournalError, match="is empty"):
        Journal.read(path)
    async with await opened(path) as journal:
        await work(journal, "a", output=b"1")
    assert states(path) == {"a": "done"}


async def test_a_journal_is_for_one_mode_and_one_app(path: Path) -> None:
    await (await opened(path)).aclose()
    for other in ({"mode": "run"}, {"app_url": "https://other.example"}):
        with pytest.raises(errors.JournalError) as caught:
            await opened(path, **other)
        assert f"is for mode 'invoke' at {URL}" in caught.value.message
    await (await opened(path)).aclose()


async def test_places_where_no_journal_can_be(tmp_path: Path) -> None:
    with pytest.raises(errors.JournalError, match=r"folder .* does not exist"):
        await opened(tmp_path / "none" / "job.db")
    with pytest.raises(errors.JournalError, match="there is no journal"):
        Journal.read(tmp_path / "job.db")
    with pytest.raises(errors.JournalError, match="nothing can be written in its folder"):
        await opened(Path("/proc/job.db"))


async def test_a_name_that_a_url_would_read_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory#%20 ü.db"
    async with await opened(path) as journal:
        await work(journal, "a", output=b"1")
    assert path.exists()
    assert states(path) == {"a": "done"}


async def test_a_file_that_is_read_only_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await opened(path)).aclose()
    connect = _database._connect

    def as_read_only(path: Path, mode: str, **options: Any) -> sqlite3.Connection:
        beside = path.name.endswith("-lock")
        return connect(path, mode if beside else "ro", **options)

    monkeypatch.setattr(_database, "_connect", as_read_only)
    with pytest.raises(errors.JournalError, match="read-only"):
        await opened(path)


async def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    path = tmp_path / "job.db"
    path.with_name("job.db-lock").mkdir()
    with pytest.raises(errors.JournalError, match=r"job\.db-lock is a folder"):
        await opened(path)
    path.with_name("job.db-lock").rmdir()
    text(path.with_name("job.db-lock"))
    with pytest.raises(errors.JournalError, match="is not a journal"):
        await opened(path)


# --- when it cannot be written any more ----------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    full = threading.Event()
    apply = _store.Store.apply

    def seen(store: _store.Store, group: Any) -> list[Any]:
        if full.is_set():
            ((pages,),) = store._connection.execute("PRAGMA page_count")
            store._connection.execute(f"PRAGMA max_page_count = {pages}")
        return apply(store, group)

    monkeypatch.setattr(_store.Store, "apply", seen)
    return full.set


async def test_a_full_disk_is_told_to_everybody_and_loses_nothing(
    path: Path, full_disk: Callable[[], None]
) -> None:
    async with await opened(path) as journal:
        await work(journal, "a", output=b"1")
        await journal.begin("b", DIGEST)
        full_disk()
        big = b'"' + b"x" * 100_000 + b'"'
        results = await asyncio.gather(
            journal.finish("b", 1, output=big), journal.begin("c", DIGEST), return_exceptions=True
        )
        for result in results:
            assert isinstance(result, errors.JournalError)
            assert "the disk is full" in result.message
            assert result.key is None
        assert results[0] is not results[1]
        with pytest.raises(errors.JournalError, match="the disk is full"):
            await journal.begin("d", DIGEST)
    assert states(path) == {"a": "done", "b": "running"}


async def test_closing_tells_what_nobody_was_told(
    path: Path, full_disk: Callable[[], None]
) -> None:
    journal = await opened(path)
    await journal.begin("a", DIGEST)
    full_disk()
    ending = asyncio.ensure_future(journal.finish("a", 1, output=b"1" * 100_000))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(errors.JournalError, match="the disk is full"):
        await journal.aclose()
    await journal.aclose()


async def test_a_defect_of_the_thread_is_told_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await opened(path) as journal:
        with pytest.raises(errors.JournalError, match="cannot be used") as caught:
            await journal.begin("a", 3)  # type: ignore[arg-type] # not bytes: wrong in the thread
            await journal.begin("b", object())  # type: ignore[arg-type]
        assert caught.value.key is None


# --- errors as data ------------------------------------------------------------------------------

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.DynamiqError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_what_it_was(kind: type[errors.DynamiqError]) -> None:
    error = kind("what happened")
    for name in vars(error):
        if name not in ("message", "events"):
            setattr(error, name, {"status": 500, "details": {"a": "b"}}.get(name, "text"))
    if isinstance(error, errors.RunError):
        error.run = Run(id="r", status="failed", error={"message": "no"})
    if isinstance(error, errors.EventDecodeError):
        error.data = b"\xff"
    back = _failures.decode(_failures.encode(error))
    assert type(back) is kind
    assert (str(back), vars(back)) == (str(error), vars(error))


def test_other_errors_come_back_with_their_names() -> None:
    class OwnError(errors.DynamiqError):
        pass

    for error, message in (
        (OwnError("mine"), "OwnError: mine"),
        (KeyError("x"), "KeyError: 'x'"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("\ud83d"), "ValueError: \ufffd"),
    ):
        back = _failures.decode(_failures.encode(error))
        assert (type(back), back.message) == (errors.DynamiqError, message)
    assert _failures.decode(b'{"type": "annotations", "message": "m"}').message == "annotations: m"


def test_what_json_cannot_hold_is_described() -> None:
    error = errors.RunFailedError("no", run=object(), details={1: math.inf, "o": object})
    described = json.loads(_failures.encode(error))
    assert described["run"].startswith("<object object")
    back = _failures.decode(_failures.encode(error))
    assert (type(back), back.message) == (errors.RunFailedError, "no")


def test_a_reader_is_closed_when_it_could_not_be_made(path: Path) -> None:
    without_what_it_is_for(path)
    with pytest.raises(errors.JournalError):
        JournalReader(path)
