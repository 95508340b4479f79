"""The root endpoint: one POST runs the App, and answers at once, as a stream, or by callbacks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..core.feed import Feed, Reader
from ..core.request_bodies import Fields, RefusalError
from .callbacks import Callback, deliver, parse_callbacks
from .execution import Execution
from .files_api import InputFile
from .messages import encode, workflow_source
from .run_context import Question, RunContext, question_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.exchange import Exchange
    from ..core.request_bodies import Part
    from .state import State

WINDOW = 256
"""How many events of a stream may wait for a slow client before the App does."""


# --- guesses: nobody has written these down ------------------------------------------------------

NODE_FAILURE_STATUS = 422
"""With `error_on_node_failure`, of an answer whose workflow or one of its nodes failed."""


def sync_answer(execution: Execution, *, last_node_output: bool) -> Any:
    """The body of a synchronous answer.

    The vendor's widget reads a top-level `output`. It holds the workflow's map of nodes here, or
    with `last_node_output` what the last of them put out.
    """
    nodes = execution.output
    if last_node_output and nodes:
        return {"output": list(nodes.values())[-1].get("output")}
    return {"output": nodes}


def node_failure(execution: Execution) -> RefusalError:
    """The answer to a request with `error_on_node_failure` when there was one."""
    message = execution.error or "a node failed"
    return RefusalError(NODE_FAILURE_STATUS, "node_failure", message, execution.failed_nodes)


# -------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Invocation:
    """A valid request."""

    input: dict[str, Any]
    user_id: str | None
    session_id: str | None
    stream: bool
    asynchronous: bool
    callbacks: list[Callback]
    last_node_output: bool
    error_on_node_failure: bool
    chat_history: Any
    files: list[Part]


class RootChannel:
    """A run's output as the library streams it."""

    def __init__(self, state: State, execution: Execution, feed: Feed) -> None:
        self._state = state
        self._execution = execution
        self._feed = feed

    async def message(self, name: str, message: bytes | Mapping[str, Any]) -> None:
        """Put the message into the stream, if there is one."""
        if not self._feed.unread:
            data = message if isinstance(message, bytes) else encode(message)
            await self._feed.room()
            self._feed.append(name, data)

    async def event(self, type: str, data: Any) -> None:
        """The root endpoint has no such events."""

    async def ask(self, question: Question) -> None:
        """Show the question. HTTP has no way to answer it: `Question` has."""
        self._execution.questions.append(question)
        self._state.changes.notify()
        asked = question_message(question, self._execution.id, self._execution.app)
        await self.message(question.event, asked)

    async def answered(self, question: Question) -> None:
        """The library says nothing about it."""

    def skip(self, count: int) -> None:
        """The messages have no sequence numbers, but faults count by them."""
        self._feed.skip(count)

    def end(self) -> None:
        """Put the workflow's own message behind all others."""
        execution = self._execution
        workflow = f"wf-{execution.app}"
        message = {
            "run_id": str(uuid4()),
            "wf_run_id": execution.id,
            "entity_id": workflow,
            "data": execution.terminal_data(),
            "event": "streaming",
            "source": workflow_source(workflow, execution.app),
        }
        self._feed.append("streaming", encode(message))
        self._feed.close()


async def invoke(exchange: Exchange) -> None:
    """`POST /`."""
    invocation = _parse(exchange)
    exchange.state.charge()
    if invocation.asynchronous:
        execution = new_execution(exchange, invocation)
        exchange.state.spawn(_run_for_callbacks(exchange, invocation, execution))
        await exchange.answer(202, {"id": execution.id, "status": "accepted"})
    elif invocation.stream:
        await _stream(exchange, invocation)
    else:
        execution = new_execution(exchange, invocation)
        await run(exchange, invocation, execution, Feed(window=0))
        if invocation.error_on_node_failure and (execution.error or execution.failed_nodes):
            raise node_failure(execution)
        last = invocation.last_node_output
        await exchange.answer(200, sync_answer(execution, last_node_output=last))


async def _stream(exchange: Exchange, invocation: Invocation) -> None:
    """The App lives no longer than its stream: when the client leaves, it is canceled."""
    feed = Feed(window=WINDOW)
    reader = Reader(feed)
    execution = new_execution(exchange, invocation)
    task = exchange.state.spawn(run(exchange, invocation, execution, feed))
    settings = exchange.state.settings
    try:
        await exchange.stream(reader, named=settings.event_line, heartbeat=settings.root_heartbeat)
    finally:
        task.cancel()


async def run(exchange: Exchange, invocation: Invocation, execution: Execution, feed: Feed) -> None:
    """Run the App and put what it says into the feed, to the workflow's own message."""
    state = exchange.state
    channel = RootChannel(state, execution, feed)
    context = RunContext(
        id=execution.id,
        app=execution.app,
        user_id=invocation.user_id,
        session_id=invocation.session_id,
        files=[InputFile.from_part(part) for part in invocation.files],
        chat_history=invocation.chat_history,
        pace=state.settings.pace,
        channel=channel,
    )
    await state.execute(exchange.deployment.app, execution, context)
    channel.end()


async def _run_for_callbacks(
    exchange: Exchange, invocation: Invocation, execution: Execution
) -> None:
    state = exchange.state
    await run(exchange, invocation, execution, Feed(window=0))
    trust = state.settings.callback_ssl
    for _ in range(state.settings.callback_deliveries):
        work = (deliver(callback, execution, trust) for callback in invocation.callbacks)
        for delivery in await asyncio.gather(*work):
            state.deliveries.add(delivery)
            state.changes.notify()


def new_execution(exchange: Exchange, invocation: Invocation) -> Execution:
    """What is known of a run before it starts."""
    return Execution(
        id=str(uuid4()),
        app=exchange.deployment.name,
        input=invocation.input,
        user_id=invocation.user_id,
        session_id=invocation.session_id,
    )


def _parse(exchange: Exchange) -> Invocation:
    """Raises `RefusalError` with a complaint for each bad field."""
    fields = Fields.of(exchange.record)
    input = fields.require("input", dict)
    mode = fields.get("execution_mode", str)
    asked = fields.get("callbacks", list)
    callbacks: list[Callback] = []
    if mode not in (None, "sync", "async"):
        fields.complaints.setdefault("execution_mode", "must be a valid value")
    if asked and mode != "async":
        fields.complaints.setdefault("callbacks", 'only with "execution_mode": "async"')
    elif asked:
        allow = exchange.state.settings.allow_loopback_callbacks
        callbacks, complaints = parse_callbacks(asked, allow_loopback=allow)
        fields.complaints.update(complaints)
    invocation = Invocation(
        input=input or {},
        user_id=fields.get("user_id", str),
        session_id=fields.get("session_id", str),
        stream=fields.get("stream", bool) or False,
        asynchronous=mode == "async",
        callbacks=callbacks,
        last_node_output=fields.get("last_node_output", bool) or False,
        error_on_node_failure=fields.get("error_on_node_failure", bool) or False,
        chat_history=fields.json("chat_history"),
        files=fields.files,
    )
    fields.check()
    return invocation
