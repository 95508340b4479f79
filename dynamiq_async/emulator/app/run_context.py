"""An App is an async function of its input and of a `RunContext`.

The function's return value is the workflow's output: either its map of nodes (`{"llm-1":
{"status": "success", "input": …, "output": …}}`), or any other JSON value, which becomes the
output of one node, `node-1`. An exception is the failure of that node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from .artifacts import Artifact, artifact
from .messages import NODE, LLMChunks, Source, agent_chunk, llm_source, tool_source
from .questions import Approval, Question, feedback_data

if TYPE_CHECKING:
    from .input_files import InputFile

_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")

App = Callable[[dict[str, Any], "RunContext"], Awaitable[Any]]


class WorkflowFailedError(Exception):
    """Raised by an App: the workflow fails. `nodes` is the map of the nodes that have run."""

    def __init__(self, message: str, nodes: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.nodes = nodes


class WorkflowCanceledError(Exception):
    """Raised by an App: the workflow was canceled."""


class Channel(Protocol):
    """Where a run's output goes. The root endpoint and the Runs API each have their own."""

    async def message(self, name: str, message: bytes | Mapping[str, Any]) -> None:
        """Send a message of the library; bytes are sent as they are."""

    async def event(self, type: str, data: Any) -> None:
        """Send an event of the Runs API."""

    async def ask(self, question: Question) -> None:
        """Show the question. `Question.answer` is where the answer comes."""

    async def answered(self, question: Question) -> None:
        """Note that the question was answered."""

    def skip(self, count: int) -> None:
        """Leave a hole in the sequence numbers."""


@dataclass(eq=False, kw_only=True)
class RunContext:
    """A run as its App sees it.

    Attributes:
        id: the run's id; on the root endpoint the `wf_run_id` of its messages.
        app: the name of the App.
        files: sent along with the request, or named by its `file_ids`.
        chat_history: the JSON of a root request's field of this name.
        pace: seconds to wait behind each message.
        artifacts: the files that it has saved.
        usage: how many tokens its messages have told of, by what they are.
    """

    id: str
    app: str
    user_id: str | None = None
    session_id: str | None = None
    files: Sequence[InputFile] = ()
    chat_history: Any = None
    pace: float = 0.0
    channel: Channel = field(repr=False)
    artifacts: list[Artifact] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    _node_runs: dict[str, str] = field(default_factory=dict, repr=False)
    _chunks: dict[str, LLMChunks] = field(default_factory=dict, repr=False)

    async def emit(
        self,
        data: Any,
        *,
        event: str = "data",
        entity_id: str = NODE,
        source: Source | None = None,
    ) -> None:
        """Stream a message of the node `entity_id`, with any JSON value as its `data`."""
        self._count(data)
        if entity_id not in self._node_runs:
            self._node_runs[entity_id] = str(uuid4())
        message = {
            "run_id": self._node_runs[entity_id],
            "wf_run_id": self.id,
            "entity_id": entity_id,
            "data": data,
            "event": event,
            "source": source or tool_source(entity_id, self.app),
        }
        await self.channel.message(event, message)
        await asyncio.sleep(self.pace)

    async def text(
        self,
        text: str,
        *,
        event: str = "data",
        entity_id: str = NODE,
        source: Source | None = None,
    ) -> None:
        """Stream a piece of text as a language model does."""
        chunks = self._chunks.setdefault(entity_id, LLMChunks())
        source = source or llm_source(entity_id)
        await self.emit(chunks.text(text), event=event, entity_id=entity_id, source=source)

    async def thought(self, text: str, *, agent: str = "Agent", entity_id: str = NODE) -> None:
        """Stream a piece of an agent's reasoning."""
        chunk = agent_chunk({"thought": text}, source=agent, step="reasoning")
        await self.emit(chunk, entity_id=entity_id)

    def save(self, name: str, content: bytes, *, mime_type: str | None = None) -> None:
        """Save a file as an artifact, for callers to download. Its type is guessed from its name
        unless it is given."""
        self.artifacts.append(artifact(name, content, mime_type))

    def _count(self, data: Any) -> None:
        told = data.get("usage") if isinstance(data, Mapping) else None
        for name, count in told.items() if isinstance(told, Mapping) else ():
            if name in _TOKENS and isinstance(count, int):
                self.usage[name] = self.usage.get(name, 0) + count

    async def send(self, message: bytes, *, event: str = "data") -> None:
        """Stream these bytes as the data of an event, whatever they are: JSON or not."""
        await self.channel.message(event, message)
        await asyncio.sleep(self.pace)

    async def event(self, type: str, data: Any) -> None:
        """Add an event of this type to a run of the Runs API. The root endpoint shows none."""
        await self.channel.event(type, data)
        await asyncio.sleep(self.pace)

    def skip_sequence(self, count: int = 1) -> None:
        """Leave out the next sequence numbers, for good."""
        self.channel.skip(count)

    async def ask(
        self,
        prompt: str,
        *,
        entity_id: str = NODE,
        event: str = "streaming",
        request_id: str | None = None,
        pause: bool = False,
    ) -> str:
        """Ask for feedback and wait for it.

        `pause` has the run stop at a checkpoint until the answer comes.
        """
        question = Question(
            id=request_id or str(uuid4()),
            kind="human_feedback",
            prompt=prompt,
            entity_id=entity_id,
            event=event,
            pauses=pause,
        )
        return str(await self._answer_to(question))

    async def approve(
        self,
        prompt: str,
        params: Mapping[str, Any] | None = None,
        *,
        editable: Collection[str] = (),
        entity_id: str = NODE,
        event: str = "approval",
        request_id: str | None = None,
        pause: bool = False,
    ) -> Approval:
        """Ask for approval and wait for it. Only `editable` params can come back changed."""
        question = Question(
            id=request_id or str(uuid4()),
            kind="approval_request",
            prompt=prompt,
            params=params or {},
            editable=tuple(editable),
            entity_id=entity_id,
            event=event,
            pauses=pause,
        )
        approval: Approval = await self._answer_to(question)
        return approval

    async def inform(self, prompt: str, *, entity_id: str = NODE, event: str = "streaming") -> None:
        """Tell the person something that needs no answer."""
        source = tool_source(entity_id, self.app, "HumanFeedbackTool")
        await self.emit(
            feedback_data(prompt, "info"), event=event, entity_id=entity_id, source=source
        )

    async def _answer_to(self, question: Question) -> Any:
        await self.channel.ask(question)
        answer = await question.answer
        await self.channel.answered(question)
        return answer
