"""Thousands of schedules of faults, and one promise: every event once, in order, to the end; or an
error that says where to go on, and going on there gives the rest.

`DYNAMIQ_TEST_SCHEDULES` is how many are played, `DYNAMIQ_TEST_SEED` the first one's seed.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import dynamiq_async
from dynamiq_async import AsyncApp, Timeout, errors
from tests.support.run_apps import truth
from tests.support.schedules import DEFINITE, Schedule, schedule, scheduled

from .conftest import Served, in_flight

if TYPE_CHECKING:
    from dynamiq_async import Question, RunStream
    from dynamiq_async.emulator import Emulator

    from .conftest import Serve

COUNT = int(os.environ.get("DYNAMIQ_TEST_SCHEDULES", "300"))
SEED = int(os.environ.get("DYNAMIQ_TEST_SEED", "0"))
PARTS = 4

CLIENT: dict[str, Any] = {
    "timeout": Timeout(connect=5.0, first_byte=5.0, idle=0.05),
    "max_retries": 1,
}
PACKAGE = Path(dynamiq_async.__file__).parent


def yes(question: Question) -> str:
    return "yes"


class Reader:
    """Reads the run of a schedule, with as many streams as it takes."""

    def __init__(self, served: Served, played: Schedule) -> None:
        self.served = served
        self.played = played
        self.handed: list[int] = []
        self.failures: list[errors.DynamiqError] = []
        self.reconnects = 0

    def first_stream(self, run_id: str | None) -> RunStream:
        runs, played = self.served.app.runs, self.played
        if run_id is not None:
            return runs.follow(
                run_id,
                after_sequence=played.after,
                on_question=yes,
                max_resumes=played.max_resumes,
            )
        return runs.stream(
            played.input,
            dedupe=played.start == "dedupe",
            on_question=yes,
            max_resumes=played.max_resumes,
        )

    async def read(self) -> None:
        """All of it. Where a stream fails, another goes on behind its error's position, and in
        the end without faults."""
        emulator, run_id = self.served.emulator, None
        if self.played.start == "follow":
            run = await self.served.app.runs.create(self.played.input, background=True)
            run_id = run.id
            emulator.reset()
        self.played.script(emulator)
        stream, ended = self.first_stream(run_id), False
        while not ended:
            ended = await self.read_one(stream)
            self.reconnects += stream.reconnects
            self.check_left(stream)
            if not ended:
                if not emulator.runs:
                    return  # it never came to be
                assert len(self.failures) < 3
                if self.failures:
                    emulator.clear_script()
                after = self.handed[-1] if self.handed else self.played.after
                stream = self.served.app.runs.follow(
                    next(iter(emulator.runs)), after_sequence=after, on_question=yes
                )

    async def read_one(self, stream: RunStream) -> bool:
        """Whether this stream came to the run's end."""
        leave_after, self.played.leave_after = self.played.leave_after, None
        start = stream.sequence
        try:
            async with stream:
                async for event in stream:
                    assert stream.sequence == event.sequence
                    self.handed.append(event.sequence)
                    if len(self.handed) == leave_after:
                        return event.is_final
        except errors.DynamiqError as error:
            assert stream.closed
            self.check(error, start, opened=stream.response is not None)
            self.failures.append(error)
            return False
        assert all(gap.confirmed for gap in stream.gaps)
        return True

    def check(self, error: errors.DynamiqError, start: int | None, *, opened: bool) -> None:
        """What an error of a stream has to say."""
        if isinstance(error, errors.AmbiguousOutcomeError):
            return  # of the create without its id, or of an answer to a question
        if opened and not isinstance(
            error, errors.StreamInterruptedError | errors.EventDecodeError
        ):
            # A definite answer; or, to the look at a question, any that is not the one hoped for.
            assert isinstance(error, errors.APIStatusError | errors.ContentTypeError), repr(error)
            assert error.status in DEFINITE or self.played.input["questions"]
        if error.run_id is not None:
            assert error.sequence == (self.handed[-1] if self.handed else start)
            assert error.run_id in self.served.emulator.runs

    def check_left(self, stream: RunStream) -> None:
        """Nothing of a stream that is over is left."""
        assert stream.closed
        assert in_flight(self.served.app) == 0
        assert not [task for task in asyncio.all_tasks() if is_ours(task)]

    def check_whole(self) -> None:
        """Every event of the run came once and in order, and the run was created once."""
        emulator = self.served.emulator
        if not emulator.runs:
            assert self.handed == []
            return
        assert len(emulator.runs) == 1
        assert self.handed == [n for n in truth(emulator) if n > self.played.after]


def is_ours(task: asyncio.Task[object]) -> bool:
    """Whether a task is the client's, and neither the emulator's nor the test's."""
    code = getattr(task.get_coro(), "cr_code", None)
    path = Path(code.co_filename) if code is not None else Path()
    return path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "emulator")


async def play(emulator: Emulator, seed: int) -> Reader:
    """Play the schedule of this seed, and check what came of it."""
    emulator.reset()
    emulator.runs.clear()
    app = AsyncApp(emulator.url, access_key=emulator.access_key, **CLIENT)
    reader = Reader(Served(app, emulator), schedule(seed))
    try:
        async with asyncio.timeout(20), app:
            await reader.read()
        await emulator.wait_until(lambda: not emulator.open_connections)
        reader.check_whole()
        creates = [seen for seen in emulator.requests if seen.endpoint == "/v1/runs" and seen.json]
        assert len(creates) == (reader.played.start != "follow")
    except BaseException as error:
        error.add_note(
            f"DYNAMIQ_TEST_SEED={seed} DYNAMIQ_TEST_SCHEDULES=1; handed out: {reader.handed}; "
            f"failures: {reader.failures[:3]}; {reader.played}"
        )
        raise
    return reader


@pytest.mark.parametrize("part", range(PARTS))
async def test_every_event_once_and_in_order_whatever_happens(serve: Serve, part: int) -> None:
    emulator = (await serve(scheduled, heartbeat=None)).emulator
    outcomes: Counter[str] = Counter()
    reconnects = 0
    for seed in range(SEED + part, SEED + COUNT, PARTS):
        reader = await play(emulator, seed)
        reconnects += reader.reconnects
        outcomes[type(reader.failures[0]).__name__ if reader.failures else "whole"] += 1
    if COUNT >= 100:
        assert outcomes["whole"] > 0.4 * outcomes.total(), outcomes
        assert len(outcomes) > 3
        assert reconnects > 0.5 * outcomes.total()
