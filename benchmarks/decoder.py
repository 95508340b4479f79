"""The decoder, against the least that is possible and against other packages' decoders.

The bound is msgspec's typed decode of payloads that somebody has already split. Every contender
gets the same chunks and has to deliver exactly the events that were sent; what one gets wrong
stands in its place in the table.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks._measure import Settings, Work, WrongResultError, complaint, expect, measure
from benchmarks._results import OURS, Comparison, Goal, compared
from benchmarks.payloads import CHUNKINGS, ODD_INPUTS, Shape, chunked, large_event, shapes
from benchmarks.peers import peers
from dynamiq_async.sse import SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOUND = "bound"
NS, MS = 1e9, 1e3

TABLES = {
    "decoder": "The decoder, each package with its own JSON",
    "decoder, msgspec": "The decoder, each package given msgspec and the same types",
    "decoder, text": "The decoder, without JSON: the data as text",
    "odd inputs": "Odd inputs, and whether each package finds their events",
    "one large event": "One large event in chunks of 1 KB, each package with its own JSON",
    "doubling": "One event of twice the size, in chunks of 1 KB",
}

# At most this many times the bound.
BOUND_GOALS = {
    ("S1", "one event a chunk"): 2.5,
    ("S2", "one event a chunk"): 4.0,
    ("S2 with id", "one event a chunk"): 4.0,
    ("S1", "16 KB"): 1.35,
    ("S1", "64 KB"): 1.35,
    ("S2", "16 KB"): 2.0,
    ("S2", "64 KB"): 2.0,
    ("S2 with id", "16 KB"): 2.0,
    ("S2 with id", "64 KB"): 2.0,
}
# So many times as fast as each peer with its own JSON, in chunks of 16 KB.
PEER_GOALS = {"httpx-sse": 5.0, "openai": 7.5, "langgraph-sdk": 3.0}
PLAIN_SHAPES = ("S1", "S2", "S2 with id")

MB = 1_000_000
LARGE = {"128 KB": MB // 8, "1 MB": MB, "8 MB": 8 * MB}
DOUBLING = {"1 MB": MB, "2 MB": 2 * MB, "4 MB": 4 * MB, "8 MB": 8 * MB}
DOUBLING_GOAL = 2.2
PATIENCE = 2.0  # seconds; what would take a quadratic contender longer is not run


def run(settings: Settings) -> Iterator[Comparison]:
    for shape_name, shape in shapes(200 if settings.quick else 1_000).items():
        for chunking, size in CHUNKINGS.items():
            chunks = chunked(shape.blocks, size)
            name = f"{shape_name}, {chunking}"
            goals = _goals(shape_name, chunking)
            yield _compare(settings, "decoder", name, _own_json(shape, chunks), goals)
            yield _compare(settings, "decoder, msgspec", name, _given_msgspec(shape, chunks))
            if shape_name in PLAIN_SHAPES:
                yield _compare(settings, "decoder, text", name, _text(shape, chunks))
    yield from _odd_inputs()
    yield from _large(settings)
    yield _doubling(settings)


def _goals(shape: str, chunking: str) -> list[Goal]:
    goals = []
    if limit := BOUND_GOALS.get((shape, chunking)):
        goals.append(Goal(OURS, BOUND, at_most=limit))
    if shape in PLAIN_SHAPES and chunking == "16 KB":
        for peer, factor in PEER_GOALS.items():
            goals.append(Goal(peer, OURS, at_least=factor))
    return goals


def decode_all(type: Any, chunks: list[bytes]) -> list[Any]:
    feed = SSEDecoder(type).feed
    events: list[Any] = []
    for chunk in chunks:
        events += feed(chunk)
    return events


# --- streams of many events -------------------------------------------------------------------


def _own_json(shape: Shape, chunks: list[bytes]) -> dict[str, Work]:
    return _typed(shape, chunks, lambda peer: partial(peer.own_json, chunks))


def _given_msgspec(shape: Shape, chunks: list[bytes]) -> dict[str, Work]:
    decode = msgspec.json.Decoder(shape.type).decode
    return _typed(shape, chunks, lambda peer: partial(peer.given, chunks, decode))


def _typed(
    shape: Shape, chunks: list[bytes], of_peer: Callable[[Any], Callable[[], object]]
) -> dict[str, Work]:
    decode = msgspec.json.Decoder(shape.type).decode
    works: dict[str, Callable[[], object]] = {
        OURS: partial(decode_all, shape.type, chunks),
        BOUND: lambda: [decode(payload) for payload in shape.payloads],
    } | {name: of_peer(peer) for name, peer in peers()[0].items()}
    check = partial(_same_events, [json.loads(payload) for payload in shape.payloads])
    return {name: Work(work, len(shape.payloads), check) for name, work in works.items()}


def _text(shape: Shape, chunks: list[bytes]) -> dict[str, Work]:
    check = partial(_same_events, [payload.decode() for payload in shape.payloads])
    works: dict[str, Work] = {
        name: Work(partial(peer.plain, chunks), len(shape.payloads), check)
        for name, peer in peers()[0].items()
        if name != "langgraph-sdk"  # which always decodes
    }

    def check_ours(events: Any) -> None:
        check([event.data for event in events])

    ours = Work(partial(decode_all, None, chunks), len(shape.payloads), check_ours)
    return {OURS: ours} | works


def _same_events(wanted: list[Any], got: Any) -> None:
    events = msgspec.to_builtins(got)
    expect(len(events), len(wanted))
    wrong = sum(a != b for a, b in zip(events, wanted, strict=True))
    if wrong:
        raise WrongResultError(f"{wrong} of {len(wanted)} events differ")


def _compare(
    settings: Settings,
    area: str,
    name: str,
    works: dict[str, Work],
    goals: list[Goal] | None = None,
) -> Comparison:
    _, missing = peers()
    return compared(
        area,
        name,
        measure(works, rounds=settings.rounds(11), seconds=settings.seconds(0.02)),
        unit="ns of CPU per event",
        per_second=NS,
        columns=[*works, *missing],
        goals=goals or (),
        notes=missing,
    )


def _odd_inputs() -> Iterator[Comparison]:
    """Nothing is timed: whether each package finds the events that the standard says are there."""
    found, missing = peers()
    for name, (chunks, wanted) in ODD_INPUTS.items():
        works = {OURS: partial(decode_all, Any, chunks)}
        works |= {peer_name: partial(peer.own_json, chunks) for peer_name, peer in found.items()}
        notes = dict(missing)
        for contender, work in works.items():
            try:
                got = work()
                notes[contender] = "right" if got == wanted else f"finds {got}"
            except Exception as error:  # noqa: BLE001 - shown in the table
                notes[contender] = complaint(error)
        columns = [*works, *missing]
        yield Comparison("odd inputs", name, "", columns, OURS, samples={}, notes=notes)


# --- one large event --------------------------------------------------------------------------


def _large(settings: Settings) -> Iterator[Comparison]:
    """The same for every package; one whose time is quadratic is stopped before it gets long."""
    found, missing = peers()
    took: dict[str, float] = {}
    before = 0
    for name, size in LARGE.items():
        if settings.quick and size > MB:
            return
        chunks = large_event(size)
        check = partial(_one_event, size)
        works = {
            OURS: Work(partial(decode_all, Any, chunks), 1, check),
            BOUND: Work(partial(_append_and_decode, chunks), 1, check),
        }
        stopped = {}
        for peer_name, peer in found.items():
            if took.get(peer_name, 0.0) * (size / (before or size)) ** 2 > PATIENCE:
                stopped[peer_name] = f"not run: {took[peer_name]:.2f} s for an eighth"
            else:
                works[peer_name] = Work(partial(peer.own_json, chunks), 1, check)
        comparison = compared(
            "one large event",
            name,
            measure(works, rounds=settings.rounds(7), seconds=settings.seconds(0.02)),
            unit="ms of CPU",
            per_second=MS,
            columns=[OURS, BOUND, *found, *missing],
            notes=missing | stopped,
        )
        took = took | {k: comparison.cost(k).median / MS for k in comparison.samples}
        before = size
        yield comparison


def _one_event(size: int, got: Any) -> None:
    expect(len(got), 1)
    expect(len(got[0]) + 2, size, "bytes")


def _append_and_decode(chunks: list[bytes]) -> list[Any]:
    whole = bytearray()
    for chunk in chunks:
        whole += chunk
    return [msgspec.json.decode(memoryview(whole)[6:-2])]


def _doubling(settings: Settings) -> Comparison:
    """What of the growth is the allocator's and the caches', the bound shows."""
    works = {}
    for name, size in DOUBLING.items():
        chunks = large_event(size)
        check = partial(_one_event, size)
        works[name] = Work(partial(decode_all, Any, chunks), 1, check)
        works[f"{name}, bound"] = Work(partial(_append_and_decode, chunks), 1, check)
    return compared(
        "doubling",
        "dynamiq_async, and appending and decoding",
        measure(works, rounds=settings.rounds(15), seconds=settings.seconds(0.02)),
        unit="ms of CPU",
        per_second=MS,
        columns=works,
        base="4 MB",
        goals=[Goal("8 MB", "4 MB", at_most=DOUBLING_GOAL)],
    )
