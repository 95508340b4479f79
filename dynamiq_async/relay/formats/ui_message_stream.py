"""The UI message stream, version 1, which `useChat` of Vercel's AI SDK and assistant-ui read.

The chunks and their rules are those of the npm package `ai`, versions 5 to 7, seen in its source.
An unknown type of chunk breaks the page's stream, so only chunks that the page's version knows are
sent.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.relay.formats.base import OnShutdown
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

    from dynamiq_async.events import Question, RunEvent, StreamEvent
    from dynamiq_async.relay.problems import EndKind, Problem

SDKVersion = Literal[5, 6, 7]

_DONE = b"data: [DONE]\n\n"
_STEP, _STEP_END = sse({"type": "start-step"}), sse({"type": "finish-step"})

# Chunks that depend on no other chunk, so `map` may add them.
_STANDALONE = frozenset({"file", "message-metadata", "source-document", "source-url"})


class UIMessageStream(PartsFormat):
    """The UI message stream v1.

    Args:
        sdk_version: the major version of `ai` in the page: 5, 6 or 7. A page also reads the chunks
            of earlier versions. Version 5 has no approvals. For it, an approval is a tool call
            `ask_approval` whose output is `{"approved": true}`. Version 7 has a chunk for answers.

    `map` may also return dicts that are chunks of this wire: `data-…`, `source-…`, `file` and
    `message-metadata`. The other arguments are those of `PartsFormat`.

    Raises:
        InvalidArgumentError: there is no such version.
    """

    headers: Mapping[str, str] = MappingProxyType(
        {
            "x-vercel-ai-ui-message-stream": "v1",
            "Access-Control-Expose-Headers": "x-vercel-ai-ui-message-stream",
        }
    )
    on_shutdown: OnShutdown = "abort"
    """`useChat` resumes by itself only after a broken connection."""

    def __init__(self, *, sdk_version: SDKVersion = 6, **options: Any) -> None:
        super().__init__(**options)
        if sdk_version not in (5, 6, 7):
            raise InvalidArgumentError(
                f"sdk_version must be 5, 6 or 7, not {sdk_version!r}", argument="sdk_version"
            )
        self._version = sdk_version

    def begun(self) -> bytes:
        run_id = self._context.run_id if self._context.of_run else None
        # With the id, the page continues the message, or rebuilds it from a replay.
        message = {} if run_id is None else {"messageId": f"run-{run_id}"}
        return sse({"type": "start", **message}) + _STEP

    def part_opened(self, part: Part) -> bytes:
        part.head = head({"type": f"{part.kind}-delta", "id": part.id}, "delta")
        return sse({"type": f"{part.kind}-start", "id": part.id})

    def part_closed(self, part: Part) -> bytes:
        return sse({"type": f"{part.kind}-end", "id": part.id})

    # With `providerExecuted`, a page neither waits for the tool's result nor sends the chat again
    # when it has the result. `dynamic` says that the page does not know the tool.
    def call_started(self, call: Call) -> bytes:
        return sse(
            {
                "type": "tool-input-start",
                "toolCallId": call.id,
                "toolName": call.name,
                "providerExecuted": True,
                "dynamic": True,
            }
        )

    def call_piece(self, call: Call, piece: str) -> bytes:
        return sse({"type": "tool-input-delta", "toolCallId": call.id, "inputTextDelta": piece})

    def call_whole(self, call: Call, input: Any) -> bytes:
        return _tool(call.id, call.name, input, providerExecuted=True)

    def call_returned(self, call: Call, output: Any) -> bytes:
        return _output(call.id, output, providerExecuted=True)

    def call_failed(self, call: Call, sentence: str) -> bytes:
        return sse(
            {
                "type": "tool-output-error",
                "toolCallId": call.id,
                "errorText": sentence,
                "providerExecuted": True,
                "dynamic": True,
            }
        )

    def asked_elsewhere(self, question: Question) -> bytes:
        self._number += 1
        id = f"question-{self._number}"
        asked = Asked(id, question)
        return _tool(id, asked.tool, asked.input, providerExecuted=True) + _output(
            id, None, providerExecuted=True
        )

    def asked(self, asked: Asked) -> bytes:
        frames = _tool(asked.id, asked.tool, asked.input)
        if asked.wants_text or self._version < 6:
            return frames
        request = {"approvalId": asked.id, "toolCallId": asked.id}
        return frames + sse({"type": "tool-approval-request", **request})

    def next_step(self) -> bytes:
        return _STEP_END + _STEP

    def paused(self, asked: Asked) -> bytes:
        return _STEP_END + self._finish("tool-calls")

    def answered(self, asked: Asked, answer: Answered) -> bytes:
        if asked.wants_text:
            return _output(asked.id, answer.feedback)
        if answer.approved is None or self._version < 6:
            return _output(asked.id, {"approved": answer.approved})
        told = b""
        if self._version >= 7:
            verdict: dict[str, Any] = {"approvalId": asked.id, "approved": answer.approved}
            if answer.feedback is not None:
                verdict["reason"] = answer.feedback
            told = sse({"type": "tool-approval-response", **verdict})
        if answer.approved:
            return told + _output(asked.id, {"approved": True})
        return told + sse({"type": "tool-output-denied", "toolCallId": asked.id})

    def unknown(self, event: StreamEvent | RunEvent) -> bytes:
        self._number += 1
        id = f"data-{self._number}"
        chunk = {"type": "data-dynamiq", "id": id, "data": event.data, "transient": True}
        return sse(chunk)

    def own(self, value: Mapping[str, Any]) -> bytes | None:
        kind = value.get("type")
        if isinstance(kind, str) and (kind in _STANDALONE or kind.startswith("data-")):
            return sse(dict(value))
        return None

    def finished(self, kind: EndKind) -> bytes:
        if kind == "failed":
            return self.broken(ENDS[kind])
        if kind == "canceled":
            reason = {} if self._version < 6 else {"reason": ENDS[kind].message}
            return _STEP_END + sse({"type": "abort", **reason}) + _DONE
        return _STEP_END + self._finish("stop")

    def broken(self, problem: Problem) -> bytes:
        return _STEP_END + sse({"type": "error", "errorText": problem.message}) + _DONE

    def _finish(self, reason: str) -> bytes:
        chunk: dict[str, Any] = {"type": "finish"}
        if self._version >= 6:
            chunk["finishReason"] = reason
        if self._usage is not None:
            chunk["messageMetadata"] = {"usage": tokens(self._usage)}
        return sse(chunk) + _DONE


def _tool(id: str, name: str, input: Any, **more: Any) -> bytes:
    chunk = {"type": "tool-input-available", "toolCallId": id, "toolName": name, "input": input}
    return sse({**chunk, "dynamic": True, **more})


def _output(id: str, output: Any, **more: Any) -> bytes:
    chunk = {"type": "tool-output-available", "toolCallId": id, "output": output}
    return sse({**chunk, "dynamic": True, **more})
