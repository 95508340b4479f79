"""What a client sees from a tape is what it saw live: events, their order, the end, the error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp, Timeout, errors
from dynamiq_async.emulator import Emulator, Fault, RunContext
from tests.support.schedules import schedule, scheduled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dynamiq_async.emulator import App

CAPTURES = sorted((Path(__file__).parents[1] / "data" / "captures").glob("*.jsonl"))
TIMEOUT = Timeout(connect=20.0, first_byte=20.0, idle=1.0, total=60.0)
KEY = "dynamiq_acc_never-on-a-tape"


class Seen:
    """What a client saw: events as they came, and results, and the errors by their kind."""

    def __init__(self, app: AsyncApp) -> None:
        self.app = app
        self.all: list[Any] = []

    async def stream(self, input: Any) -> None:
        await self._read(self.app.stream(input))

    async def run(self, input: Any) -> None:
        await self._read(self.app.runs.stream(input, on_question=lambda _: "yes"))

    async def socket(self, input: Any) -> None:
        async with self.app.connect() as socket:
            await self._read(socket.run(input))

    async def _read(self, stream: Any) -> None:
        try:
            async with stream:
                async for event in stream:
                    self.all.append(event.raw)
        except errors.DynamiqError as error:
            self.all.append(_told(error))
        self.all.append(getattr(stream, "reconnects", 0))

    async def call(self, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            self.all.append(await call())
        except errors.DynamiqError as error:
            self.all.append(_told(error))


def _told(error: errors.DynamiqError) -> tuple[Any, ...]:
    body = getattr(error, "body", None)
    position = (getattr(error, "run_id", None), getattr(error, "sequence", None))
    return type(error), getattr(error, "status", None), body, *position


async def both(
    app: App,
    path: Path,
    see: Callable[[Seen], Awaitable[None]],
    *faults: tuple[str | None, list[Fault]],
    mask: tuple[str, ...] = (),
    speed: float = math.inf,
    **options: Any,
) -> tuple[list[Any], list[Any]]:
    """What is seen live, through a recorder, and then from the tape."""

    async def seen(url: str, key: str) -> list[Any]:
        async with AsyncApp(url, access_key=key, timeout=TIMEOUT, max_retries=1) as client:
            found = Seen(client)
            await see(found)
            return found.all

    async with Emulator(app, access_key=KEY, heartbeat=None, **options) as emulator:
        for match, some in faults:
            if some:
                emulator.script(*some, match=match)
        async with Emulator.record(emulator.url, path, mask=mask) as recorder:
            live = await seen(recorder.url, KEY)
            await recorder.wait_until(lambda: all(seen.finished for seen in recorder.requests))
    assert KEY not in path.read_text()  # noqa: ASYNC240 - a small file
    async with Emulator.replay(path, speed=speed) as player:
        taped = await seen(player.url, player.access_key)
        assert player.unknown == []
    return live, taped


def playing(capture: Path) -> App:
    lines = [json.loads(line) for line in capture.read_bytes().splitlines()]

    async def play(input: dict[str, Any], run: RunContext) -> Any:
        for line in lines:
            await run.message(line)

    return play


@pytest.mark.parametrize("capture", CAPTURES, ids=[path.stem for path in CAPTURES])
async def test_every_capture_is_seen_as_it_was_live(capture: Path, tmp_path: Path) -> None:
    async def see(seen: Seen) -> None:
        await seen.stream({"question": "hi"})
        await seen.run({"question": "hi"})

    live, taped = await both(playing(capture), tmp_path / "tape.jsonl", see)
    assert live == taped
    assert len(live) > 3


FAULTS = [
    Fault(drop="reset"),
    Fault(drop="close"),
    Fault(after_events=2, drop="reset"),
    Fault(after_events=3, drop="close"),
    Fault(at_byte=900, drop="truncate"),
    Fault(at_byte=1000, drop="reset", framing="length"),
    Fault(at_byte=700, drop="close", framing="length"),
    Fault(after_events=2, drop="close", framing="close"),
    Fault(after_events=2, drop="reset", framing="close"),
    Fault(after_events=1, stall=math.inf),
    Fault(terminator="missing"),
    Fault(framing="close"),
    Fault(write_size=7, duplicate={2}, swap={3}),
    Fault(after_events=1, send=b"data: {\xff\n\n"),
    Fault(status=429, headers={"Retry-After": "999"}),
    Fault.html_page(503),
    Fault(status=204),
]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
async def test_a_stream_with_a_fault_ends_as_it_did_live(fault: Fault, tmp_path: Path) -> None:
    async def see(seen: Seen) -> None:
        await seen.stream({"question": "hi"})
        await seen.stream({"question": "again"})

    faults = (None, [fault])
    live, taped = await both(playing(CAPTURES[0]), tmp_path / "tape.jsonl", see, faults)
    assert live == taped


@pytest.mark.parametrize("seed", range(20))
async def test_a_run_that_is_resumed_is_resumed_as_it_was_live(seed: int, tmp_path: Path) -> None:
    played = schedule(seed)

    async def see(seen: Seen) -> None:
        await seen.run(played.input)

    faults = (
        ("POST /v1/runs", played.create),
        ("GET /v1/runs/*/stream", played.streams),
        ("GET /v1/runs/*/events", played.events),
        ("POST /v1/runs/*/input", played.answers),
        ("GET /v1/runs*", played.looks),
    )
    live, taped = await both(scheduled, tmp_path / "tape.jsonl", see, *faults)
    assert live == taped


async def test_calls_files_and_sockets_are_seen_as_they_were_live(tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(range(256)) * 8192)

    async def see(seen: Seen) -> None:
        app = seen.app
        await seen.call(lambda: app.invoke({"question": "hi", "list": [1, None, "ü"]}))
        await seen.call(lambda: app.invoke({"question": "hi"}, files=[("a.txt", b"small\xff")]))
        await seen.call(lambda: app.files.upload(large))
        await seen.call(lambda: app.runs.get("nothing"))
        await seen.socket({"question": "hi"})

    live, taped = await both(playing(CAPTURES[0]), tmp_path / "tape.jsonl", see)
    assert live == taped
    assert len(live) > 6
