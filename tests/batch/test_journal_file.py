"""The journal in a file: one writer, many readers, and nothing that is not a journal is touched."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
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
    SQLiteJournal,
    sqlite,
    sqlite_file,
)
from tests.support.log_records import fields

URL = "https://my-app.example"
DIGEST = b"d" * 16
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("leaves_nothing", "no_thread_is_left")


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if isinstance(thread, sqlite._Thread):
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
    await journal.finish(key, claim.record.attempt, **end)
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


class Gate:
    """Holds the journal's thread back before each group, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        apply = sqlite._Tables.carry_out

        def held_back(store: sqlite._Tables, group: Any) -> list[Any]:
            self.reached.set()
            self.open.wait()
            return apply(store, group)

        monkeypatch.setattr(sqlite._Tables, "carry_out", held_back)


# --- cancellation and ends -----------------------------------------------------------------------


async def test_cancelling_the_opening_leaves_no_lock(path: Path) -> None:
    for turns in range(5):
        opening = asyncio.create_task(opened(path))
        await asyncio.sleep(0.001 * turns)
        opening.cancel()
        await asyncio.wait([opening])
        with contextlib.suppress(asyncio.CancelledError, errors.JournalError):
            await opening.result().aclose()  # unless the one before has not let go yet
    async with asyncio.timeout(5):
        while True:
            try:
                await (await opened(path)).aclose()
                break
            except errors.JournalError:
                await asyncio.sleep(0.01)


async def test_a_dropped_journal_lets_go_of_its_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    journal = await opened(path)
    thread = thread_of(journal)
    begun = asyncio.create_task(journal.begin("a", DIGEST))
    await asyncio.to_thread(gate.reached.wait)
    begun.cancel()
    await asyncio.wait([begun])
    del journal, begun
    gc.collect()
    gate.open.set()
    await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)
    async with await opened(path) as journal:
        assert (await journal.begin("a", DIGEST)).state == "new"  # it was taken back


def thread_of(journal: Journal) -> sqlite._Thread:
    assert isinstance(journal._store, SQLiteJournal)
    return journal._store._thread


@pytest.mark.parametrize("busy", [True, False])
def test_an_event_loop_that_died_does_not_keep_the_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    gate = Gate(monkeypatch)

    async def leave() -> Journal:
        journal = await opened(path)
        if busy:
            asyncio.create_task(journal.begin("a", DIGEST))  # noqa: RUF006 - left behind
            await asyncio.to_thread(gate.reached.wait)
        return journal

    with asyncio.Runner() as runner:
        journal = runner.run(leave())
    gate.open.set()
    thread = thread_of(journal)
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
    monkeypatch.setattr("dynamiq_async.batch.journal.reader._AT_ONCE", 2)
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
        assert str(UUID(reader.job)) == reader.job
        assert reader.created_at <= (failed.started_at or 0.0) <= (failed.finished_at or 0.0)


async def test_it_is_read_with_the_session_of_each_run(path: Path) -> None:
    async with await opened(path, mode="run") as journal:
        begun = await journal.begin("a", DIGEST)
        await journal.finish("a", 1, output=b"1", run_id="run-1")
    with Journal.read(path) as reader:
        assert [(e.key, e.run_id, e.session_id) for e in reader] == [
            ("a", "run-1", begun.session_id)
        ]


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
    assert names(tmp_path) == ["job.db", "out.jsonl"]


async def test_an_export_that_cannot_be_written_leaves_what_is_there(
    journal: Journal, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    with Journal.read(path) as reader, pytest.raises(errors.InvalidArgumentError) as caught:
        reader.export(tmp_path / "folder")
    assert caught.value.argument == "target"
    assert (tmp_path / "folder").is_dir()
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_a_reader_is_closed_when_it_could_not_be_made(path: Path) -> None:
    without_what_it_is_for(path)
    with pytest.raises(errors.JournalError):
        JournalReader(path)


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


async def test_a_file_that_counts_its_openings_is_read_and_written(path: Path) -> None:
    """As those of the format that were written first do."""
    write(path)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO meta VALUES ('opening', '1')")
        connection.execute("UPDATE item SET opening = 1")
        connection.execute("DELETE FROM outcome WHERE id = 1")
    connection.close()
    async with await opened(path) as journal:
        assert (await journal.begin("0", DIGEST)).state == "unknown"
        assert (await journal.begin("1", DIGEST)).state == "done"
        await work(journal, "new", output=b"1")
    with Journal.read(path) as reader:
        assert reader.counts() == {"done": 200, "failed": 0, "running": 1, "unknown": 0}


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
    monkeypatch.setattr(sqlite_file, "_CHECKED_BYTES", 0)
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
    connect = sqlite_file._connect

    def as_read_only(path: Path, mode: str) -> sqlite3.Connection:
        return connect(path, "ro")

    monkeypatch.setattr(sqlite_file, "_connect", as_read_only)
    with pytest.raises(errors.JournalError, match="read-only"):
        await opened(path)


@pytest.mark.parametrize("link", [os.symlink, os.link])
async def test_a_second_name_of_the_file_is_no_way_round_the_lock(
    journal: Journal, path: Path, link: Callable[[Any, Any], None]
) -> None:
    other = path.with_name("other.db")
    link(path, other)
    for file in (*path.parent.glob("*lock*"), *path.parent.glob("*-journal")):
        file.unlink()
    with pytest.raises(errors.JournalError, match=r"another process|not whole"):
        await opened(other)
    await work(journal, "a", output=b"1")


@pytest.mark.parametrize("how", ["copied", "without its wal", "linked"])
async def test_a_file_without_its_wal_says_that_it_is_not_whole(path: Path, how: str) -> None:
    journal = await opened(path)
    await work(journal, "a", output=b"1")
    other, wal = path.with_name("other.db"), path.with_name("job.db-wal")
    other.write_bytes(await kept_bytes(path))
    if how == "copied":
        with pytest.raises(errors.JournalError, match="not whole"):
            Journal.read(other)
        with pytest.raises(errors.JournalError, match="not whole"):
            await opened(other)
        assert names(path.parent) == ["job.db", "job.db-shm", "job.db-wal", "other.db"]
    other.with_name("other.db-wal").write_bytes(await kept_bytes(wal))
    assert states(other) == {"a": "done"}
    await journal.aclose()
    assert states(path) == {"a": "done"}
    if how == "linked":
        other.unlink()
        other.with_name("other.db-wal").unlink()
        other.hardlink_to(path)
        assert states(other) == {"a": "done"}
    elif how == "without its wal":
        other.with_name("other.db-wal").unlink()
        other.with_name("other.db-shm").unlink(missing_ok=True)
        with pytest.raises(errors.JournalError, match="not whole"):
            await opened(other)


async def kept_bytes(path: Path) -> bytes:
    """What another process reads: closing the file in this one would end SQLite's locks."""
    child = await asyncio.create_subprocess_exec("cat", path, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    return out


async def test_a_file_that_cannot_be_locked_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(file: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_file, "_lock", no_locks)
        with pytest.raises(errors.JournalError, match="No locks available"):
            await opened(path)
    await (await opened(path)).aclose()


async def test_reading_leaves_nothing_beside_the_file(path: Path) -> None:
    async with await opened(path) as journal:
        await work(journal, "a", output=b"1")
    assert states(path) == {"a": "done"}
    assert names(path.parent) == ["job.db"]


async def test_a_journal_where_nothing_can_be_written_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await opened(path) as journal:
        await work(journal, "a", output=b"1")
    monkeypatch.setattr(os, "access", lambda *_: False)
    modes: list[str] = []
    connect = sqlite_file._connect

    def noted(path: Path, mode: str) -> sqlite3.Connection:
        modes.append(mode)
        return connect(path, mode)

    monkeypatch.setattr(sqlite_file, "_connect", noted)
    assert states(path) == {"a": "done"}
    assert modes == ["ro&immutable=1"]


async def test_what_was_killed_is_read_where_nothing_can_be_written(
    path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite cannot make the index of a `-wal` on media that are read-only."""
    folder = tmp_path_factory.mktemp("media")
    temporary = tmp_path_factory.mktemp("temporary")
    copy = folder / path.name
    async with await opened(path) as journal:
        await work(journal, "a", output=b"1")
        for name in (path.name, f"{path.name}-wal"):
            shutil.copyfile(path.with_name(name), folder / name)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for no_index in (False, True):
        if no_index:
            monkeypatch.setattr(sqlite_file, "_connect", unreadable)
        assert states(copy) == {"a": "done"}
        assert names(temporary) == []


def unreadable(path: Path, mode: str) -> sqlite3.Connection:
    """A connection that fails when it is read."""

    class Unreadable(sqlite3.Connection):
        def execute(self, *_: object) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("unable to open database file")

    return Unreadable(":memory:")


@pytest.mark.parametrize("name", ["job.db", "job.db-wal"])
@pytest.mark.parametrize("replaced", [True, False])
async def test_files_that_are_removed_meanwhile_are_told(
    path: Path, name: str, replaced: bool
) -> None:
    journal = await opened(path)
    await work(journal, "a", output=b"1")
    gone = path.with_name(name)
    if replaced:
        other = path.with_name("other")
        text(other)
        other.replace(gone)
    else:
        gone.unlink()
    with pytest.raises(errors.JournalError, match="removed or replaced") as caught:
        await journal.begin("b", DIGEST)
    assert caught.value.key is None
    await journal.aclose()


async def test_another_program_that_holds_the_database_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_file, "_PATIENCE", 0.01)
    journal = await opened(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        beginning = asyncio.create_task(journal.begin("a", DIGEST))
        async with asyncio.timeout(30):
            while "another program holds the journal" not in caplog.text:
                await asyncio.sleep(0.01)
        assert all(fields(record) for record in caplog.records if record.name == "dynamiq_async")
        other.execute("ROLLBACK")
        assert (await beginning).state == "new"
        monkeypatch.setattr(sqlite, "HELD_PATIENCE", 0.0)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(errors.JournalError, match="held by another program"):
            await journal.begin("b", DIGEST)
    await journal.aclose()


# --- when it cannot be written any more ----------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    full = threading.Event()
    apply = sqlite._Tables.carry_out

    def seen(store: sqlite._Tables, group: Any) -> list[Any]:
        if full.is_set():
            ((pages,),) = store._connection.execute("PRAGMA page_count")
            store._connection.execute(f"PRAGMA max_page_count = {pages}")
        return apply(store, group)

    monkeypatch.setattr(sqlite._Tables, "carry_out", seen)
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
