"""AG-UI, version 1.0 and before, which CopilotKit, TanStack AI and assistant-ui read.

The events and their rules are those of the npm package `@ag-ui/client`, 1.0.0 and 0.0.59, seen in
its source. Version 0.0.59 fails on an event or an outcome that it does not know. So newer events
are sent only to a page whose request names its version.

Before an interrupt, a producer should send `MESSAGES_SNAPSHOT`, but this one does not. Both clients
drop every message that is not in the snapshot, even the person's own, and a relay knows only one
run of the thread. The page has all messages of the run without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dynamiq_async._json import encode
from dynamiq_async.events.run_events import RunEvent
from dynamiq_async.relay.formats.parts import (
    Answered,
    Asked,
    Call,
    Part,
    PartsFormat,
    head,
    sse,
    tokens,
)
from dynamiq_async.relay.problems import ENDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async.events import Question, StreamEvent
    from dynamiq_async.relay.problems import EndKind, Problem

# Events that depend on no other event, so `map` may add them.
_STANDALONE = frozenset(
    {
        "ACTIVITY_DELTA",
        "ACTIVITY_SNAPSHOT",
        "CUSTOM",
        "MESSAGES_SNAPSHOT",
        "RAW",
        "STATE_DELTA",
        "STATE_SNAPSHOT",
    }
)


class AGUI(PartsFormat):
    """AG-UI.

    Args:
        thread_id, run_id: the ids in the page's request, which the response repeats; by default
            both are the id of the App's run.
        protocol_version: the version in the page's request. Pages before 1.0 send none.
        behind, unknown_events: as for `PartsFormat`. Unknown events are sent as `RAW`.

    A `CUSTOM` event named `dynamiq.run` has the id of the App's run. `map` may also return dicts
    that are AG-UI events: `CUSTOM`, `RAW`, `STATE_…`, `ACTIVITY_…`, `MESSAGES_SNAPSHOT`.
    """

    def __init__(
        self,
        *,
        thread_id: str | None = None,
        run_id: str | None = None,
        protocol_version: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._thread_id = thread_id
        self._run_id = run_id
        self._is_new = (protocol_version or "0.").partition(".")[0] not in ("", "0")
        self._output: Any = None
        self._prefix = ""

    def begun(self) -> bytes:
        run = self._context.run_id if self._context.of_run else None
        own = run or self._run_id or str(uuid4())
        self._run_id = self._run_id or own
        self._thread_id = self._thread_id or own
        # Messages of a thread must not have the same id.
        self._prefix = f"run-{own}"
        version = {"protocolVersion": "1.0"} if self._is_new else {}
        frames = self._of_run("RUN_STARTED", **version)
        if run is not None:
            frames += sse({"type": "CUSTOM", "name": "dynamiq.run", "value": {"run": run}})
        return frames

    def _of_run(self, type: str, **fields: Any) -> bytes:
        known = {name: value for name, value in fields.items() if value is not None}
        return sse({"type": type, "threadId": self._thread_id, "runId": self._run_id, **known})

    def part_opened(self, part: Part) -> bytes:
        id = f"{self._prefix}-{part.id}"
        if part.kind == "text":
            part.head = head({"type": "TEXT_MESSAGE_CONTENT", "messageId": id}, "delta")
            return sse({"type": "TEXT_MESSAGE_START", "messageId": id, "role": "assistant"})
        part.head = head({"type": "REASONING_MESSAGE_CONTENT", "messageId": id}, "delta")
        start = {"type": "REASONING_MESSAGE_START", "messageId": id, "role": "reasoning"}
        return sse({"type": "REASONING_START", "messageId": id}) + sse(start)

    def part_closed(self, part: Part) -> bytes:
        id = f"{self._prefix}-{part.id}"
        if part.kind == "text":
            return sse({"type": "TEXT_MESSAGE_END", "messageId": id})
        end = sse({"type": "REASONING_MESSAGE_END", "messageId": id})
        return end + sse({"type": "REASONING_END", "messageId": id})

    def call_started(self, call: Call) -> bytes:
        id = self._id(call)
        return sse({"type": "TOOL_CALL_START", "toolCallId": id, "toolCallName": call.name})

    def _id(self, call: Call) -> str:
        # Calls of a thread must have different ids, but two runs may use the same id.
        return f"{self._prefix}-{call.id}"

    def call_piece(self, call: Call, piece: str) -> bytes:
        return sse({"type": "TOOL_CALL_ARGS", "toolCallId": self._id(call), "delta": piece})

    def call_whole(self, call: Call, input: Any) -> bytes:
        frames = b"" if call.state else self.call_started(call)
        if not call.pieces:
            frames += self.call_piece(call, encode(input, "map").decode())
        return frames + sse({"type": "TOOL_CALL_END", "toolCallId": self._id(call)})

    def call_returned(self, call: Call, output: Any) -> bytes:
        return _result(self._id(call), output)

    def call_failed(self, call: Call, sentence: str) -> bytes:
        return _result(self._id(call), sentence)

    def asked_elsewhere(self, question: Question) -> bytes:
        self._number += 1
        return self._tool(Asked(f"question-{self._number}", question))

    def asked(self, asked: Asked) -> bytes:
        return b"" if asked.wants_text else self._tool(asked)

    def _tool(self, asked: Asked) -> bytes:
        return self.call_whole(_call(asked), asked.input)

    def next_step(self) -> bytes:
        return b""

    def paused(self, asked: Asked) -> bytes:
        interrupt: dict[str, Any] = {"id": asked.id, "message": asked.question.prompt}
        if asked.wants_text:
            interrupt |= {"reason": "input_required", "responseSchema": _FEEDBACK}
        else:
            schema = _approval(asked.question.editable_params)
            interrupt |= {
                "reason": "tool_call",
                "toolCallId": self._id(_call(asked)),
                "responseSchema": schema,
            }
        outcome = {"type": "interrupt", "interrupts": [interrupt]}
        return self._of_run("RUN_FINISHED", outcome=outcome, usage=self._told_usage)

    def answered(self, asked: Asked, answer: Answered) -> bytes:
        if asked.wants_text:
            return b""
        return _result(self._id(_call(asked)), {"approved": answer.approved})

    def unknown(self, event: StreamEvent | RunEvent) -> bytes:
        return sse({"type": "RAW", "event": event.data, "source": "dynamiq"})

    def own(self, value: Mapping[str, Any]) -> bytes | None:
        return sse(dict(value)) if value.get("type") in _STANDALONE else None

    def result(self, event: StreamEvent | RunEvent) -> None:
        # Only the nodes' outputs: their inputs and failures are not for the page.
        if nodes := event.nodes:
            came = {id: node.output for id, node in nodes.items() if node.status == "success"}
            self._output = came
        elif isinstance(event, RunEvent):
            self._output = event.state.output if event.state is not None else None
        else:
            self._output = event.data

    def finished(self, kind: EndKind) -> bytes:
        if kind == "failed":
            return self.broken(ENDS[kind])
        usage = self._told_usage
        if kind == "completed":
            outcome = {"type": "success"}
            return self._of_run("RUN_FINISHED", result=self._output, outcome=outcome, usage=usage)
        if self._is_new:
            return self._of_run("RUN_FINISHED", outcome={"type": "cancelled"}, usage=usage)
        return _error(ENDS[kind].message, "cancelled")

    def broken(self, problem: Problem) -> bytes:
        code = "restart" if self._context.stopping else problem.code
        return _error(problem.message, code)

    @property
    def _told_usage(self) -> list[dict[str, int]] | None:
        return None if self._usage is None else [tokens(self._usage)]


_FEEDBACK = {
    "type": "object",
    "properties": {"feedback": {"type": "string"}},
    "required": ["feedback"],
}


def _call(asked: Asked) -> Call:
    """The call that shows a question. The prefix of all call ids already has the run."""
    return Call(f"question-{asked.id.rpartition(':')[2]}", asked.tool)


def _approval(editable: list[str]) -> dict[str, Any]:
    """The schema of an approval's answer, with edited parameters only if some are editable."""
    properties: dict[str, Any] = {"approved": {"type": "boolean"}}
    if editable:
        properties["editedArgs"] = {"type": "object"}
    return {"type": "object", "properties": properties, "required": ["approved"]}


def _result(call_id: str, output: Any) -> bytes:
    content = output if isinstance(output, str) else encode(output, "map").decode()
    return sse(
        {
            "type": "TOOL_CALL_RESULT",
            "messageId": f"{call_id}-result",
            "toolCallId": call_id,
            "content": content,
            "role": "tool",
        }
    )


def _error(message: str, code: str) -> bytes:
    return sse({"type": "RUN_ERROR", "message": message, "code": code})
