"""What an agent of the library streams: its thoughts, its tool calls and its reply.

The shapes were seen in streams of real agents. So was the fact that a call has two messages: the
whole thought that chose the tool, then the tool's end. `run_events` says what they become in a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from ..core.clock import utc_now
from ..core.ids import new_id
from .messages import Message, agent_chunk, node_source

if TYPE_CHECKING:
    from .messages import Source

ToolStatus: TypeAlias = Literal["success", "failure", "skip"]
"""How a tool call ends. The library skips one that a hook forbids."""

_STATUSES = get_args(ToolStatus)

DEFAULT_AGENT = "Agent"
"""The name of an agent for which no name is given."""


def agent_source(id: str, name: str) -> Source:
    """The `source` of an agent's messages."""
    return node_source(id, name, "agents", "dynamiq.nodes.agents.Agent")


class Agent:
    """One agent of a run. It makes the chunks of its messages.

    Attributes:
        name: the agent's name in its messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._thought = ""  # since its last tool call
        self._round = 1

    def thought(self, text: str) -> Message:
        """A piece of its reasoning."""
        self._thought += text
        return agent_chunk({"thought": text}, source=self.name, step="reasoning")

    def answer(self, text: str) -> Message:
        """A piece of its reply."""
        return agent_chunk(text, source=self.name, step="answer")

    def tool_call(
        self, name: str, input: Any, output: Any, *, status: ToolStatus, type: str
    ) -> tuple[Message, Message]:
        """The messages of a tool call: the whole thought that chose the tool, and how it ended.

        Raises ValueError for a status that the library does not have.
        """
        if status not in _STATUSES:
            raise ValueError(f"a tool call is one of {', '.join(_STATUSES)}, not {status!r}")
        call = {"tool_run_id": new_id()}
        tool = {
            "name": name,
            "type": f"dynamiq.nodes.tools.{type}",
            "action_type": "code_execution" if type == "Python" else None,
        }
        chosen = {
            **call,
            "thought": self._thought.strip(),
            "action": name,
            "tool": tool,
            "action_input": input,
            "loop_num": self._round,
        }
        ended = {
            **call,
            "name": name,
            "tool": tool,
            "input": input,
            "result": output,
            "files": [],
            "loop_num": self._round,
            "output": {},
            "timestamp": utc_now(),
            "status": status,
        }
        self._thought = ""
        self._round += 1
        return (
            agent_chunk(chosen, source=name, step="reasoning"),
            agent_chunk(ended, source=name, step="tool"),
        )
