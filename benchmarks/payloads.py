"""The events that everything is measured with, and the chunks they come in.

S1 is an agent's piece of an answer on an App's root endpoint, S2 an event of a run, S3 an LLM
node's chunk on the root endpoint.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

CHUNKINGS = {
    "one event a chunk": 0,
    "64 B": 64,
    "1.4 KB": 1400,
    "16 KB": 16 * 1024,
    "64 KB": 64 * 1024,
}


class Source(Struct, gc=False):
    id: str
    name: str
    group: str
    type: str


class Delta(Struct, gc=False):
    content: str
    source: str
    step: str


class Choice(Struct, gc=False):
    delta: Delta


class Choices(Struct, gc=False):
    choices: list[Choice]


class Message(Struct, gc=False):
    """S1."""

    run_id: str | None
    wf_run_id: str
    entity_id: str | None
    data: Choices
    event: str
    source: Source | None


class ReasoningDelta(Struct, gc=False):
    object: str
    delta: str
    iteration: int


class RunEvent(Struct, gc=False):
    """S2."""

    id: str
    type: str
    sequence: int
    timestamp: str
    data: ReasoningDelta


class ChunkDelta(Struct, gc=False):
    content: str | None
    provider_specific_fields: None = None
    refusal: str | None = None
    role: str | None = None
    function_call: None = None
    tool_calls: None = None
    audio: None = None


class ChunkChoice(Struct, gc=False):
    delta: ChunkDelta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class Completion(Struct, gc=False):
    id: str
    created: int
    model: str
    object: str
    choices: list[ChunkChoice]
    system_fingerprint: str | None = None
    provider_specific_fields: None = None
    citations: None = None
    moderation: None = None
    service_tier: None = None


class ChunkMessage(Struct, gc=False):
    """S3."""

    run_id: str | None
    wf_run_id: str
    entity_id: str | None
    data: Completion
    event: str
    source: Source | None


_IDS = ("eb2fc06b-49e5-4618-a8f0-3c38d086b367", "38022612-a7f9-4a04-96ae-88c34abf8e16")
_AGENT = Source("agent-1", "Support Agent", "agents", "dynamiq.nodes.agents.Agent")
_LLM = Source("llm-1", "OpenAI", "llms", "dynamiq.nodes.llms.OpenAI")
_THOUGHT = "The customer asked for the tier of an account, so I look it up in the list. " * 2


def message(number: int) -> bytes:
    delta = Delta(f"piece {number} of the answer", _AGENT.name, "answer")
    return msgspec.json.encode(Message(*_IDS, _AGENT.id, Choices([Choice(delta)]), "data", _AGENT))


def run_event(number: int) -> bytes:
    return msgspec.json.encode(
        RunEvent(
            id=f"0198c0de-0000-7000-8000-{number:012}",
            type="agent.reasoning.delta",
            sequence=number,
            timestamp="2025-08-19T10:51:22.123456789Z",
            data=ReasoningDelta("agent.reasoning.delta", _THOUGHT[: 60 + number % 40], 1),
        )
    )


def llm_chunk(number: int) -> bytes:
    completion = Completion(
        id="chatcmpl-8kq2",
        created=1795303986,
        model="gpt-4o-mini",
        object="chat.completion.chunk",
        choices=[ChunkChoice(ChunkDelta(f"word {number} "))],
    )
    return msgspec.json.encode(ChunkMessage(*_IDS, _LLM.id, completion, "data", _LLM))


# The last events of a stream, as the services send them.
FINAL_MESSAGE = (
    b'{"run_id":null,"wf_run_id":"38022612-a7f9-4a04-96ae-88c34abf8e16","entity_id":null,"data":'
    b'{"agent-1":{"status":"success","input":{},"output":{"content":"Pro."}}},"event":"streaming",'
    b'"source":{"id":"wf-1","name":"Support","group":"workflows",'
    b'"type":"dynamiq.workflows.Workflow"}}'
)


def final_run_event(number: int) -> bytes:
    return (
        b'{"id":"0198c0de-0000-7000-8000-%012d","type":"run.completed","sequence":%d,'
        b'"timestamp":"2025-08-19T10:51:22.123456789Z",'
        b'"data":{"id":"run-1","object":"run","status":"completed","output":"Pro."}}'
    ) % (number, number)


class Shape(NamedTuple):
    """Events of one kind: their JSON, the type it decodes to, and the blocks on the wire."""

    type: Any
    payloads: list[bytes]
    blocks: list[bytes]


_ROOT = "data: {data}\n\n"
_RUN = "event: agent.reasoning.delta\ndata: {data}\n\n"
_RUN_WITH_ID = "event: agent.reasoning.delta\nid: {n}\ndata: {data}\n\n"
_HEARTBEAT = ": heartbeat\n\n"


def framed(payloads: list[bytes], frame: str, end: str = "\n") -> list[bytes]:
    """Each payload's block: `frame`, with `{data}` and `{n}` filled in."""
    head, _, foot = frame.replace("\n", end).partition("{data}")
    return [
        head.replace("{n}", str(n)).encode() + payload + foot.encode()
        for n, payload in enumerate(payloads, 1)
    ]


def _folded(payloads: list[bytes]) -> list[bytes]:
    """Blocks whose JSON is spread over four `data` lines."""
    return [
        b"".join(b"data: %b\n" % line for line in payload.replace(b',"', b',\n"', 3).split(b"\n"))
        + b"\n"
        for payload in payloads
    ]


def shapes(events: int) -> dict[str, Shape]:
    """Every shape, `events` of each."""
    numbers = range(1, events + 1)
    root, run, llm = ([make(n) for n in numbers] for make in (message, run_event, llm_chunk))
    return {
        "S1": Shape(Message, root, framed(root, _ROOT)),
        "S2": Shape(RunEvent, run, framed(run, _RUN)),
        "S2 with id": Shape(RunEvent, run, framed(run, _RUN_WITH_ID)),
        "S3": Shape(ChunkMessage, llm, framed(llm, _ROOT)),
        "S1, CRLF": Shape(Message, root, framed(root, _ROOT, "\r\n")),
        "S2, CRLF": Shape(RunEvent, run, framed(run, _RUN, "\r\n")),
        "S1, heartbeats": Shape(Message, root, framed(root, _ROOT + _HEARTBEAT)),
        "S2 with id, heartbeats": Shape(RunEvent, run, framed(run, _RUN_WITH_ID + _HEARTBEAT)),
        "S1 in 4 data lines": Shape(Message, root, _folded(root)),
    }


def chunked(blocks: list[bytes], size: int) -> list[bytes]:
    """The stream in chunks of `size` bytes, or one block a chunk for 0."""
    if not size:
        return blocks
    whole = b"".join(blocks)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


ODD_INPUTS: dict[str, tuple[list[bytes], list[str]]] = {
    "a heartbeat behind an id": ([b'id: 1\ndata: "a"\n\n: heartbeat\n\ndata: "b"\n\n'], ["a", "b"]),
    "no space behind the colon": ([b'data:"a"\n\n'], ["a"]),
    "U+2028 in a text": (['data: "a\u2028b"\n\n'.encode()], ["a\u2028b"]),
    "UTF-8 cut between chunks": ([b'data: "\xc3', b'\xa9"\n\n'], ["\xe9"]),
    "lines that end in CR": ([b'data: "a"\r\rdata: "b"\r\r'], ["a", "b"]),
    "CRLF cut between chunks": ([b'data: "a"\r', b"\n\r", b'\ndata: "b"\r\n\r\n'], ["a", "b"]),
    "a byte order mark": ([b'\xef\xbb\xbfdata: "a"\n\n'], ["a"]),
    "a heartbeat on two lines": ([b': one\n: two\n\ndata: "a"\n\n'], ["a"]),
    "an event without data": ([b'event: ping\n\ndata: "a"\n\n'], ["a"]),
    "an event cut off by the end": ([b'data: "a"\n\ndata: "b"\n'], ["a"]),
}
"""Chunks of which the standard leaves no doubt what events are in them, and their data."""


def large_event(size: int, chunk: int = 1024) -> list[bytes]:
    """One event whose data is a JSON text of `size` bytes, in chunks."""
    return chunked([b'data: "' + b"x" * (size - 2) + b'"\n\n'], chunk)
