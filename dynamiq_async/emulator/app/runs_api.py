"""The Runs API: create, list, look at, cancel and answer runs, and follow their events."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.event_stream import stream_events
from ..core.feed import Feed, Reader
from ..core.fields import Fields, is_uuid, positive_number
from ..core.ids import new_id
from ..core.pages import respond_page, sort_items
from ..core.refusals import RefusalError, bad_fields
from .execution import Execution
from .input_files import InputFile
from .replay import ReplayError
from .run_context import RunContext
from .runs import TERMINAL, Run, RunChannel
from .state import deployment_of, require_input

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .questions import Question
    from .run_context import App
    from .runs import Status
    from .state import AppExchange, AppState

_STATUSES = {*TERMINAL, "created", "started", "paused", "awaiting_input"}
_SORT_KEYS: Mapping[str, Callable[[Run], Any]] = {
    "started_at": attrgetter("started_at"),
    "ended_at": lambda run: run.ended_at or run.started_at,
    "status": attrgetter("shown_status"),
    "id": attrgetter("id"),
}
_ENDS: Mapping[str, Status] = {
    "success": "completed",
    "failure": "failed",
    "canceled": "canceled",
}
"""The status of a run, by the status of its execution."""


async def create(exchange: AppExchange) -> None:
    """`POST /v1/runs`. The run continues when the client leaves."""
    fields = Fields.of(exchange.record)
    input = require_input(exchange, fields)
    stream = fields.get("stream", bool)
    background = fields.get("background", bool)
    user_id = fields.get("user_id", str)
    session_id = fields.get("session_id", str)
    if stream and background:
        fields.complaints["background"] = "cannot be combined with stream"
    if session_id is not None and not is_uuid(session_id):
        fields.complaints["session_id"] = "must be a valid UUID"
    files = _named_files(exchange, fields)
    sent = [InputFile.from_part(part) for part in fields.files if part.name == "files"]
    fields.check()
    if exchange.state.storage is not None:
        sent = [await exchange.state.storage.add_file(file) for file in sent]
    files += sent
    exchange.state.charge()
    run = _start(exchange, input or {}, user_id=user_id, session_id=session_id, files=files)
    if background:
        await exchange.respond(202, {"data": run.public()})
        return
    reader = Reader(run.feed)
    if stream:
        await _stream(exchange, reader)
        return
    try:
        while not reader.at_end:
            await reader.batch()
    finally:
        reader.close()
    await exchange.respond(200, {"data": run.public()})


async def list_runs(exchange: AppExchange) -> None:
    """`GET /v1/runs`."""
    query = exchange.record.query
    app_id = deployment_of(exchange).id
    lag = exchange.state.settings.list_lag
    statuses = set(query.getall("status", []))
    if not statuses <= _STATUSES:
        raise bad_fields({"status": "must be a valid value"})
    runs = exchange.state.runs
    some = exchange.state.sessions.get(query["session_id"], []) if "session_id" in query else None
    found = [
        run
        for run in (runs.values() if some is None else some)
        if run.app_id == app_id
        and run.id in runs
        and not (lag and run.age < lag)
        and (not statuses or run.status in statuses or run.shown_status in statuses)
        and query.get("user_id", run.user_id) == run.user_id
        and query.get("session_id", run.session_id) == run.session_id
    ]
    sort_items(found, query.get("sort", "-started_at"), _SORT_KEYS)
    await respond_page(exchange, found, lambda run: run.public())


async def get(exchange: AppExchange, run_id: str) -> None:
    """`GET /v1/runs/{id}`."""
    await exchange.respond(200, {"data": _find(exchange, run_id).public()})


async def cancel(exchange: AppExchange, run_id: str) -> None:
    """`POST /v1/runs/{id}/cancel`."""
    _find(exchange, run_id).cancel()
    exchange.state.changes.notify()
    await exchange.respond(200, {"message": "canceled"})


async def give_input(exchange: AppExchange, run_id: str) -> None:
    """`POST /v1/runs/{id}/input`."""
    run = _find(exchange, run_id)
    fields = Fields.of(exchange.record)
    kind = fields.require("type", str)
    data = Fields(fields.require("data", dict) or {}, [], multipart=False)
    fields.check()
    if kind not in ("human_feedback", "approval_request"):
        raise bad_fields({"type": "must be a valid value"})
    if run.status not in ("started", "paused"):
        raise RefusalError(400, "bad_request", f"the run is {run.status} and takes no input")
    request_id = data.require("request_id", str)
    answer = _answer(kind, data)
    data.check()
    question = next((q for q in run.open_questions if (q.id, q.kind) == (request_id, kind)), None)
    if question is None:
        raise bad_fields({"request_id": "there is no such open request"})
    answer(question)
    run.keep(question)
    exchange.state.changes.notify()
    await exchange.respond(200, {"message": "ok"})


async def list_events(exchange: AppExchange, run_id: str) -> None:
    """`GET /v1/runs/{id}/events`."""
    run = _find(exchange, run_id)
    left_out = exchange.record.fault.skip
    events = run.feed.events
    if left_out:
        events = [event for event in events if event.sequence not in left_out]
    await respond_page(exchange, events, lambda event: msgspec.Raw(event.data))


async def follow(exchange: AppExchange, run_id: str) -> None:
    """`GET /v1/runs/{id}/stream`."""
    run = _find(exchange, run_id)
    after = positive_number(exchange.record.query, "after_sequence", default=0)
    fault = exchange.record.fault
    after = 0 if fault.ignore_after_sequence else max(after - fault.replay, 0)
    await _stream(exchange, Reader(run.feed, after=after))


def _start(
    exchange: AppExchange,
    input: Mapping[str, Any],
    *,
    user_id: str | None,
    session_id: str | None,
    files: Sequence[InputFile],
) -> Run:
    """Create a run. Its App starts at the caller's next `await`."""
    state = exchange.state
    deployment = deployment_of(exchange)
    run = Run(
        id=new_id(),
        app=deployment.name,
        app_id=deployment.id,
        input=input,
        user_id=user_id,
        session_id=session_id,
        feed=Feed(state.settings.event_window),
    )
    state.add_run(run)
    if state.storage is not None:
        run.store = state.storage
        state.storage.add_run(run, files)
    work = execute_run(state, deployment.app, run, context_of(state, run, files))
    run.task = state.tasks.spawn(work)
    return run


def context_of(state: AppState, run: Run, files: Sequence[InputFile]) -> RunContext:
    """A run as its App sees it."""
    return RunContext(
        id=run.id,
        app=run.app,
        user_id=run.user_id,
        session_id=run.session_id,
        files=files,
        pace=state.settings.pace,
        channel=RunChannel(run, state.changes),
    )


async def execute_run(
    state: AppState, app: App, run: Run, context: RunContext, known: Execution | None = None
) -> None:
    """Execute the App of a run, from its first event to its last.

    `known` is the execution in the history, if the run resumes after a restart.
    """
    execution = known or Execution(
        id=run.id,
        app=run.app,
        app_id=run.app_id,
        input=run.input,
        user_id=run.user_id,
        session_id=run.session_id,
        questions=run.questions,
    )
    try:
        run.enter("started")
        await state.execute(app, execution, context, again=known is not None)
        error = execution.error if execution.status == "failure" else None
        run.enter(_ENDS[execution.status], execution.output, error)
    except ReplayError as error:  # the run has already noted its failure
        execution.end("failure", execution.nodes or {}, str(error))
        state.end_execution(execution)
    state.changes.notify()


async def _stream(exchange: AppExchange, reader: Reader) -> None:
    settings = exchange.state.settings
    await stream_events(
        exchange,
        reader,
        newline=settings.newline,
        named=True,
        heartbeat=settings.heartbeat,
        sent=exchange.state.changes.notify,
    )


def _answer(kind: str, data: Fields) -> Callable[[Question], None]:
    """A function that answers the question. The shape of an answer to an approval is our guess, and
    so are the answers to the parts of a request for feedback."""
    if kind == "human_feedback":
        feedback, answers = data.require("feedback", str), data.get("answers", list)
        return lambda question: question.reply(feedback or "", answers)
    approved = data.require("approved", bool)
    params = data.get("params", dict)
    comment = data.get("feedback", str)
    return lambda question: question.decide(bool(approved), params, comment)


def _find(exchange: AppExchange, run_id: str) -> Run:
    run = exchange.state.runs.get(run_id)
    if run is None or run.app_id != deployment_of(exchange).id:
        raise RefusalError(404, "not_found", "there is no such run")
    return run


def _named_files(exchange: AppExchange, fields: Fields) -> list[InputFile]:
    app_id = deployment_of(exchange).id
    found: list[InputFile] = []
    for id in fields.get("file_ids", list) or ():
        file = exchange.state.files.get(id) if isinstance(id, str) else None
        if file is None or file.app_id != app_id:
            fields.complaints["file_ids"] = f"there is no file {id!r}"
        else:
            found.append(file)
    return found
