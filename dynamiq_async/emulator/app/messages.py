"""The messages of a workflow as the vendor's library streams them.

Their shapes are taken from streams of real workflows of the library. `data/` has one message of
each kind.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from ..core.ids import new_hex

Message = dict[str, Any]
Source = Mapping[str, Any]

WORKFLOW = "dynamiq.workflows.Workflow"
"""The type of a workflow in the `source` of its own messages."""

NODE = "node-1"
"""The node of an App that does not name its nodes."""


def node_source(id: str, name: str, group: str, type: str) -> Source:
    """The `source` of a node's messages."""
    return {"id": id, "name": name, "group": group, "type": type}


def llm_source(id: str = "llm-1", name: str = "OpenAI") -> Source:
    """The `source` of a language model's messages."""
    return node_source(id, name, "llms", "dynamiq.nodes.llms.OpenAI")


def tool_source(id: str, name: str, type: str = "Python") -> Source:
    """The `source` of a tool's messages."""
    return node_source(id, name, "tools", f"dynamiq.nodes.tools.{type}")


def workflow_source(id: str, name: str) -> Source:
    """The `source` of a workflow's own message, the last one of a run."""
    return {"id": id, "name": name, "group": None, "type": WORKFLOW}


@cache
def captured(name: str) -> tuple[Any, ...]:
    """The lines of a data file, decoded."""
    lines = files(__package__).joinpath("data", name).read_bytes().splitlines()
    return tuple(msgspec.json.decode(line) for line in lines)


@cache
def _llm_chunks() -> Mapping[str, Message]:
    return {line["name"]: line["data"] for line in captured("llm.jsonl")}


_USD_IN, _USD_OUT = 0.15e-6, 0.6e-6
"""The price of a prompt token and of a completion token, for the model in `llm.jsonl`."""


class LLMChunks:
    """The OpenAI chunks of one completion."""

    def __init__(self) -> None:
        self._id = f"chatcmpl-{new_hex()}"
        self._created = int(time.time())

    def opening(self) -> Message:
        """The first chunk: the role, and no text yet."""
        return self._chunk("opening")

    def text(self, content: str) -> Message:
        """A piece of the text."""
        chunk = self._chunk("text")
        choice = chunk["choices"][0]
        delta = {**choice["delta"], "content": content}
        return {**chunk, "choices": [{**choice, "delta": delta}]}

    def stop(self) -> Message:
        """The chunk that says why the model stopped."""
        return self._chunk("stop")

    def usage(self, *, prompt_tokens: int, completion_tokens: int) -> Message:
        """The last chunk, with the tokens used."""
        chunk = self._chunk("usage")
        usage = {
            **chunk["usage"],
            "completion_tokens": completion_tokens,
            "prompt_tokens": prompt_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "cost": round(prompt_tokens * _USD_IN + completion_tokens * _USD_OUT, 12),
        }
        return {**chunk, "usage": usage}

    def _chunk(self, name: str) -> Message:
        return {**_llm_chunks()[name], "id": self._id, "created": self._created}


def agent_chunk(content: Any, *, source: str, step: str) -> Message:
    """An agent's chunk."""
    return {"choices": [{"delta": {"content": content, "source": source, "step": step}}]}


def pieces(text: str, length: int = 7) -> list[str]:
    """`text` cut up as a model would stream it."""
    return [text[start : start + length] for start in range(0, len(text), length)]


def node_result(
    status: str, input: Any, output: Any, error: Mapping[str, Any] | None = None
) -> Message:
    """A node's entry in the output of a workflow."""
    result = {"status": status, "input": input, "output": output}
    return {**result, "error": error} if error else result


def is_workflows_own(message: Mapping[str, Any]) -> bool:
    """Whether a message is the workflow's own, the last one of a run."""
    source = message.get("source")
    return isinstance(source, Mapping) and source.get("type") == WORKFLOW


def node_error(type: str, message: str, *, recoverable: bool = False) -> Message:
    """The `error` of a node's entry."""
    return {"type": type, "message": message, "recoverable": recoverable, "failed_nodes": []}
