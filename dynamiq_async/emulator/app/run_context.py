"""An App is an async function of its input and of a `RunContext`.

The function gets the input as a dict, as the type of its parameter, or field by field (see
`signatures`).

Its return value is the workflow's output, in one of three forms. A map of nodes (`{"llm-1":
{"status": "success", "input": …, "output": …}}`) gives callers the output of its last node. Any
other JSON value becomes the output of one node, `node-1`. A `WorkflowOutput` gives both the nodes
and the output. An exception is a failure of `node-1`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from msgspec import field

from ..core.ids import new_id
from .agents import DEFAULT_AGENT, Agent, agent_source
from .artifacts import Artifact, artifact
from .messages import NODE, LLMChunks, Source, is_workflows_own, llm_source, tool_source
from .questions import Approval, Question, feedback_data

if TYPE_CHECKING:
    from .agents import ToolStatus
    from .input_files import InputFile
    from .questions import Answer

_MOST_SKIPPED = 1_000_000
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")

App = Callable[..., Any]
"""A function of an input and a `RunContext`; see `signatures`."""


class WorkflowFailedError(Exception):
    """Raised by an App: the workflow fails.

    Args:
        nodes: the map of the nodes that have run.
        result: the library's whole result, if there is one; by default one is made.
    """

    def __init__(
        self,
        message: str,
        nodes: Mapping[str, Any] | None = None,
        *,
        result: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.nodes = nodes
        self.result = result


class WorkflowCanceledError(Exception):
    """Raised by an App: the workflow was canceled. `result` as for `WorkflowFailedError`."""

    def __init__(self, message: str = "", *, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result


class Channel(Protocol):
    """Where a run's output goes. The root endpoint and the Runs API each have their own."""

    kind: Literal["root", "run"]

    async def message(self, name: str, message: bytes | Mapping[str, Any]) -> None:
        """Send a message of the library; bytes are sent as they are."""

    async def event(self, type: str, data: Any) -> None:
        """Send an event of the Runs API."""

    async def ask(self, question: Question) -> None:
        """Show the question. Its answer arrives in `Question.answer`."""

    async def answered(self, question: Question) -> None:
        """Note that the question was answered."""

    def pause(self, checkpoint_id: str | None) -> None:
        """Note that the run stops at a checkpoint."""

    def resume(self) -> None:
        """Note that the run goes on."""

    def skip(self, count: int) -> None:
        """Leave a hole in the sequence numbers."""


class RunContext(msgspec.Struct, eq=False, kw_only=True, dict=True):
    """A run as its App sees it.

    Attributes:
        id: the run's id; on the root endpoint the `wf_run_id` of its messages.
        app: the name of the App.
        files: the files that were sent with the request, or named in its `file_ids`.
        chat_history: the JSON of a root request's field of this name.
        pace: seconds to wait after each message.
        artifacts: the files that the App has saved.
        tokens: the numbers of tokens in its messages so far, by kind of token.
        final: the workflow's own message, if the App gave it to `message`.
    """

    id: str
    app: str
    user_id: str | None = None
    session_id: str | None = None
    files: Sequence[InputFile] = ()
    chat_history: Any = None
    pace: float = 0.0
    final: Mapping[str, Any] | None = None
    channel: Channel
    artifacts: list[Artifact] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)
    _node_runs: dict[str, str] = field(default_factory=dict)
    _chunks: dict[str, LLMChunks] = field(default_factory=dict)
    _agents: dict[str, Agent] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<RunContext {self.id} of {self.app}>"

    @property
    def kind(self) -> Literal["root", "run"]:
        """How the App was called: "root" for the root endpoint and the WebSocket, or "run"."""
        return self.channel.kind

    async def message(self, message: Mapping[str, Any]) -> None:
        """Stream a whole message of the library. The root endpoint sends it unchanged; the Runs API
        sends the event that it becomes, if any.

        If it is the workflow's own message, it is sent last, once the App has returned. It then
        says how the run ended, and the emulator makes no such message itself.
        """
        if is_workflows_own(message):
            self.final = message
        else:
            self._count(message.get("data"))
            await self.channel.message(message["event"], message)
            await asyncio.sleep(self.pace)

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
            self._node_runs[entity_id] = new_id()
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
        """Stream a piece of text. It is an agent's reply if the node has reasoned or called a tool,
        and else a language model's text."""
        agent = self._agents.get(entity_id)
        if agent is not None:
            chunk, source = agent.answer(text), source or agent_source(entity_id, agent.name)
        else:
            chunk, source = self._model(entity_id).text(text), source or llm_source(entity_id)
        await self.emit(chunk, event=event, entity_id=entity_id, source=source)

    async def reasoning(
        self, text: str, *, agent: str | None = None, entity_id: str = NODE, event: str = "data"
    ) -> None:
        """Stream a piece of an agent's reasoning.

        Args:
            agent: the agent's name; by default its name so far, or `Agent`.
        """
        chunk = self._agent(entity_id, agent).thought(text)
        await self._act(chunk, entity_id, event)

    thought = reasoning
    """The library's name for `reasoning`."""

    async def tool_call(
        self,
        name: str,
        input: Any = None,
        output: Any = None,
        status: ToolStatus = "success",
        *,
        type: str = "Python",
        agent: str | None = None,
        entity_id: str = NODE,
        event: str = "data",
    ) -> None:
        """Stream an agent's call of a tool: one message with the choice and the reasoning since the
        last call, and one with the end. The Runs API only has an event for the end, without the
        status: the vendor documents no more.

        Args:
            name: the name of the tool.
            input: the arguments, as the tool got them.
            output: what the tool returned or, if it failed, what went wrong.
            status: `success`, `failure`, or `skip` for a call that was not allowed.
            type: the tool's class in the library.
            agent: as for `reasoning`.

        Raises:
            ValueError: there is no such status.
        """
        acting = self._agent(entity_id, agent)
        for chunk in acting.tool_call(name, input, output, status=status, type=type):
            await self._act(chunk, entity_id, event)

    async def usage(
        self, input: int, output: int, *, entity_id: str | None = None, event: str = "data"
    ) -> None:
        """Report how many tokens a model read and wrote. The root endpoint and the WebSocket send
        this as the last chunk of the model, as the library does. The events of a run contain no
        tokens, like the vendor's. The trace of the call has them in both cases.

        Args:
            entity_id: the model's node; by default `node-1`, or `llm-1` if `node-1` is an agent:
                in the library agents report no tokens.
        """
        node = entity_id or ("llm-1" if NODE in self._agents else NODE)
        chunk = self._model(node).usage(prompt_tokens=input, completion_tokens=output)
        await self.emit(chunk, event=event, entity_id=node, source=llm_source(node))

    def _model(self, node: str) -> LLMChunks:
        if (chunks := self._chunks.get(node)) is None:
            chunks = self._chunks[node] = LLMChunks()
        return chunks

    def _agent(self, node: str, name: str | None) -> Agent:
        known = self._agents.setdefault(node, Agent(name or DEFAULT_AGENT))
        known.name = name or known.name
        return known

    async def _act(self, chunk: Any, node: str, event: str) -> None:
        source = agent_source(node, self._agents[node].name)
        await self.emit(chunk, event=event, entity_id=node, source=source)

    def save(self, name: str, content: bytes, *, mime_type: str | None = None) -> None:
        """Save a file as an artifact, for callers to download. Its type is guessed from its name
        unless it is given."""
        self.artifacts.append(artifact(str(name), content, mime_type))

    def _count(self, data: Any) -> None:
        told = data.get("usage") if isinstance(data, Mapping) else None
        for name, count in told.items() if isinstance(told, Mapping) else ():
            if name in _TOKENS and isinstance(count, int):
                self.tokens[name] = self.tokens.get(name, 0) + count

    async def send(self, message: bytes, *, event: str = "data") -> None:
        """Stream these bytes as the data of an event, whether they are JSON or not."""
        await self.channel.message(event, message)
        await asyncio.sleep(self.pace)

    async def event(self, type: str, data: Any) -> None:
        """Add an event of this type to a run of the Runs API. The root endpoint shows none."""
        await self.channel.event(type, data)
        await asyncio.sleep(self.pace)

    def skip_sequence(self, count: int = 1) -> None:
        """Skip the next sequence numbers, which are then never used. Raises ValueError for more
        than a million at once."""
        if abs(count) > _MOST_SKIPPED:
            raise ValueError(f"count must be at most {_MOST_SKIPPED:,}, not {count!r}")
        self.channel.skip(count)

    async def ask(
        self,
        prompt: str,
        *,
        entity_id: str = NODE,
        event: str = "streaming",
        request_id: str | None = None,
        questions: Sequence[Mapping[str, Any]] | None = None,
        pause: bool = False,
    ) -> str:
        """Ask for feedback and wait for it. Returns a `Feedback`, whose `answers` are those to
        `questions`, the parts of the question; an empty text if the question is withdrawn.

        With `pause` the run stops at a checkpoint until the answer comes.
        """
        question = Question(
            id=request_id or new_id(),
            kind="human_feedback",
            prompt=prompt,
            questions=questions,
            entity_id=entity_id,
            event=event,
            pauses=pause,
        )
        answer = await self.question(question)
        return answer if isinstance(answer, str) else ""

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
        """Ask for approval and wait for it. Only `editable` params can come back changed.

        If there is a `request_id`, an answer on the WebSocket must repeat it, as for an agent's
        hook in the library. A question that is withdrawn is not approved.
        """
        question = Question(
            id=request_id or new_id(),
            request_id=request_id,
            kind="approval_request",
            prompt=prompt,
            params=params or {},
            editable=tuple(editable),
            entity_id=entity_id,
            event=event,
            pauses=pause,
        )
        answer = await self.question(question)
        return answer if isinstance(answer, Approval) else Approval(False, question.params or {})

    async def question(self, question: Question) -> Answer | None:
        """Ask a question and wait for its answer; None once it is withdrawn."""
        await self.show(question)
        return await self.answer_to(question)

    async def show(self, question: Question) -> None:
        """Ask a question without waiting. `answer_to` waits for its answer."""
        await self.channel.ask(question)

    async def answer_to(self, question: Question) -> Answer | None:
        """Wait for the answer to a question that was shown; None once it is withdrawn."""
        answer: Answer | None = await question.answer
        if answer is not None:
            await self.channel.answered(question)
        return answer

    def pause(self, checkpoint_id: str | None = None) -> None:
        """Stop the run at a checkpoint. Its id is generated by default. The run resumes with the
        answer to a question, or by `resume`. The root endpoint does not show the pause."""
        self.channel.pause(checkpoint_id)

    def resume(self) -> None:
        """Resume the run if it is paused."""
        self.channel.resume()

    async def inform(self, prompt: str, *, entity_id: str = NODE, event: str = "streaming") -> None:
        """Tell the person something that needs no answer."""
        source = tool_source(entity_id, self.app, "HumanFeedbackTool")
        await self.emit(
            feedback_data(prompt, "info"), event=event, entity_id=entity_id, source=source
        )
