"""Random schedules of faults, each made from a seed alone."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dynamiq_async.emulator import FOREVER, Fault

if TYPE_CHECKING:
    from dynamiq_async.emulator import Emulator, RunContext

BROKEN = b"event: custom\ndata: {nonsense\n\n"
# What tears an event apart. (A change that leaves it JSON is TCP's to prevent.)
GARBAGE = (BROKEN, b"\n\x00\xff\n", b"\n\n", b"\r", b"\ndata: x\n", b":\n\n\n")
PASSING = (500, 502, 503, 504, 429, 520)
DEFINITE = (401, 403, 404, 410)


@dataclass
class Schedule:
    """What a run does, how it is read, and what its requests meet.

    Attributes:
        start: `create`, `dedupe` or `follow`.
        after: the position that it is followed from.
        leave_after: so many events are read by one stream before another takes over.
        create, streams, events, looks, answers: the faults by the kind of request.
    """

    seed: int
    start: str = "create"
    after: int = 0
    leave_after: int | None = None
    max_resumes: int = 5
    input: dict[str, Any] = field(default_factory=dict)
    create: list[Fault] = field(default_factory=list)
    streams: list[Fault] = field(default_factory=list)
    events: list[Fault] = field(default_factory=list)
    looks: list[Fault] = field(default_factory=list)
    answers: list[Fault] = field(default_factory=list)

    def script(self, emulator: Emulator) -> None:
        """Have the emulator's requests meet the faults."""
        for faults, match in (
            (self.create, "POST /v1/runs"),
            (self.streams, "GET /v1/runs/*/stream"),
            (self.events, "GET /v1/runs/*/events"),
            (self.answers, "POST /v1/runs/*/input"),
            (self.looks, "GET /v1/runs*"),
        ):
            if faults:
                emulator.script(*faults, match=match)


async def scheduled(input: dict[str, Any], run: RunContext) -> Any:
    """An App that does what a schedule says."""
    for number in range(input["count"]):
        run.skip_sequence(input["holes"][number])
        for _ in range(input["turns"][number]):
            await asyncio.sleep(0)
        if number in input["questions"]:
            await run.ask("Go on?", request_id="same")
        await run.event("custom.number", {"number": number, "text": "ü€😀" * (number % 3)})
    return "done"


def schedule(seed: int) -> Schedule:
    """The schedule of this seed."""
    rng = random.Random(seed)
    made = Schedule(seed)
    count = rng.choice((0, 1, 3, 6, 12, 30))
    made.start = rng.choice(("create", "create", "dedupe", "follow", "follow"))
    if made.start == "follow" and rng.random() < 0.3:
        made.after = rng.randint(1, count + 2)
    if rng.random() < 0.2:
        made.leave_after = rng.randint(1, 8)
    made.max_resumes = rng.choice((1, 3, 5, 5))
    asking = rng.random() < 0.2 and not made.after
    holes = rng.sample(range(count), min(count, rng.choice((0, 0, 1, 2))))
    made.input = {
        "count": count,
        "holes": [rng.randint(1, 3) if number in holes else 0 for number in range(count)],
        "turns": [rng.choice((0, 0, 0, 1, 5)) for _ in range(count)],
        "questions": [rng.randrange(count)] if asking and count else [],
    }
    made.streams = [
        _of_stream(rng, count, asking=asking) for _ in range(rng.choice((1, 2, 4, 8, 16, 24)))
    ]
    if made.start != "follow":
        lost = rng.random() < 0.15 and not made.input["questions"]
        made.create = [_lost(rng) if lost else _of_stream(rng, count, asking=asking, created=True)]
    made.events = [_of_answer(rng) for _ in range(rng.choice((0, 0, 0, 1, 2, 4)))]
    made.looks = [_of_answer(rng) for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    if rng.random() < 0.1:
        made.answers = [_of_input(rng)]
    return made


def _lost(rng: random.Random) -> Fault:
    return rng.choice(
        (
            Fault(drop="reset", executes=True),
            Fault(drop="close", executes=True),
            Fault(status=502, executes=True),
            Fault.html_page(504, executes=True),
            Fault(after_events=0, drop="reset"),
            Fault(at_byte=rng.randint(1, 60), drop="truncate"),
        )
    )


def _of_stream(rng: random.Random, count: int, *, asking: bool, created: bool = False) -> Fault:
    """Something for a stream: an answer in its place, or events and an end of its own."""
    if not created and rng.random() < 0.2:
        status = rng.choice(DEFINITE) if rng.random() < 0.05 else rng.choice(PASSING)
        return rng.choice(
            (
                Fault(status=status),
                Fault(status=status),
                Fault.html_page(502),
                Fault.html_page(200),
                Fault(drop=rng.choice(("reset", "close"))),
            )
        )
    more: dict[str, Any] = {}
    numbers = range(2, count + 3)
    for name, chance in (("skip", 0.15), ("duplicate", 0.25), ("swap", 0.15)):
        if rng.random() < chance:
            more[name] = frozenset(rng.sample(numbers, min(len(numbers), rng.randint(1, 3))))
    if not created:
        more["replay"] = rng.choice((0, 0, 0, 1, 4))
        more["ignore_after_sequence"] = rng.random() < 0.15
    if rng.random() < 0.2:
        more["write_size"] = rng.choice((1, 7, 64, 1000))
    # A body whose length is told is sent when the run is over, so that nothing can be answered.
    more["framing"] = rng.choice((None, None, None, "close", None if asking else "length"))
    more["terminator"] = rng.choice((0.0, 0.0, 0.0, 0.001, "missing"))
    return Fault(**more, **_break(rng, count))


def _break(rng: random.Random, count: int) -> dict[str, Any]:
    how = rng.random()
    if how < 0.03:
        return {}
    place: dict[str, Any] = {
        "after_events": rng.choice((rng.randint(0, 2), rng.randint(0, 4), rng.randint(0, count)))
    }
    if rng.random() < 0.4:
        place = {"at_byte": rng.choice((rng.randint(0, 999), rng.randint(0, 150 * count + 300)))}
    if how < 0.75:
        return {**place, "drop": rng.choice(("reset", "close", "truncate"))}
    if how < 0.8:
        return {**place, "stall": FOREVER}
    if how < 0.85:
        return {**place, "stall": 0.002}
    hint = b"retry: %d\n\n" % rng.choice((0, 5, 10**9))
    return {
        **place,
        "send": rng.choice((*GARBAGE, hint, b": heartbeat\n\n")),
        "drop": rng.choice((None, None, "reset")),
    }


def _of_answer(rng: random.Random) -> Fault:
    """Something for a request that is answered with JSON."""
    return rng.choice(
        (
            Fault(status=rng.choice(PASSING)),
            Fault.html_page(502),
            Fault.html_page(200),
            Fault(drop=rng.choice(("reset", "close"))),
            Fault(at_byte=rng.randint(0, 50), drop="truncate"),
            Fault(delay=0.001),
            Fault(),
        )
    )


def _of_input(rng: random.Random) -> Fault:
    return rng.choice(
        (
            Fault(status=503, headers={"Retry-After": "0"}),
            Fault(drop="reset", executes=True),
            Fault(status=502),
        )
    )
