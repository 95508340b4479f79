"""The rules that the frontends' clients have for a stream, as their sources state them.

Each reader takes the bytes of a response and raises AssertionError where the real client would
raise, or where it would take a cut stream for a whole one. `wholly` says whether it has an end.
"""

from __future__ import annotations

from typing import Any

import msgspec

# The chunks of the AI SDK's UI message stream, with the fields that must be there, by the first
# major version of `ai` that knows them. Only those that the relay may send.
CHUNKS: dict[str, tuple[int, set[str]]] = {
    "start": (5, set()),
    "start-step": (5, set()),
    "finish-step": (5, set()),
    "text-start": (5, {"id"}),
    "text-delta": (5, {"id", "delta"}),
    "text-end": (5, {"id"}),
    "reasoning-start": (5, {"id"}),
    "reasoning-delta": (5, {"id", "delta"}),
    "reasoning-end": (5, {"id"}),
    "tool-input-start": (5, {"toolCallId", "toolName"}),
    "tool-input-delta": (5, {"toolCallId", "inputTextDelta"}),
    "tool-input-available": (5, {"toolCallId", "toolName", "input"}),
    "tool-output-available": (5, {"toolCallId", "output"}),
    "tool-output-error": (5, {"toolCallId", "errorText"}),
    "tool-approval-request": (6, {"approvalId", "toolCallId"}),
    "tool-output-denied": (6, {"toolCallId"}),
    "tool-approval-response": (7, {"approvalId", "approved"}),
    "finish": (5, set()),
    "abort": (5, set()),
    "error": (5, {"errorText"}),
    "message-metadata": (5, {"messageMetadata"}),
    "data-dynamiq": (5, {"data"}),
}
STRICT = {"finish": {"type", "messageMetadata"}, "abort": {"type"}}  # in version 5


def data_of(body: bytes) -> list[bytes]:
    """The data of the events in a body, which has nothing else in it but comments."""
    lines = [line for line in body.split(b"\n\n") if line and not line.startswith(b": ")]
    assert all(line.startswith(b"data: ") for line in lines)
    return [line.removeprefix(b"data: ") for line in lines]


class UIReader:
    """What `useChat` makes of a stream, and its message's parts."""

    def __init__(self, version: int = 6, parts: list[dict[str, Any]] | None = None) -> None:
        self.version = version
        self.parts = parts if parts is not None else []
        self.open: dict[str, dict[str, Any]] = {}
        self.chunks: list[dict[str, Any]] = []
        self.last = ""
        self.wholly = False

    def read(self, body: bytes) -> UIReader:
        for data in data_of(body):
            assert not self.wholly, "something follows the end"
            if data == b"[DONE]":
                assert self.last in ("finish", "abort", "error")
                self.wholly = True
            else:
                self._take(msgspec.json.decode(data))
        return self

    def _take(self, chunk: dict[str, Any]) -> None:
        kind = chunk["type"]
        since, fields = CHUNKS[kind]
        assert since <= self.version, f"{kind} is unknown to version {self.version}"
        assert fields <= chunk.keys()
        if self.version == 5 and kind in STRICT:
            assert chunk.keys() <= STRICT[kind]
        assert self.last not in ("finish", "abort", "error"), f"{kind} follows {self.last}"
        assert bool(self.chunks) is (kind != "start"), "start comes first, and once"
        self.chunks.append(chunk)
        self.last = kind
        if kind == "start-step":
            self.parts.append({"type": "step-start"})
        elif kind in ("finish", "abort", "error"):
            assert not self.open, f"{kind} while parts are open"
            for part in self._tools(self._step()):
                assert part["state"] not in ("input-streaming", "open"), "a call is open"
        elif kind.startswith(("text-", "reasoning-")):
            self._piece(chunk, *kind.split("-"))
        elif kind.startswith("tool-"):
            self._tool(chunk)

    def _step(self) -> list[dict[str, Any]]:
        starts = [n for n, part in enumerate(self.parts) if part["type"] == "step-start"]
        return self.parts[starts[-1] + 1 :] if starts else self.parts

    @staticmethod
    def _tools(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [part for part in parts if part["type"] == "dynamic-tool"]

    def _piece(self, chunk: dict[str, Any], kind: str, step: str) -> None:
        id = f"{kind} {chunk['id']}"
        if step == "start":
            assert id not in self.open
            self.open[id] = {"type": kind, "text": "", "state": "streaming"}
            self.parts.append(self.open[id])
        elif step == "delta":
            assert chunk["delta"], "an empty piece"
            self.open[id]["text"] += chunk["delta"]
        else:
            self.open.pop(id)["state"] = "done"

    def _tool(self, chunk: dict[str, Any]) -> None:
        kind = chunk["type"]
        if kind == "tool-approval-response":
            [part] = [p for p in self._tools(self.parts) if p["id"] == chunk["approvalId"]]
            part["approved"] = chunk["approved"]
            return
        found = [p for p in self._tools(self.parts) if p["id"] == chunk["toolCallId"]]
        if kind in ("tool-input-start", "tool-input-available"):
            assert chunk["dynamic"] is True
            if not found:
                part = {"type": "dynamic-tool", "id": chunk["toolCallId"], "input": ""}
                self.parts.append(part)
                found = [part]
            assert found[0].get("state") in (None, "input-streaming")
        part = found[-1]
        part["own"] = part.get("own", False) or bool(chunk.get("providerExecuted"))
        if kind == "tool-input-start":
            part |= {"name": chunk["toolName"], "state": "input-streaming"}
        elif kind == "tool-input-delta":
            assert part["state"] == "input-streaming"
            part["input"] += chunk["inputTextDelta"]
        elif kind == "tool-input-available":
            # A question for the page waits there; a call of the App's may not.
            state = "open" if part["own"] else "waits"
            part |= {"name": chunk["toolName"], "state": state, "input": chunk["input"]}
        elif kind == "tool-approval-request":
            part["state"] = "approval-requested"
        elif kind == "tool-output-available":
            part |= {"state": "output-available", "output": chunk["output"]}
        elif kind == "tool-output-error":
            part |= {"state": "output-error", "error": chunk["errorText"]}
        else:
            part["state"] = "output-denied"


BEFORE_1 = {
    "CUSTOM",
    "RAW",
    "REASONING_END",
    "REASONING_MESSAGE_CONTENT",
    "REASONING_MESSAGE_END",
    "REASONING_MESSAGE_START",
    "REASONING_START",
    "RUN_ERROR",
    "RUN_FINISHED",
    "RUN_STARTED",
    "TEXT_MESSAGE_CONTENT",
    "TEXT_MESSAGE_END",
    "TEXT_MESSAGE_START",
    "TOOL_CALL_ARGS",
    "TOOL_CALL_END",
    "TOOL_CALL_RESULT",
    "TOOL_CALL_START",
}


class AGUIReader:
    """What AG-UI's client makes of a stream."""

    def __init__(self, *, is_new: bool = False) -> None:
        self.is_new = is_new
        self.events: list[dict[str, Any]] = []
        self.texts: dict[str, str] = {}
        self._open: set[tuple[str, str]] = set()
        self.wholly = False

    def read(self, body: bytes) -> AGUIReader:
        for data in data_of(body):
            self._take(msgspec.json.decode(data))
        return self

    def _take(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        assert kind in BEFORE_1
        assert not self.wholly, f"{kind} follows the end"
        assert self.events or kind in ("RUN_STARTED", "RUN_ERROR")
        assert not self.events or kind != "RUN_STARTED"
        assert None not in event.values()
        self.events.append(event)
        if kind == "RUN_STARTED":
            assert ("protocolVersion" in event) is self.is_new
        elif kind in ("RUN_ERROR", "RUN_FINISHED"):
            assert not self._open, f"{kind} while something is open"
            outcome = event.get("outcome", {}).get("type")
            assert self.is_new or outcome in (None, "success", "interrupt")
            self.wholly = True
        elif kind.endswith("_START"):
            self._opened(event, kind.removesuffix("_START"))
        elif kind.endswith("_END"):
            self._open.remove((kind.removesuffix("_END"), self._id(event)))
        elif kind.endswith(("_CONTENT", "_ARGS")):
            key = (kind.rpartition("_")[0], self._id(event))
            assert key in self._open
            assert event["delta"], "an empty piece"
            self.texts[key[1]] += event["delta"]

    def _opened(self, event: dict[str, Any], kind: str) -> None:
        key = (kind, self._id(event))
        assert key not in self._open
        self._open.add(key)
        self.texts.setdefault(key[1], "")

    @staticmethod
    def _id(event: dict[str, Any]) -> str:
        id: str = event["toolCallId"] if "TOOL" in event["type"] else event["messageId"]
        return id
