"""The Runs API: create, list, look at, cancel and answer runs, and follow their events."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from ..core.feed import Reader
from ..core.request_bodies import Fields, RefusalError, bad_fields
from . import runs
from .files_api import InputFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..core.exchange import Exchange
    from .run_context import Question
    from .runs import Run

PAGE_SIZE = 25
MAX_PAGE_SIZE = 500

_STATUSES = {*runs.TERMINAL, "created", "started", "paused", "awaiting_input"}
_SORT_KEYS: Mapping[str, Callable[[Run], Any]] = {
    "started_at": attrgetter("started_at"),
    "ended_at": lambda run: run.ended_at or run.started_at,
    "status": attrgetter("shown_status"),
    "id": attrgetter("id"),
}


async def create(exchange: Exchange) -> None:
    """`POST /v1/runs`. The run goes on when the client leaves."""
    fields = Fields.of(exchange.record)
    input = fields.require("input", dict)
    stream = fields.get("stream", bool)
    background = fields.get("background", bool)
    user_id = fields.get("user_id", str)
    session_id = fields.get("session_id", str)
    if stream and background:
        fields.complaints["background"] = "cannot be combined with stream"
    if session_id is not None and not is_uuid(session_id):
        fields.complaints["session_id"] = "must be a valid UUID"
    files = _named_files(exchange, fields)
    files += (InputFile.from_part(part) for part in fields.files if part.name == "files")
    fields.check()
    exchange.state.charge()
    run = runs.start(
        exchange.state,
        exchange.deployment,
        input or {},
        user_id=user_id,
        session_id=session_id,
        files=files,
    )
    if background:
        await exchange.answer(202, {"data": run.public()})
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
    await exchange.answer(200, {"data": run.public()})


async def list_runs(exchange: Exchange) -> None:
    """`GET /v1/runs`."""
    query = exchange.record.query
    statuses = set(query.getall("status", []))
    if not statuses <= _STATUSES:
        raise bad_fields({"status": "must be a valid value"})
    found = [
        run
        for run in exchange.state.runs.values()
        if run.app_id == exchange.deployment.id
        and (not statuses or run.status in statuses or run.shown_status in statuses)
        and query.get("user_id", run.user_id) == run.user_id
        and query.get("session_id", run.session_id) == run.session_id
    ]
    for key in reversed(query.get("sort", "-started_at").split(",")):
        name = key.strip().removeprefix("-")
        if name not in _SORT_KEYS:
            raise bad_fields({"sort": f"cannot sort by {name}"})
        found.sort(key=_SORT_KEYS[name], reverse=key.strip().startswith("-"))
    await answer_page(exchange, found, lambda run: run.public())


async def get(exchange: Exchange, run_id: str) -> None:
    """`GET /v1/runs/{id}`."""
    await exchange.answer(200, {"data": _find(exchange, run_id).public()})


async def cancel(exchange: Exchange, run_id: str) -> None:
    """`POST /v1/runs/{id}/cancel`."""
    _find(exchange, run_id).cancel()
    exchange.state.changes.notify()
    await exchange.answer(200, {"message": "canceled"})


async def give_input(exchange: Exchange, run_id: str) -> None:
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
    exchange.state.changes.notify()
    await exchange.answer(200, {"message": "ok"})


async def list_events(exchange: Exchange, run_id: str) -> None:
    """`GET /v1/runs/{id}/events`."""
    run = _find(exchange, run_id)
    left_out = exchange.record.fault.skip
    events = run.feed.events
    if left_out:
        events = [event for event in events if event.sequence not in left_out]
    await answer_page(exchange, events, lambda event: msgspec.Raw(event.data))


async def follow(exchange: Exchange, run_id: str) -> None:
    """`GET /v1/runs/{id}/stream`."""
    run = _find(exchange, run_id)
    after = _number(exchange, "after_sequence", default=0)
    fault = exchange.record.fault
    after = 0 if fault.ignore_after_sequence else max(after - fault.replay, 0)
    await _stream(exchange, Reader(run.feed, after=after))


async def _stream(exchange: Exchange, reader: Reader) -> None:
    await exchange.stream(reader, named=True, heartbeat=exchange.state.settings.heartbeat)


def _answer(kind: str, data: Fields) -> Callable[[Question], None]:
    """What to do with the question. The answer to an approval is a guess."""
    if kind == "human_feedback":
        feedback = data.require("feedback", str)
        return lambda question: question.reply(feedback or "")
    approved = data.require("approved", bool)
    params = data.get("params", dict)
    comment = data.get("feedback", str)
    return lambda question: question.decide(bool(approved), params, comment)


def _find(exchange: Exchange, run_id: str) -> Run:
    run = exchange.state.runs.get(run_id)
    if run is None or run.app_id != exchange.deployment.id:
        raise RefusalError(404, "not_found", "there is no such run")
    return run


def _named_files(exchange: Exchange, fields: Fields) -> list[InputFile]:
    found: list[InputFile] = []
    for id in fields.get("file_ids", list) or ():
        file = exchange.state.files.get(id) if isinstance(id, str) else None
        if file is None or file.app_id != exchange.deployment.id:
            fields.complaints["file_ids"] = f"there is no file {id!r}"
        else:
            found.append(file)
    return found


async def answer_page(exchange: Exchange, items: Any, show: Callable[[Any], Any]) -> None:
    """Send the page of `items` that the query asks for."""
    page = _number(exchange, "page", default=1)
    size = min(_number(exchange, "page_size", default=PAGE_SIZE), MAX_PAGE_SIZE)
    total = len(items)
    start = (page - 1) * size
    pagination = {
        "page": page,
        "page_size": size,
        "page_count": -(-total // size),
        "total_count": total,
    }
    shown = [show(items[index]) for index in range(start, min(start + size, total))]
    await exchange.answer(200, {"data": shown, "pagination": pagination})


def _number(exchange: Exchange, name: str, *, default: int) -> int:
    text = exchange.record.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise bad_fields({name: "must be an integer no less than 1"})
    return int(text)


def is_uuid(text: str) -> bool:
    """Whether `text` is one."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True
