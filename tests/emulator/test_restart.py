"""The emulator as a process, killed in the middle of its work and started again with its file."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from typing import TYPE_CHECKING, Any

from dynamiq_async import AsyncApp, AsyncManagement
from dynamiq_async.emulator import DEFAULT_KEY, DEFAULT_PROJECT, DEFAULT_TOKEN
from tests.support.limits import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dynamiq_async import RunEvent

RUNS = 50
SEEN = 3
"""How many events of each run have come when the emulator is killed."""


@contextlib.asynccontextmanager
async def serving(db: Path, port: int = 0) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The command's process, and its URL; at the end it is killed, if it is still there."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dynamiq_async", "serve", "agent", "--quiet"),
        *("--db", str(db), "--port", str(port), "--pace", "0.05"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        found = re.search(r"http://\S+", (await child.stdout.readuntil(b"\n")).decode())
        assert found is not None
        yield child, found[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


def told(event: RunEvent) -> tuple[str, Any]:
    """What an event says, without the ids that each run makes up."""
    hidden = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    return event.type, re.sub(hidden, "id", repr(event.data))


async def test_a_kill_costs_no_event_of_fifty_followed_runs(tmp_path: Path) -> None:
    seen: dict[str, list[RunEvent]] = {}
    all_begun = asyncio.Event()

    async def follow(app: AsyncApp, id: str) -> None:
        seen[id] = []
        async for event in app.runs.follow(id, max_resumes=1_000):
            seen[id].append(event)
            if len(seen) == RUNS and all(len(events) >= SEEN for events in seen.values()):
                all_begun.set()

    db = tmp_path / "emulator.db"
    async with asyncio.timeout(2 * HANG_SECONDS), contextlib.AsyncExitStack() as stack:
        child, url = await stack.enter_async_context(serving(db))
        app = await stack.enter_async_context(AsyncApp(url, access_key=DEFAULT_KEY))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        file = await app.files.upload(b"kept", name="kept.txt")
        created = [
            (await app.runs.create({"question": "Hi", "n": n}, background=True)).id
            for n in range(RUNS)
        ]
        followers = [tasks.create_task(follow(app, id)) for id in created]
        await all_begun.wait()
        at_the_kill = {id: len(events) for id, events in seen.items()}
        child.send_signal(signal.SIGKILL)
        await child.wait()

        port = int(url.rpartition(":")[2])
        await stack.enter_async_context(serving(db, port))
        await asyncio.gather(*followers)
        async with app.runs.stream({"question": "Hi"}, file_ids=[file.id]) as stream:
            whole = [event async for event in stream]
        stored = [(await app.runs.get(id)) for id in created]
        listed = [run.id async for run in app.runs.list(sort="started_at")]
        async with AsyncManagement(f"{url}/~management", token=DEFAULT_TOKEN) as management:
            traces = [
                trace.id
                async for app_ in management.apps.list(project_id=DEFAULT_PROJECT)
                async for trace in management.traces.list(app_.id)
            ]

    expected = list(map(told, whole))
    for id in created:
        assert [event.sequence for event in seen[id]] == list(range(1, len(whole) + 1))
        assert [told(event)[0] for event in seen[id]] == [type for type, _ in expected]
        assert list(map(told, seen[id]))[1:-1] == expected[1:-1]
    assert any(count < len(whole) for count in at_the_kill.values())
    assert {run.status for run in stored} == {"completed"}
    assert [run.input["n"] for run in stored] == list(range(RUNS))
    assert listed[:RUNS] == created
    assert set(created) <= set(traces)
