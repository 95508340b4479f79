"""The management API's view of past calls: their traces, sessions and artifacts.

The vendor documents the paths, the filters and most fields. Our guesses: that a trace has the id of
its run or submitted call, that `source_id` is the App's id, the statuses and `error` (the library's
tracing has them), the names within `usage` (the library's), the fields of a session, and the order
of the lists.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..core.pages import respond_page, sort_items
from ..core.refusals import RefusalError, bad_fields
from ..core.signed_links import check, respond_content, sign

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..core.exchange import Exchange
    from ..core.request_record import RequestRecord
    from .apps import Artifact, Execution, Management

LINKS = "artifact-files"
"""The name of the service that links to artifacts lead to."""

USD_PER_TOKEN = 0.000002
"""The price of a token in the emulator, so that a trace has a cost."""

_STATUSES = {"success": "succeeded", "failure": "failed"}


def authorize_link(exchange: Exchange[Management]) -> None:
    """Refuse a request for an artifact without a valid link."""
    check(exchange.record, exchange.state.clock())


async def list_artifacts(exchange: Exchange[Management], app_id: str, run_id: str) -> None:
    """`GET /v1/apps/{app}/runs/{run}/artifacts`."""
    found = _find(_of_app(exchange, app_id), run_id, "run")
    management = exchange.state
    expires = management.clock() + management.link_seconds

    def show(artifact: Artifact) -> dict[str, Any]:
        segments = (found.id, artifact.id, artifact.name)
        return {
            "id": artifact.id,
            "type": "file",
            "download_url": sign(exchange.url, LINKS, *segments, expires=expires),
            "name": artifact.name,
            "size": len(artifact.content),
            "mime_type": artifact.mime_type,
            "saved_at": artifact.saved_at,
        }

    await respond_page(exchange, found.artifacts, show)


async def download(exchange: Exchange[Management], run_id: str, artifact_id: str) -> None:
    """`GET` an artifact, by a link."""
    found = [
        artifact
        for execution in exchange.state.executions
        if execution.id == run_id
        for artifact in execution.artifacts
        if artifact.id == artifact_id
    ]
    if not found:
        raise RefusalError(404, "NoSuchKey", "The specified key does not exist")
    await respond_content(exchange, found[0].content, found[0].mime_type)


async def list_traces(exchange: Exchange[Management], app_id: str) -> None:
    """`GET /v1/apps/{app}/traces`."""
    query = exchange.record.query
    since, until = _time(exchange.record, "gte"), _time(exchange.record, "lte")
    statuses = set(query.getall("status", []))
    found = [
        _trace(execution)
        for execution in _of_app(exchange, app_id)
        if (since is None or execution.started_at >= since)
        and (until is None or execution.started_at <= until)
        and (not statuses or _status(execution) in statuses)
    ]
    sort_items(found, query.get("sort", "-started_at"), {"started_at": lambda t: t["started_at"]})
    await respond_page(exchange, found, lambda trace: trace)


async def get_trace(exchange: Exchange[Management], app_id: str, trace_id: str) -> None:
    """`GET /v1/apps/{app}/traces/{id}`."""
    found = _find(_of_app(exchange, app_id), trace_id, "trace")
    await exchange.respond(200, {"data": _trace(found)})


async def list_sessions(exchange: Exchange[Management], app_id: str) -> None:
    """`GET /v1/apps/{app}/sessions`, the newest first."""
    sessions: dict[str, dict[str, Any]] = {}
    for execution in _of_app(exchange, app_id):
        if execution.session_id is not None:
            began = execution.started_at
            known = {"id": execution.session_id, "user_id": execution.user_id, "created_at": began}
            session = sessions.setdefault(execution.session_id, known)
            session["updated_at"] = began
    await respond_page(exchange, list(sessions.values())[::-1], lambda session: session)


async def list_messages(exchange: Exchange[Management], app_id: str, session_id: str) -> None:
    """`GET /v1/apps/{app}/sessions/{id}/messages`, the oldest first."""
    found = [each for each in _of_app(exchange, app_id) if each.session_id == session_id]
    if not found:
        raise RefusalError(404, "not_found", "there is no such session")
    await respond_page(exchange, found, _message)


def _message(execution: Execution) -> dict[str, Any]:
    return {
        "id": f"message-{execution.id}",
        "input": execution.input,
        "output": execution.output,
        "created_at": execution.started_at,
        "trace_id": execution.id,
    }


def _trace(execution: Execution) -> dict[str, Any]:
    shown = {
        "id": execution.id,
        "source_id": execution.app_id,
        "started_at": execution.started_at,
        "ended_at": execution.ended_at,
        "status": _status(execution),
        "input": execution.input,
        "output": execution.output,
        "usage": _usage(execution.usage),
    }
    return shown if execution.error is None else {**shown, "error": {"message": execution.error}}


def _status(execution: Execution) -> str:
    return _STATUSES.get(execution.status, execution.status)


def _usage(tokens: Mapping[str, int]) -> dict[str, Any]:
    costs = {f"{name}_cost_usd": count * USD_PER_TOKEN for name, count in tokens.items()}
    return {**tokens, **costs}


def _of_app(exchange: Exchange[Management], app_id: str) -> list[Execution]:
    """The past calls of an App, oldest first. Raises `RefusalError` (404) for an unknown App."""
    app = exchange.state.get(app_id)
    ids = {app.id, *app.other_ids}
    return [each for each in exchange.state.executions if each.app_id in ids]


def _find(executions: Iterable[Execution], id: str, what: str) -> Execution:
    for execution in executions:
        if execution.id == id:
            return execution
    raise RefusalError(404, "not_found", f"there is no such {what}")


def _time(record: RequestRecord, bound: str) -> datetime | None:
    """A bound of `started_at` in the query. Raises `RefusalError` (400) if it is not a time."""
    name = f"started_at:{bound}"
    text = record.query.get(name)
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise bad_fields({name: "must be a valid RFC 3339 time"})
    return when
