"""The stores: one owner at a time, done is done, and no memory without a bound."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.callbacks import MemoryStore, SQLiteStore
from dynamiq_async.callbacks import sqlite as module
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from dynamiq_async.callbacks import CallbackStore

pytestmark = pytest.mark.usefixtures("quick_collections", "leaves_nothing")


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CallbackStore:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "callbacks.db")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The time as the SQLite store sees it."""

    class Clock:
        now = 1_000_000.0

        def time(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


# --- what every store promises --------------------------------------------------------------------


async def test_an_id_has_one_owner_until_it_is_done(store: CallbackStore) -> None:
    assert await store.claim("run", "one") == "claimed"
    assert await store.claim("run", "two") == "busy"
    assert await store.claim("other", "two") == "claimed"
    await store.complete("run")
    assert await store.claim("run", "two") == "done"
    assert await store.claim("run", "one") == "done"


async def test_a_released_id_is_anybodys(store: CallbackStore) -> None:
    assert await store.claim("run", "one") == "claimed"
    await store.release("run", "one")
    assert await store.claim("run", "two") == "claimed"


async def test_only_the_owner_releases(store: CallbackStore) -> None:
    await store.claim("run", "one")
    await store.release("run", "two")
    await store.release("never claimed", "two")
    assert await store.claim("run", "two") == "busy"


async def test_what_is_done_stays_done_when_it_is_released(store: CallbackStore) -> None:
    await store.claim("run", "one")
    await store.complete("run")
    await store.release("run", "one")
    assert await store.claim("run", "two") == "done"


async def test_completing_twice_or_without_a_claim_is_the_same(store: CallbackStore) -> None:
    await store.complete("run")
    await store.complete("run")
    assert await store.claim("run", "one") == "done"


@pytest.mark.parametrize("id", ["'; DROP TABLE callbacks; --", "nul\0", "\ufffd", "x" * 256, " "])
async def test_odd_ids_are_ids_like_any_other(store: CallbackStore, id: str) -> None:
    assert await store.claim(id, "one") == "claimed"
    await store.complete(id)
    assert await store.claim(id, "two") == "done"
    assert await store.claim(id + "x", "two") == "claimed"


async def test_of_many_at_once_one_has_the_id(store: CallbackStore) -> None:
    claims = await asyncio.gather(*(store.claim("run", f"owner {n}") for n in range(50)))
    assert sorted(claims) == ["busy"] * 49 + ["claimed"]


# --- in memory ------------------------------------------------------------------------------------


async def test_the_memory_forgets_the_oldest() -> None:
    store = MemoryStore(max_entries=2)
    for id in ("a", "b", "c"):
        await store.claim(id, "owner")
        await store.complete(id)
    assert len(store) == 2
    assert await store.claim("a", "owner") == "claimed"
    assert await store.claim("b", "owner") == "done"
    assert await store.claim("c", "owner") == "done"


async def test_the_memory_never_forgets_what_is_being_handled() -> None:
    store = MemoryStore(max_entries=1)
    await store.claim("slow", "owner")
    for n in range(10):
        await store.complete(f"run {n}")
    assert await store.claim("slow", "another") == "busy"
    assert len(store) == 2


@pytest.mark.parametrize("bound", [0, -1, 1.5, None, True])
def test_a_bound_that_is_none_is_refused(bound: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        MemoryStore(max_entries=bound)
    assert caught.value.argument == "max_entries"


# --- in a file ------------------------------------------------------------------------------------


async def test_a_file_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    store = SQLiteStore(path)
    await store.claim("done", "one")
    await store.complete("done")
    await store.claim("begun", "one")
    again = SQLiteStore(str(path))
    assert await again.claim("done", "two") == "done"
    assert await again.claim("begun", "two") == "busy"


CLAIM_ALL = """
import asyncio, sys
from dynamiq_async.callbacks import SQLiteStore

async def main(store, name):
    for n in range(40):
        if await store.claim(f"run {n}", name) == "claimed":
            await store.complete(f"run {n}")
            print(n)

print("ready", flush=True)
input()
asyncio.run(main(SQLiteStore(sys.argv[1]), sys.argv[2]))
"""

DIE_AT_IT = """
import asyncio, os, sys
from dynamiq_async.callbacks import SQLiteStore

async def main(store):
    assert await store.claim("run", "dead") == "claimed"
    os._exit(9)

asyncio.run(main(SQLiteStore(sys.argv[1], lease=0.5)))
"""


async def process(program: str, *arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", program),
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def test_two_processes_share_a_file(tmp_path: Path) -> None:
    processes = [await process(CLAIM_ALL, tmp_path / "callbacks.db", name) for name in "ab"]
    for each in processes:
        assert each.stdout is not None
        assert await each.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(each.communicate(b"go\n") for each in processes))
    assert [each.returncode for each in processes] == [0, 0]
    handled = [int(line) for output, _ in outputs for line in output.split()]
    assert sorted(handled) == list(range(40))


async def test_a_process_that_died_does_not_block_an_id(tmp_path: Path) -> None:
    dead = await process(DIE_AT_IT, tmp_path / "callbacks.db")
    assert await dead.wait() == 9
    store = SQLiteStore(tmp_path / "callbacks.db")
    async with asyncio.timeout(10):
        while await store.claim("run", "next") == "busy":
            await asyncio.sleep(0.01)
    assert await store.claim("run", "next") == "claimed"


async def test_a_claim_ends_with_its_lease(tmp_path: Path, clock: Any) -> None:
    store = SQLiteStore(tmp_path / "callbacks.db", lease=60.0)
    assert await store.claim("run", "dead") == "claimed"
    clock.now += 59
    assert await store.claim("run", "next") == "busy"
    clock.now += 1
    assert await store.claim("run", "next") == "claimed"
    await store.release("run", "dead")
    assert await store.claim("run", "third") == "busy"
    await store.complete("run")
    assert await store.claim("run", "next") == "done"


async def test_one_that_outlived_its_lease_still_makes_it_done(tmp_path: Path, clock: Any) -> None:
    store = SQLiteStore(tmp_path / "callbacks.db", lease=1.0)
    await store.claim("run", "slow")
    clock.now += 2
    await store.claim("run", "next")
    await store.complete("run")  # by the slow one
    await store.release("run", "next")
    assert await store.claim("run", "third") == "done"


async def test_a_file_forgets_by_age(tmp_path: Path, clock: Any) -> None:
    path = tmp_path / "callbacks.db"
    store = SQLiteStore(path, max_age=100.0)
    for n in range(20):
        await store.complete(f"run {n}")
        clock.now += 10
    assert await store.claim("run 19", "owner") == "done"
    assert await store.claim("run 0", "owner") == "claimed"
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM callbacks").fetchone() == (10,)  # 9 done, 1 claimed
    db.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """What the next connection to a file waits for. Those after it do not."""
    gate, first, connect = threading.Event(), [True], sqlite3.connect

    def held(*args: Any, **options: Any) -> sqlite3.Connection:
        if first:
            first.clear()
            assert gate.wait(10)
        connection: sqlite3.Connection = connect(*args, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", held)
    return gate


async def test_a_claim_that_was_cancelled_is_made_before_it_is_released(
    tmp_path: Path, gate: threading.Event
) -> None:
    store = SQLiteStore(tmp_path / "callbacks.db")
    claiming = asyncio.ensure_future(store.claim("run", "gone"))
    await asyncio.sleep(0)
    claiming.cancel()
    releasing = asyncio.ensure_future(store.release("run", "gone"))
    await asyncio.wait([releasing], timeout=0.05)
    assert not releasing.done()
    gate.set()
    await releasing
    assert claiming.cancelled()
    assert await store.claim("run", "next") == "claimed"


async def test_a_release_that_was_cancelled_is_made(tmp_path: Path, gate: threading.Event) -> None:
    store = SQLiteStore(tmp_path / "callbacks.db")
    claiming = asyncio.ensure_future(store.claim("run", "gone"))
    await asyncio.sleep(0)
    releasing = asyncio.ensure_future(store.release("run", "gone"))
    await asyncio.sleep(0)
    releasing.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await claiming == "claimed"
    assert releasing.cancelled()
    assert await store.claim("run", "next") == "claimed"


async def test_a_store_that_is_dropped_leaves_no_thread(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "callbacks.db")
    await store.claim("run", "one")
    (thread,) = (t for t in threading.enumerate() if t.name.startswith("dynamiq-callbacks"))
    del store
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


async def test_a_file_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "no such folder" / "callbacks.db")
    with pytest.raises(sqlite3.OperationalError):
        await store.claim("run", "one")
    (tmp_path / "text.db").write_text("this is no database, and long enough to look at" * 50)
    with pytest.raises(sqlite3.DatabaseError):
        await SQLiteStore(tmp_path / "text.db").claim("run", "one")


async def test_a_relative_path_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("callbacks.db")
    monkeypatch.chdir("/")
    await store.complete("run")
    assert (tmp_path / "callbacks.db").is_file()


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"path": ":memory:"}, "path"),
        ({"path": ""}, "path"),
        ({"path": None}, "path"),
        ({"path": b"callbacks.db"}, "path"),
        ({"lease": 0}, "lease"),
        ({"lease": None}, "lease"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": None}, "max_age"),
        ({"max_age": float("inf")}, "max_age"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(
    tmp_path: Path, arguments: dict[str, Any], argument: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        SQLiteStore(**{"path": tmp_path / "callbacks.db"} | arguments)
    assert caught.value.argument == argument


async def test_the_event_loop_does_not_wait_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "callbacks.db"
    store = SQLiteStore(path)
    await store.complete("another")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    claiming = asyncio.ensure_future(store.claim("run", "one"))
    await asyncio.sleep(0.01)
    assert not claiming.done()  # as it would be, without the file, had the loop waited for it
    db.execute("ROLLBACK")
    db.close()
    assert await claiming == "claimed"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_store_that_was_used_before_a_fork_is_used_on_both_sides(tmp_path: Path) -> None:
    script = """
import asyncio, os, sys, warnings
from dynamiq_async.callbacks import SQLiteStore

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
store = SQLiteStore(sys.argv[1])
print(asyncio.run(store.claim("one", "parent")), flush=True)
if os.fork() == 0:
    print(asyncio.run(store.claim("one", "child")), asyncio.run(store.claim("two", "child")))
else:
    os.wait()
    print(asyncio.run(store.claim("two", "parent")))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "callbacks.db")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.splitlines() == ["claimed", "busy claimed", "busy"], ran.stderr
