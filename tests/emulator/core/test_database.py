"""The emulator's database: which files it takes, and what is in them when."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from dynamiq_async.emulator import DatabaseError, Emulator
from dynamiq_async.emulator.core.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = ("CREATE TABLE numbers (number INTEGER UNIQUE)",)
PUT = "INSERT INTO numbers VALUES (?)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path, SCHEMA)
    yield database
    database.close()


def numbers(database: Database) -> list[int]:
    return [number for (number,) in database.rows("SELECT number FROM numbers ORDER BY number")]


def after_a_kill(path: Path) -> list[int]:
    """What another process would find, were the one that has the file killed now."""
    copies = path.parent / "copies"
    copies.mkdir(exist_ok=True)
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, copies)
    with closing(Database(copies / path.name, SCHEMA)) as copy:
        return numbers(copy)


async def test_what_is_put_is_written_with_the_next_flush(database: Database, path: Path) -> None:
    database.put(PUT, 1)
    database.put(PUT, 2)
    assert numbers(database) == after_a_kill(path) == []
    database.flush()
    assert numbers(database) == after_a_kill(path) == [1, 2]
    database.flush()


async def test_a_flush_comes_by_itself(database: Database, path: Path) -> None:
    database.put(PUT, 1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert after_a_kill(path) == [1]


async def test_a_flush_is_whole_or_nothing(database: Database) -> None:
    for number in (1, 2, 1):
        database.put(PUT, number)
    with pytest.raises(DatabaseError, match=r"a\.db: cannot be written: UNIQUE constraint failed"):
        database.flush()
    assert numbers(database) == []
    database._pending.pop()
    database.flush()
    assert numbers(database) == [1, 2]


async def test_behind_its_end_nothing_is_kept_and_nobody_is_told(path: Path) -> None:
    database = Database(path, SCHEMA)
    database.put(PUT, 1)
    database.close()
    database.put(PUT, 2)
    with pytest.raises(DatabaseError, match="is closed"):
        database.flush()
    database.close()
    await asyncio.sleep(0)
    with closing(Database(path, SCHEMA)) as again:
        assert numbers(again) == [1]


def test_what_cannot_be_read_says_so(database: Database) -> None:
    with pytest.raises(DatabaseError, match="cannot be read: no such table: letters"):
        database.rows("SELECT * FROM letters")


# --- which files are taken ------------------------------------------------------------------------


def test_one_process_has_the_file(database: Database, path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"a\.db: cannot be opened: another process has it"):
        Database(path, SCHEMA)
    command = [sys.executable, "-m", "dynamiq_async", "serve", "--port", "0", "--db", str(path)]
    other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert other.stdout == ""
    assert other.stderr == f"error: {path}: cannot be opened: another process has it open\n"


def test_a_folder_that_is_not_there(path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"none/a\.db: there is no folder .*none$"):
        Database(path.parent / "none" / "a.db", SCHEMA)


def test_a_folder_in_its_place(path: Path) -> None:
    with pytest.raises(DatabaseError, match=r": is a folder$"):
        Database(path.parent, SCHEMA)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that takes no files")
def test_a_folder_that_takes_no_files() -> None:
    from pathlib import Path

    with pytest.raises(DatabaseError, match="cannot be opened: unable to open database file"):
        Database(Path("/proc/a.db"), SCHEMA)


@pytest.mark.parametrize("which", ["a.db", "."])
def test_a_file_or_folder_that_may_only_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """As the system has it for anybody but its administrator, who runs many tests."""
    Database(path, SCHEMA).close()
    read_only = path.parent / which
    monkeypatch.setattr(os, "access", lambda path, how: path != read_only or how != os.W_OK)
    with pytest.raises(DatabaseError, match=r"a\.db: .* may only be read$"):
        Database(path, SCHEMA)


def test_a_file_that_is_no_database(path: Path) -> None:
    content = b"my only notes " * 100
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"cannot be opened: it is no database$"):
        Database(path, SCHEMA)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "made",
    ["CREATE TABLE mine (a)", "PRAGMA user_version=1", "PRAGMA application_id=7"],
)
def test_a_database_of_another_program_is_left_alone(path: Path, made: str) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(made)
    content = path.read_bytes()
    with pytest.raises(DatabaseError, match=r"a\.db: is a database of another program$"):
        Database(path, SCHEMA)
    assert path.read_bytes() == content
    assert sorted(path.parent.iterdir()) == [path]


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    Database(path, SCHEMA).close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("PRAGMA user_version=2")
    with pytest.raises(DatabaseError, match=r"a\.db: was written by a newer version"):
        Database(path, SCHEMA)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (2,)


def test_an_empty_file_is_a_new_one(path: Path) -> None:
    path.touch()
    with closing(Database(path, SCHEMA)) as database:
        assert numbers(database) == []


# --- and the emulator with it ---------------------------------------------------------------------


async def test_an_emulator_whose_file_cannot_be_used_does_not_start(path: Path) -> None:
    path.write_bytes(b"no database" * 100)  # noqa: ASYNC240
    emulator = Emulator("echo", db=path)
    with pytest.raises(DatabaseError):
        await emulator.start()
    assert emulator.open_connections == 0
    path.unlink()  # noqa: ASYNC240
    async with emulator:
        assert emulator.url


async def test_an_emulator_that_cannot_listen_lets_its_file_go(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        emulator = Emulator("echo", port=taken.getsockname()[1], db=path)
        with pytest.raises(OSError, match="in use"):
            await emulator.start()
    async with Emulator("echo", db=path):
        pass


async def test_a_damaged_file_is_let_go(path: Path) -> None:
    async with Emulator("echo", db=path):
        pass
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DROP TABLE runs")
    for _ in range(2):
        with pytest.raises(DatabaseError, match="cannot be read: no such table: runs"):
            await Emulator("echo", db=path).start()
