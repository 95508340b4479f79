"""Invocations of an App, through the root endpoint or the WebSocket: input and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..core.ids import new_id
from ..core.json import encode
from .execution import Execution
from .input_files import InputFile
from .messages import workflow_source
from .questions import question_message
from .recent import Recent
from .run_context import RunContext
from .state import deployment_of, require_input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.feed import Feed
    from ..core.fields import Fields
    from ..core.log import Changes
    from ..core.multipart import Part
    from .questions import Question
    from .state import AppExchange

STREAM_WINDOW = 256
"""How many events of a stream may wait for a slow client before the App has to wait."""


class Invocation(msgspec.Struct, kw_only=True):
    """The input of an invocation, and how the response shows its output."""

    input: dict[str, Any]
    user_id: str | None
    session_id: str | None
    last_node_output: bool
    error_on_node_failure: bool
    chat_history: Any
    files: list[Part]

    @classmethod
    def of(cls, exchange: AppExchange, fields: Fields) -> Invocation:
        """The invocation that the fields describe. Notes complaints in `fields`."""
        return cls(
            input=require_input(exchange, fields),
            user_id=fields.get("user_id", str),
            session_id=fields.get("session_id", str),
            last_node_output=fields.get("last_node_output", bool) or False,
            error_on_node_failure=fields.get("error_on_node_failure", bool) or False,
            chat_history=fields.json("chat_history"),
            files=fields.files,
        )


class RootChannel:
    """A run's output as the library streams it."""

    kind: Literal["root", "run"] = "root"

    def __init__(self, execution: Execution, feed: Feed, changes: Changes) -> None:
        self._execution = execution
        self._feed = feed
        self._changes = changes

    async def message(self, name: str, message: bytes | Mapping[str, Any]) -> None:
        """Add the message to the feed, if it has a reader."""
        if not self._feed.unread:
            data = message if isinstance(message, bytes) else encode(message)
            await self._feed.room()
            self._feed.append(name, data)

    async def event(self, type: str, data: Any) -> None:
        """Do nothing: the root endpoint has no such events."""

    async def ask(self, question: Question) -> None:
        """Add the message of the question. Only the WebSocket and `Question` can answer it."""
        self._execution.questions = [*self._execution.questions, question]
        self._changes.notify()
        asked = question_message(question, self._execution.id, self._execution.app)
        await self.message(question.event, asked)

    async def answered(self, question: Question) -> None:
        """Do nothing: the library sends no message about an answer."""

    def pause(self, checkpoint_id: str | None) -> None:
        """Do nothing: the library has no message about a pause that ends."""

    def resume(self) -> None:
        """Do nothing: the library has no message about a run that resumes."""

    def skip(self, count: int) -> None:
        """Skip sequence numbers. Messages do not show them, but faults refer to them."""
        self._feed.skip(count)

    def end(self, said: Mapping[str, Any] | None) -> None:
        """Add the workflow's own message, the last one: that which the App `said`, or a new one."""
        if self._feed.unread:
            self._feed.close()
            return
        execution = self._execution
        workflow = f"wf-{execution.app}"
        message = said or {
            "run_id": new_id(),
            "wf_run_id": execution.id,
            "entity_id": workflow,
            "data": execution.terminal_data(),
            "event": "streaming",
            "source": workflow_source(workflow, execution.app),
        }
        self._feed.append("streaming", encode(message))
        self._feed.close()


def new_execution(exchange: AppExchange, invocation: Invocation) -> Execution:
    """A new execution, for `run`."""
    return Execution(
        id=new_id(),
        app=deployment_of(exchange).name,
        app_id=deployment_of(exchange).id,
        input=invocation.input,
        user_id=invocation.user_id,
        session_id=invocation.session_id,
    )


async def run(
    exchange: AppExchange, invocation: Invocation, execution: Execution, feed: Feed
) -> None:
    """Run the App and add its messages to the feed, including the workflow's own at the end."""
    state = exchange.state
    channel = RootChannel(execution, feed, state.changes)
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
    recent = Recent(execution, feed)
    state.recent.append(recent)
    try:
        await state.execute(deployment_of(exchange).app, execution, context)
        channel.end(context.final)
    finally:
        recent.close()
