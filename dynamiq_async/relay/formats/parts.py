"""The base of the frontends' formats: events become parts that are opened, filled and closed.

A page's library refuses a piece of a part that was not opened, and an end while a part is open. So
both wires share one state machine, and each wire only defines how to write a step. Its table:

| event | what is written |
|---|---|
| text, reasoning | a part of its node, opened once; each node has at most one open part |
| a step of a tool call | the call's start, pieces of its input, its input, its output or failure |
| an open question of a run | all open parts are closed, then the question; that is the end |
| an answered question | all open parts are closed, then the question, then a new step |
| the answer to a question | a frame that says that the question is answered |
| usage | nothing; it is added up, and the sum is written at the end |
| any other | nothing, or with `unknown_events` the whole event |
| the end, an error | all open parts are closed, then the end |

Parts are numbered in the order of the events, so their ids are the same whenever a run is relayed
from its beginning.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from dynamiq_async import errors
from dynamiq_async._json import encode
from dynamiq_async.events.app_events import StreamEvent
from dynamiq_async.events.run_events import (
    ANSWER_EVENTS,
    APPROVED,
    DELTAS,
    FEEDBACK_RECEIVED,
    RESPONSE_DELTA,
    RunEvent,
)
from dynamiq_async.relay.formats.base import Context, Format
from dynamiq_async.relay.position import Position, can_be_told

if TYPE_CHECKING:
    from dynamiq_async.events import Question, ToolCall, Usage
    from dynamiq_async.relay.problems import EndKind, Problem

Kind = Literal["text", "reasoning"]

ASK_PERSON = "ask_person"
"""The name of the tool call for a question that asks for a text."""

ASK_APPROVAL = "ask_approval"
"""The name of the tool call for a question that asks for an approval."""

TOOL_FAILED = "The tool failed."
NOT_ENDED = "The tool's end was not told."
"""Sentences for the page. A tool's own error message may name hosts and keys."""


class Part:
    """An open part. `head` is the beginning of each frame of the part, up to the piece. The wire
    sets it."""

    __slots__ = ("head", "id", "kind")

    def __init__(self, kind: Kind, id: str) -> None:
        self.kind = kind
        self.id: str = id
        self.head: bytes = b""


class Call:
    """A tool call and its state: `started`, `whole` (the input is known) or `ended`."""

    __slots__ = ("id", "name", "pieces", "state")

    def __init__(self, id: str, name: str) -> None:
        self.id: str = id
        self.name: str = name
        self.pieces: bool = False
        self.state: str = ""


class Asked:
    """A question of a run. A page's answer names its `id`: the run and the event's position."""

    __slots__ = ("id", "is_closed", "question")

    def __init__(self, id: str, question: Question) -> None:
        self.id: str = id
        self.question: Question = question
        self.is_closed: bool = False

    @property
    def wants_text(self) -> bool:
        return self.question.kind != "approval"

    @property
    def tool(self) -> str:
        return ASK_PERSON if self.wants_text else ASK_APPROVAL

    @property
    def input(self) -> dict[str, Any]:
        """The content that the page shows."""
        asked = self.question
        if self.wants_text:
            return {"prompt": asked.prompt}
        return {
            "prompt": asked.prompt,
            "params": asked.params,
            "editable_params": asked.editable_params,
        }


class Answered:
    """The answer to a question, as the run's events report it."""

    __slots__ = ("approved", "feedback")

    def __init__(self, approved: bool | None, feedback: str | None) -> None:
        self.approved: bool | None = approved
        self.feedback: str | None = feedback


class PartsFormat(Format):
    """The state machine. A subclass writes its steps, each as bytes.

    Args:
        behind: the sequence number of a question that was answered. This response continues after
            it. Earlier events are not sent again, but read, so that the parts' numbers and the
            usage are right.
        unknown_events: also send, unchanged, events that have no part in a page. They may reveal
            more about the App than the browser should know.
    """

    media_type = "text/event-stream"
    heartbeat = b": heartbeat\n\n"
    asks = True

    def __init__(self, *, behind: int | None = None, unknown_events: bool = False) -> None:
        self._behind = behind
        self._unknown_events = unknown_events
        self._context: Context
        self._begun = False
        self._number = 0
        self._open: dict[str, Part] = {}  # open parts, by node
        self._thinking: set[str] = set()  # nodes whose thought came in pieces
        self._calls: dict[str, Call] = {}
        self._asked: list[Asked] = []
        self._usage: Usage | None = None

    # Methods that a wire implements.

    @abstractmethod
    def begun(self) -> bytes:
        """The first frames of a response."""

    @abstractmethod
    def part_opened(self, part: Part) -> bytes:
        """A part begins. Sets `part.head`."""

    @abstractmethod
    def part_closed(self, part: Part) -> bytes:
        """A part ends."""

    @abstractmethod
    def call_started(self, call: Call) -> bytes:
        """A tool call begins. Its input is not known yet."""

    @abstractmethod
    def call_piece(self, call: Call, piece: str) -> bytes:
        """A piece of a tool call's input."""

    @abstractmethod
    def call_whole(self, call: Call, input: Any) -> bytes:
        """A tool call's input is known. `call.state` says whether the call was started."""

    @abstractmethod
    def call_returned(self, call: Call, output: Any) -> bytes:
        """A tool call succeeded."""

    @abstractmethod
    def call_failed(self, call: Call, sentence: str) -> bytes:
        """A tool call failed."""

    @abstractmethod
    def asked_elsewhere(self, question: Question) -> bytes:
        """A question that this page cannot answer, such as one of a root stream."""

    @abstractmethod
    def asked(self, asked: Asked) -> bytes:
        """A question of a run, open or answered."""

    @abstractmethod
    def next_step(self) -> bytes:
        """The question was answered, and the run goes on."""

    @abstractmethod
    def paused(self, asked: Asked) -> bytes:
        """The last frames of a response that waits for an answer."""

    @abstractmethod
    def answered(self, asked: Asked, answer: Answered) -> bytes:
        """The run has received the answer."""

    @abstractmethod
    def unknown(self, event: StreamEvent | RunEvent) -> bytes:
        """An event that this format has no part for."""

    @abstractmethod
    def own(self, value: Mapping[str, Any]) -> bytes | None:
        """A frame of this wire that `map` returned; None if it may not be sent."""

    @abstractmethod
    def finished(self, kind: EndKind) -> bytes:
        """The last frames of a run that ended."""

    @abstractmethod
    def broken(self, problem: Problem) -> bytes:
        """The last frames of a stream that was cut."""

    def result(self, event: StreamEvent | RunEvent) -> None:
        """The workflow's final event, before the end."""

    # Methods that the relay calls.

    def opening(self, context: Context) -> bytes:
        self._context = context
        return b"" if context.of_run else self._begin()

    def run_known(self) -> bytes:
        known = self._context.run_id is not None
        return self._begin() if known and self._context.of_run and self._behind is None else b""

    def event(self, event: Any) -> bytes:
        if self.complete:
            return b""
        if self._behind is not None:
            source = self._context.event
            if isinstance(source, RunEvent) and source.sequence <= self._behind:
                self._frames(event)
                return b""
            self._go_on()
        if self._begun:
            return self._frames(event)
        return self._begin() + self._frames(event)

    def _go_on(self) -> None:
        """From here on, everything is sent. So close all parts that the page has not received."""
        if self._behind is not None:
            self._close_all()
            self._behind = None

    def end(self, kind: EndKind) -> bytes:
        self._go_on()
        frames = self._begin() + self._close_all()
        for asked in self._asked:
            frames += self._answer(asked, Answered(None, None))
        return frames + self.finished(kind)

    def failure(self, problem: Problem, position: str | None) -> bytes:
        self._go_on()
        return self._begin() + self._close_all() + self.broken(problem)

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self.begun()

    # One event.

    def _frames(self, event: Any) -> bytes:
        if isinstance(event, StreamEvent):
            return self._stream_event(event)
        if isinstance(event, RunEvent):
            return self._run_event(event)
        if isinstance(event, str):
            return self._piece("text", "", _whole(event)) if event else b""
        frames = self.own(event) if isinstance(event, Mapping) else None
        if frames is None:
            raise errors.InvalidArgumentError(
                "with this format, what is shown of an event must be an event, text, or one of "
                f"the wire's parts that stand alone, not {_shown(event)}",
                argument="map",
            )
        return frames

    def _stream_event(self, event: StreamEvent) -> bytes:
        if event.is_final:
            self.result(event)
            return b""
        node = event.entity_id or ""
        # Search from the end, because usage tends to be there.
        if bytes(event.raw_data).rfind(b'"usage"') >= 0:
            self._add_usage(event)
        if text := event.text:
            return self._piece("text", node, text)
        if reasoning := event.reasoning:
            self._thinking.add(node)
            return self._piece("reasoning", node, reasoning)
        frames = self._thought(node, event.thought)
        if (call := event.tool_call) is not None:
            return frames + self._call(node, call)
        if (question := event.question) is not None:
            return frames + self._question(question, None)
        return frames or self._unknown(event)

    def _thought(self, node: str, thought: str) -> bytes:
        """A finished thought, which repeats its pieces if there were any."""
        if not thought:
            return b""
        told = node in self._thinking
        self._thinking.discard(node)
        return (b"" if told else self._piece("reasoning", node, thought)) + self._close(node)

    def _run_event(self, event: RunEvent) -> bytes:
        kind = event.type
        if kind in DELTAS:
            is_text = kind == RESPONSE_DELTA
            piece = event.text if is_text else event.reasoning
            node = self._node(event)
            return self._piece("text" if is_text else "reasoning", node, piece) if piece else b""
        if b'"usage"' in bytes(event.raw_data):
            self._add_usage(event)
        if event.is_final:
            self.result(event)
            return b""
        if (call := event.tool_call) is not None:
            return self._call(self._node(event), call)
        if (question := event.question) is not None:
            return self._question(question, event.sequence)
        if kind in ANSWER_EVENTS:
            return self._received(event)
        return self._unknown(event)

    @staticmethod
    def _node(event: RunEvent) -> str:
        # Decoding this costs as much as the rest of an event, and few events have it.
        named = b'"entity_id"' in bytes(event.raw_data)
        return (event.entity_id or "") if named else ""

    def _add_usage(self, event: StreamEvent | RunEvent) -> None:
        if (told := event.usage) is not None:
            self._usage = told if self._usage is None else self._usage + told

    def _unknown(self, event: StreamEvent | RunEvent) -> bytes:
        return self.unknown(event) if self._unknown_events else b""

    # Parts.

    def _piece(self, kind: Kind, node: str, piece: str) -> bytes:
        part = self._open.get(node)
        if part is not None and part.kind == kind:
            return b"%b%b}\n\n" % (part.head, encode(piece, "map"))
        frames = self._close(node)
        self._number += 1
        part = self._open[node] = Part(kind, f"{kind}-{self._number}")
        frames += self.part_opened(part)
        return b"%b%b%b}\n\n" % (frames, part.head, encode(piece, "map"))

    def _close(self, node: str) -> bytes:
        part = self._open.pop(node, None)
        return b"" if part is None else self.part_closed(part)

    def _close_all(self) -> bytes:
        frames = [self._close(node) for node in list(self._open)]
        frames += [self._fail(call, NOT_ENDED, None) for call in list(self._calls.values())]
        return b"".join(frames)

    # Tool calls.

    def _call(self, node: str, told: ToolCall) -> bytes:
        frames = self._close(node)
        call = self._call_of(told)
        if told.status == "completed":
            frames += self._whole(call, told.input)
            call.state = "ended"
            frames += self.call_returned(call, told.output)
        elif told.status == "failed":
            frames += self._fail(call, TOOL_FAILED, told.input)
        elif told.status == "called":
            frames += self._whole(call, told.input)
        else:
            frames += self._begin_call(call)
            piece = told.input
            if told.status == "input" and call.state == "started" and piece:
                call.pieces = True
                text = piece if isinstance(piece, str) else encode(piece, "map").decode()
                frames += self.call_piece(call, text)
        return frames

    def _call_of(self, told: ToolCall) -> Call:
        """The call that this step belongs to. A call without an id is identified by its name. After
        a call has ended, the next step belongs to a new call, even with the same id."""
        key = told.id or f" {told.name}"
        call = self._calls.get(key)
        if call is None or call.state == "ended":
            self._number += 1
            is_new = told.id and call is None
            id = told.id if is_new else f"{told.id or 'call'}-{self._number}"
            call = self._calls[key] = Call(id, told.name or "tool")
        return call

    def _begin_call(self, call: Call) -> bytes:
        if call.state:
            return b""
        call.state = "started"
        return self.call_started(call)

    def _whole(self, call: Call, input: Any) -> bytes:
        if call.state in ("whole", "ended"):
            return b""
        frames = self.call_whole(call, {} if input is None else input)
        call.state = "whole"
        return frames

    def _fail(self, call: Call, sentence: str, input: Any) -> bytes:
        if call.state == "ended":
            return b""
        frames = self._whole(call, input)
        call.state = "ended"
        return frames + self.call_failed(call, sentence)

    # Questions.

    def _question(self, question: Question, sequence: int | None) -> bytes:
        frames = self._close_all()
        run_id = self._context.run_id
        if sequence is None or run_id is None or not can_be_told(run_id):
            return frames + self.asked_elsewhere(question)
        asked = Asked(str(Position(run_id, sequence)), question)
        self._asked.append(asked)
        frames += self.asked(asked)
        answered = self._behind is not None or sequence in self._context.answered
        if answered:
            return frames + self.next_step()
        self.complete = True
        return frames + self.paused(asked)

    def _received(self, event: RunEvent) -> bytes:
        data = event.data if isinstance(event.data, dict) else {}
        waiting = (a for a in self._asked if not a.is_closed)
        asked = next((a for a in waiting if a.question.id == data.get("request_id")), None)
        if asked is None:
            return b""
        approved = None if event.type == FEEDBACK_RECEIVED else event.type == APPROVED
        feedback = data.get("feedback")
        told = Answered(approved, feedback if isinstance(feedback, str) else None)
        return self._answer(asked, told)

    def _answer(self, asked: Asked, answer: Answered) -> bytes:
        if asked.is_closed:
            return b""
        asked.is_closed = True
        return self.answered(asked, answer)


def sse(chunk: dict[str, Any]) -> bytes:
    """A frame of one JSON object."""
    return b"data: %b\n\n" % encode(chunk, "map")


def head(chunk: dict[str, Any], field: str) -> bytes:
    """The beginning of such a frame, up to the value of its last field."""
    return b'data: %b,"%b":' % (encode(chunk, "map")[:-1], field.encode())


def tokens(usage: Usage) -> dict[str, int]:
    """Usage under the names that pages know."""
    named = {
        "inputTokens": usage.prompt_tokens,
        "outputTokens": usage.completion_tokens,
        "totalTokens": usage.total_tokens,
    }
    return {name: count for name, count in named.items() if count is not None}


def _whole(text: str) -> str:
    """`text` without lone surrogates, which JSON cannot express."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _shown(event: Any) -> str:
    kind = event.get("type") if isinstance(event, Mapping) else None
    return repr(kind) if isinstance(kind, str) else type(event).__name__
