"""The SSE decoder against the least that is possible and against httpx-sse.

    python -m benchmarks.decoder [--quick] [--only TEXT]

"bound" is msgspec's decode alone, of payloads that somebody has already split; for events without
JSON, where there is no such bound, the columns stay empty. httpx-sse reads the same chunks through
an `httpx.Response`, as its users do, and decodes with `json.loads`. Times are nanoseconds of CPU
per event; a ratio is one of medians over interleaved rounds. Every contender has to deliver
exactly the events that were sent.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import httpx_sse
import msgspec

from benchmarks._measure import header, measure, peak_memory, table
from dynamiq_async.sse import SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENTS = 1_000


# --- the two shapes: a root message and a run event ----------------------------------------------


class Source(msgspec.Struct, gc=False):
    id: str
    name: str
    group: str
    type: str


class Delta(msgspec.Struct, gc=False):
    content: str
    source: str
    step: str


class Choice(msgspec.Struct, gc=False):
    delta: Delta


class Choices(msgspec.Struct, gc=False):
    choices: list[Choice]


class Message(msgspec.Struct, gc=False):
    run_id: str | None
    wf_run_id: str
    entity_id: str | None
    data: Choices
    event: str
    source: Source | None


class ReasoningDelta(msgspec.Struct, gc=False):
    object: str
    delta: str
    iteration: int


class RunEvent(msgspec.Struct, gc=False):
    id: str
    type: str
    sequence: int
    timestamp: str
    data: ReasoningDelta


def root_payload(number: int) -> bytes:
    source = Source("agent-1", "Support Agent", "agents", "dynamiq.nodes.agents.Agent")
    return msgspec.json.encode(
        Message(
            run_id="eb2fc06b-49e5-4618-a8f0-3c38d086b367",
            wf_run_id="38022612-a7f9-4a04-96ae-88c34abf8e16",
            entity_id="agent-1",
            data=Choices([Choice(Delta(f"piece {number} of the answer", source.name, "answer"))]),
            event="data",
            source=source,
        )
    )


def run_payload(number: int) -> bytes:
    delta = "The customer asked for the tier of an account, so I look it up in the list. " * 2
    return msgspec.json.encode(
        RunEvent(
            id=f"0198c0de-0000-7000-8000-{number:012}",
            type="agent.reasoning.delta",
            sequence=number,
            timestamp="2025-08-19T10:51:22.123456789Z",
            data=ReasoningDelta("agent.reasoning.delta", delta[: 60 + number % 40], 1),
        )
    )


ROOT = [root_payload(number) for number in range(1, EVENTS + 1)]
RUN = [run_payload(number) for number in range(1, EVENTS + 1)]


def stream(payloads: list[bytes], frame: str, end: str = "\n") -> list[bytes]:
    """Each payload's block: `frame`, with `{data}` and `{n}` filled in."""
    head, _, foot = frame.replace("\n", end).partition("{data}")
    return [
        head.replace("{n}", str(n)).encode() + payload + foot.encode()
        for n, payload in enumerate(payloads, 1)
    ]


def folded(payloads: list[bytes]) -> list[bytes]:
    """Blocks whose JSON is spread over four `data` lines."""
    return [
        b"".join(b"data: %b\n" % line for line in payload.replace(b',"', b',\n"', 3).split(b"\n"))
        + b"\n"
        for payload in payloads
    ]


S1 = stream(ROOT, "data: {data}\n\n")
S2 = stream(RUN, "event: agent.reasoning.delta\ndata: {data}\n\n")
SHAPES: dict[str, tuple[Any, list[bytes], list[bytes]]] = {
    "S1": (Message, ROOT, S1),
    "S2": (RunEvent, RUN, S2),
    "S2 with id": (
        RunEvent,
        RUN,
        stream(RUN, "event: agent.reasoning.delta\nid: {n}\ndata: {data}\n\n"),
    ),
    "S1 CRLF": (Message, ROOT, stream(ROOT, "data: {data}\n\n", "\r\n")),
    "S2 CRLF": (
        RunEvent,
        RUN,
        stream(RUN, "event: agent.reasoning.delta\ndata: {data}\n\n", "\r\n"),
    ),
    "S1 heartbeats": (Message, ROOT, stream(ROOT, "data: {data}\n\n: heartbeat\n\n")),
    "S2 heartbeats": (
        RunEvent,
        RUN,
        stream(RUN, "event: agent.reasoning.delta\ndata: {data}\n\n: heartbeat\n\n"),
    ),
    "S1 in 4 lines": (Message, ROOT, folded(ROOT)),
    "S1 no JSON": (None, ROOT, S1),
    "S2 no JSON": (None, RUN, S2),
}
CHUNKINGS = {"event": 0, "64 B": 64, "1.4 KB": 1400, "16 KB": 16 * 1024, "64 KB": 64 * 1024}


def chunked(blocks: list[bytes], size: int) -> list[bytes]:
    """The stream in chunks of `size` bytes, or one block a chunk for 0."""
    if not size:
        return blocks
    whole = b"".join(blocks)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


# --- the contenders ------------------------------------------------------------------------------


def ours(type: Any, chunks: list[bytes]) -> list[Any]:
    feed = SSEDecoder(type).feed
    events: list[Any] = []
    for chunk in chunks:
        events += feed(chunk)
    return events


def read_httpx_sse(type: Any, chunks: list[bytes]) -> list[Any]:
    response = httpx.Response(
        200, headers={"content-type": "text/event-stream"}, content=iter(chunks)
    )
    # Its decoder reports an empty event for the heartbeat behind an id; none is sent here.
    events = httpx_sse.EventSource(response).iter_sse()
    if type is None:
        return list(events)
    return [json.loads(event.data) for event in events]


def contenders(
    type: Any,
    payloads: list[bytes],
    chunks: list[bytes],
) -> dict[str, Callable[[], list[Any]]]:
    works: dict[str, Callable[[], list[Any]]] = {
        "ours": lambda: ours(type, chunks),
        "httpx-sse": lambda: read_httpx_sse(type, chunks),
    }
    if type is not None:
        decode = msgspec.json.Decoder(type).decode
        works["bound"] = lambda: [decode(payload) for payload in payloads]
    return works


def check(name: str, payloads: list[bytes], works: dict[str, Callable[[], list[Any]]]) -> None:
    wanted = [json.loads(payload) for payload in payloads]
    for contender, work in works.items():
        events = work()
        if events and hasattr(events[0], "retry"):
            got = [json.loads(event.data) for event in events]
        else:
            got = msgspec.to_builtins(events)
        if got != wanted:
            raise AssertionError(f"{contender} did not deliver the events of {name}")


# --- the tables ----------------------------------------------------------------------------------


def throughput(*, quick: bool, only: str) -> Iterator[list[str]]:
    for shape, (type_, payloads, blocks) in SHAPES.items():
        for chunking, size in CHUNKINGS.items():
            name = f"{shape}, {chunking}"
            if only not in name:
                continue
            works = contenders(type_, payloads, chunked(blocks, size))
            check(name, payloads, works)
            times = measure(
                works, rounds=5 if quick else 15, sample_seconds=0.005 if quick else 0.03
            )
            each = {key: timing.median / len(payloads) * 1e9 for key, timing in times.items()}
            bound = "bound" in times
            yield [
                name,
                f"{each['bound']:.0f}" if bound else "",
                f"{each['ours']:.0f}",
                f"{times['ours'].spread:.0%}",
                f"{times['ours'] / times['bound']:.2f}" if bound else "",
                f"{each['httpx-sse']:.0f}",
                f"{times['httpx-sse'] / times['ours']:.1f}",
            ]


def linearity(*, quick: bool) -> Iterator[list[str]]:
    """One event of 1 to 8 MB in chunks of 1 KB: the time per megabyte has to stay the same.

    The bound here is appending the chunks to a bytearray and decoding that. It shows what of the
    growth is the allocator's and the caches': the ratio to it must not rise with the size.
    """
    sizes = (1, 2, 4, 8)
    chunks = {
        size: chunked([b'data: "' + b"x" * (size * 1_000_000) + b'"\n\n'], 1024) for size in sizes
    }
    works: dict[str, Callable[[], object]] = {}
    for size in sizes:
        works[f"{size}"] = partial(ours, str, chunks[size])
        works[f"{size} bound"] = partial(append_and_decode, chunks[size])
        (event,) = ours(str, chunks[size])
        assert len(event) == size * 1_000_000
    times = measure(works, rounds=3 if quick else 15)
    for size in sizes:
        timing, half = times[f"{size}"], times.get(f"{size // 2}")
        peak = peak_memory(works[f"{size}"])
        yield [
            f"{size} MB",
            f"{timing.median * 1e3:.1f}",
            f"{timing / half:.2f}" if half else "",
            f"{timing / times[f'{size} bound']:.2f}",
            f"{peak / 1e6:.1f}",
            f"{peak / (size * 1e6):.2f}",
        ]


def append_and_decode(chunks: list[bytes]) -> object:
    whole = bytearray()
    for chunk in chunks:
        whole += chunk
    return msgspec.json.decode(memoryview(whole)[6:-2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.decoder")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", default="", help="only rows whose name contains this")
    options = parser.parse_args()
    print(header("msgspec", "httpx", "httpx-sse"), end="\n\n")
    columns = ["ns per event", "bound", "ours", "±", "ours/bound", "httpx-sse", "httpx-sse/ours"]
    print(table(columns, throughput(quick=options.quick, only=options.only)), end="\n\n")
    columns = ["one event in 1 KB chunks", "ms", "to half the size", "to bound", "peak MB"]
    columns.append("peak/size")
    print(table(columns, linearity(quick=options.quick)))


if __name__ == "__main__":
    main()
