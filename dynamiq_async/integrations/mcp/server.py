"""`make_server`: an MCP server whose tools are Apps.

A call of a tool starts a run. The run's events are the call's progress. A question of the run goes
to the client's user. By protocol 2026-07-28, the call returns the question and a sealed state, and
the client calls again with the answer and the state, on any machine. Older clients are asked during
the call.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from dynamiq_async import errors
from dynamiq_async._http.request_options import UNSET
from dynamiq_async._telemetry import extra
from dynamiq_async._version import __version__
from dynamiq_async.events.run_events import DELTAS
from dynamiq_async.integrations.mcp._library import Library, checker, library
from dynamiq_async.runs.questions import QuestionEvent
from dynamiq_async.tools import error_text, text_of_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp_types import (
        CallToolRequestParams,
        CallToolResult,
        ElicitResult,
        InputRequiredResult,
        ListToolsResult,
        PaginatedRequestParams,
    )

    from dynamiq_async.events import Question, RunEvent
    from dynamiq_async.integrations.mcp.tools import AppTool
    from dynamiq_async.runs import RunStream

log: logging.Logger = logging.getLogger("dynamiq_async")

STATELESS = "2026-07-28"
"""The first version of the protocol without calls from the server to the client. Versions are
dates, and compare as texts."""

STATE_SECONDS = 600.0
"""How long an answer may take by default, in seconds."""

_KEY = "answer"
_FEEDBACK = {"type": "string", "title": "Answer"}


class _State(Struct):
    """The state that a call with a question gives to its client, sealed."""

    run: str
    sequence: int
    question: str
    approval: bool


def make_server(
    tools: Sequence[AppTool],
    *,
    name: str = "dynamiq",
    keys: Sequence[bytes | str] = (),
    state_seconds: float = STATE_SECONDS,
) -> Server[Any]:
    """An MCP server with one tool for each App.

    Args:
        tools: the Apps.
        name: the server's name. It refuses the state of a server with another name.
        keys: secrets of at least 32 bytes that seal the state of calls that ask a question. The
            first one seals, and all of them open. Servers that share the load need the same keys.
            By default, a random secret of this process.
        state_seconds: how long an answer may take.

    Raises:
        InvalidArgumentError: two tools have the same name, a schema is not valid, or a key is too
            short.
        MissingExtraError: the extra `mcp` is not installed.
    """
    by_name = {tool.name: tool for tool in tools}
    if len(by_name) < len(tools):
        raise errors.InvalidArgumentError("two tools have the same name", argument="tools")
    found = library()
    calls = _Calls(by_name, found)
    try:
        security = (
            found.state.RequestStateSecurity(keys=list(keys), ttl=state_seconds)
            if keys
            else found.state.RequestStateSecurity.ephemeral(ttl=state_seconds)
        )
    except (TypeError, ValueError) as error:
        raise errors.InvalidArgumentError(str(error), argument="keys") from None
    server: Server[Any] = found.server(
        name,
        version=__version__,
        on_list_tools=calls.list,
        on_call_tool=calls.call,
        get_tool_input_schema=lambda tool: by_name[tool].schema if tool in by_name else None,
    )
    server.middleware.append(found.state.RequestStateBoundary(security, default_audience=name))
    return server


class _Calls:
    """Handles a server's requests."""

    def __init__(self, tools: dict[str, AppTool], found: Library) -> None:
        self._tools = tools
        self._types: Any = found.types
        self._complaints = {
            tool.name: checker(tool.schema) for tool in tools.values() if tool.inputs is None
        }

    async def list(
        self, ctx: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        types = self._types
        listed: ListToolsResult = types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    description=tool.description,
                    input_schema=tool.schema,
                    annotations=types.ToolAnnotations(open_world_hint=True, **tool.hints),
                )
                for tool in self._tools.values()
            ]
        )
        return listed

    async def call(
        self, ctx: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        tool = self._tools.get(params.name)
        if tool is None:
            return self._failed(f"There is no tool {params.name!r}.")
        try:
            return await self._run(tool, ctx, params)
        except errors.DynamiqError as error:
            if not isinstance(error, errors.InvalidArgumentError | errors.QuestionError):
                log.warning("the tool %s: %s", tool.name, error, extra=extra(error))
            what, advice = error_text(error)
            return self._failed(f"{tool.name} {what}. {advice}")

    async def _run(
        self, tool: AppTool, ctx: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        runs, leave = tool.app.runs, tool.on_leave
        limit = UNSET if tool.timeout is None else tool.timeout
        if params.request_state is None:
            value = self._value(tool, params.arguments or {})
            stream = runs.stream(value, dedupe=True, on_leave=leave, timeout=limit)
        else:
            # The library has opened it, and refuses the state of another server.
            state = msgspec.json.decode(params.request_state, type=_State)
            answer: Any = (params.input_responses or {}).get(_KEY)
            # Without an answer, read the question and ask it again.
            after = state.sequence if answer is not None else state.sequence - 1
            if answer is not None:
                await _answer(tool, state, answer)
            stream = runs.follow(state.run, after_sequence=after, on_leave=leave, timeout=limit)
        async with stream:
            asked = await self._follow(tool, ctx, stream)
            return asked if asked is not None else self._done(ctx, await stream.output())

    def _value(self, tool: AppTool, arguments: dict[str, Any]) -> Any:
        if tool.inputs is not None:
            return tool.inputs.checked(arguments)
        if (wrong := self._complaints[tool.name](arguments)) is not None:
            raise errors.InvalidArgumentError(
                f"the arguments do not fit: {wrong}", argument="arguments"
            )
        return arguments

    async def _follow(
        self, tool: AppTool, ctx: ServerRequestContext[Any], stream: RunStream[Any]
    ) -> InputRequiredResult | None:
        """Read a run to its end, or to a question that needs another call."""
        told = ""
        async for event in stream:
            if event.type not in DELTAS or event.type != told:
                told = event.type
                await ctx.session.report_progress(event.sequence, None, _progress(event))
            if not isinstance(event, QuestionEvent):
                continue
            state = _State(
                stream.run_id or "",
                event.sequence,
                event.question.id,
                event.question.kind == "approval",
            )
            if not self._can_ask(ctx):
                raise errors.QuestionError(
                    f"run {state.run} asks a person: {event.question.prompt!r}, and this client "
                    "has none to ask",
                    run_id=state.run,
                )
            schema = _schema(event.question)
            if ctx.protocol_version >= STATELESS:
                stream.detach()  # the run waits for the next call
                return self._asked(event.question, schema, state)
            answer = await ctx.session.elicit_form(
                _message(event.question), schema, related_request_id=ctx.request_id
            )
            await _answer(tool, state, answer)
        return None

    def _can_ask(self, ctx: ServerRequestContext[Any]) -> bool:
        known = ctx.session.client_capabilities
        return known is not None and known.elicitation is not None

    def _asked(
        self, question: Question, schema: dict[str, Any], state: _State
    ) -> InputRequiredResult:
        types = self._types
        params = types.ElicitRequestFormParams(message=_message(question), requested_schema=schema)
        result: InputRequiredResult = types.InputRequiredResult(
            input_requests={_KEY: types.ElicitRequest(params=params)},
            request_state=msgspec.json.encode(state).decode(),
        )
        return result

    def _done(self, ctx: ServerRequestContext[Any], output: Any) -> CallToolResult:
        types = self._types
        # Before 2026-07-28, structured content has to be an object.
        plain = isinstance(output, dict) or ctx.protocol_version >= STATELESS
        result: CallToolResult = types.CallToolResult(
            content=[types.TextContent(type="text", text=text_of_output(output))],
            structured_content=output if plain else {"output": output},
        )
        return result

    def _failed(self, message: str) -> CallToolResult:
        types = self._types
        content = [types.TextContent(type="text", text=message)]
        result: CallToolResult = types.CallToolResult(content=content, is_error=True)
        return result


async def _answer(tool: AppTool, state: _State, answer: ElicitResult) -> None:
    """Send the answer of the client's user. Sending it twice does no harm.

    Raises:
        QuestionError: the person did not answer.
    """
    runs, given = tool.app.runs, dict(answer.content or {}) if answer.action == "accept" else {}
    feedback = str(given.pop("feedback", None) or "") or None
    try:
        if not state.approval:
            if answer.action != "accept":
                raise errors.QuestionError(
                    f"the question of run {state.run} was not answered", run_id=state.run
                )
            await runs.answer(state.run, state.question, feedback or "")
        elif given.pop("approved", False):
            changed = {name: value for name, value in given.items() if value is not None}
            await runs.approve(state.run, state.question, params=changed, feedback=feedback)
        else:
            await runs.reject(state.run, state.question, feedback=feedback)
    except (errors.BadRequestError, errors.ConflictError):
        run = await runs.get(state.run)
        if any(question.id == state.question for question in run.questions):
            raise


def _schema(question: Question) -> dict[str, Any]:
    """The form for an answer. Its fields are flat, as the protocol requires."""
    if question.kind != "approval":
        return {"type": "object", "properties": {"feedback": _FEEDBACK}, "required": ["feedback"]}
    editable = {
        name: {"type": "string", "default": value}
        for name in question.editable_params
        if isinstance(value := question.params.get(name), str)
        and name not in ("approved", "feedback")
    }
    fields = {"approved": {"type": "boolean", "title": "Approve"}, **editable}
    remark = {"feedback": {**_FEEDBACK, "title": "Remark"}}
    return {"type": "object", "properties": {**fields, **remark}, "required": ["approved"]}


def _message(question: Question) -> str:
    if not question.params:
        return question.prompt
    shown = (f"{name}: {text_of_output(value)}" for name, value in question.params.items())
    return "\n".join([question.prompt, *shown])


def _progress(event: RunEvent) -> str:
    """The progress message for an event: its type, without its content."""
    call = event.tool_call
    return f"{event.type} {call.name}".strip() if call is not None else event.type
