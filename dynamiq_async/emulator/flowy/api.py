"""Flowy's API: apps are listed and run, runs are asked about.

Status codes and bodies are documented by the vendor. The texts of errors are our guess, and so is
the response beyond the cap on runs in flight.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..core.refusals import RefusalError
from .links import sign
from .runs import FlowyRun

if TYPE_CHECKING:
    from ..core.exchange import Exchange
    from .apps import FlowyApp, FlowyContent
    from .state import Flowy


def authorize(exchange: Exchange[Flowy]) -> None:
    """Refuse (401) a request with another key, and (429) one beyond the rate limit."""
    flowy = exchange.state
    scheme, _, key = exchange.record.headers.get("Authorization", "").partition(" ")
    headers, over = flowy.take_request(key)
    exchange.headers.update(headers)
    if scheme.lower() != "bearer" or key not in (flowy.key, flowy.publishable_key):
        raise RefusalError(401, "unauthorized", "Invalid API key")
    if over:
        raise RefusalError(429, "too_many_requests", "Rate limit exceeded")


def refusal(error: RefusalError) -> dict[str, str]:
    """The body of a response that refuses."""
    return {"error": str(error)}


async def list_apps(exchange: Exchange[Flowy]) -> None:
    """`GET /apps`."""
    apps = exchange.state.apps.values()
    await exchange.respond(200, {"data": [app.listed() for app in apps]})


async def get_app(exchange: Exchange[Flowy], app_id: str) -> None:
    """`GET /apps/{id}`."""
    await exchange.respond(200, {"data": _app(exchange, app_id).public()})


async def start_run(exchange: Exchange[Flowy], app_id: str) -> None:
    """`POST /apps/{id}/runs`."""
    flowy, app = exchange.state, _app(exchange, app_id)
    key = exchange.record.headers["Authorization"].partition(" ")[2]
    inputs = _inputs(exchange.record.json, app)
    if flowy.daily_runs is not None and flowy.spent(key) >= flowy.daily_runs:
        raise RefusalError(402, "payment_required", "Daily spend cap reached")
    if flowy.in_flight(key) >= flowy.max_runs:
        exchange.headers["Retry-After"] = str(flowy.retry_after)
        raise RefusalError(429, "too_many_requests", "Too many runs in flight")
    now = flowy.clock()
    begins = now + flowy.queue_seconds
    run = FlowyRun(
        app=app,
        inputs=inputs,
        key=key,
        created_at=now,
        running_at=begins,
        ends_at=begins + app.seconds,
    )
    flowy.runs[run.id] = run
    await exchange.respond(202, {"data": {"runId": run.id, "status": "queued"}})


async def get_run(exchange: Exchange[Flowy], run_id: str) -> None:
    """`GET /runs/{id}`."""
    flowy = exchange.state
    run = flowy.runs.get(run_id)
    if run is None:
        raise RefusalError(404, "not_found", "Run not found")
    now = flowy.clock()
    status = run.status(now)
    shown: dict[str, Any] = {
        "runId": run.id,
        "appId": run.app.id,
        "appTitle": run.app.title,
        "status": status,
        "outputs": [],
        "createdAt": _time(run.created_at),
        "updatedAt": _time(min(now, run.ends_at)),
    }
    if status == "failed":
        shown["error"] = run.error
    if status == "completed":
        shown["outputs"] = [
            _output(exchange, run, node, what) for node, what in run.outputs.items()
        ]
    await exchange.respond(200, {"data": shown})


async def not_found(exchange: Exchange[Flowy]) -> None:
    """Any other path."""
    raise RefusalError(404, "not_found", "Not found")


def _app(exchange: Exchange[Flowy], app_id: str) -> FlowyApp:
    apps = exchange.state.apps.values()
    found = next((app for app in apps if app_id in (app.id, app.slug)), None)
    if found is None:
        raise RefusalError(404, "not_found", "App not found")
    return found


def _inputs(body: Any, app: FlowyApp) -> dict[str, str]:
    given = body.get("inputs") if isinstance(body, dict) else None
    inputs = given if isinstance(given, dict) else {}
    known = {spec["nodeId"]: spec for spec in app.inputs}
    for node in inputs:
        if node not in known or not isinstance(inputs[node], str):
            raise RefusalError(400, "bad_request", f"Invalid input: {node}")
    for node, spec in known.items():
        if spec["required"] and node not in inputs:
            raise RefusalError(400, "bad_request", f"Missing input: {node}")
    return inputs


def _output(
    exchange: Exchange[Flowy], run: FlowyRun, node: str, what: str | FlowyContent
) -> dict[str, Any]:
    if isinstance(what, str):
        return {"nodeId": node, "kind": "text", "text": what}
    return {"nodeId": node, "kind": what.kind, "url": sign(exchange, run.id, node, what)}


def _time(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")
