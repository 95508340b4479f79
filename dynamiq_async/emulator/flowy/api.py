"""Flowy's API: clients list and run apps, and poll runs.

The vendor documents the status codes and bodies. The texts of errors are our guess, and so is the
response to a run beyond the cap on runs in flight.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate
from math import ceil
from typing import TYPE_CHECKING, Any

from ..core.refusals import RefusalError
from .inputs import read_inputs
from .jobs import FlowyRun
from .links import link_of

if TYPE_CHECKING:
    from ..core.exchange import Exchange
    from ..core.service import Handler
    from .apps import FlowyApp, FlowyContent
    from .jobs import FlowyJob
    from .state import Flowy


def authorize(exchange: Exchange[Flowy]) -> None:
    """Refuse (401) a request with a wrong key, and (429) a request beyond the rate limit."""
    flowy, key = exchange.state, key_of(exchange)
    wait = flowy.take_request(key)
    exchange.headers["Date"] = formatdate(flowy.clock(), usegmt=True)
    if flowy.limits_told == "all":
        exchange.headers.update(flowy.told_limits(key))
    scheme = exchange.record.headers.get("Authorization", "").partition(" ")[0]
    if scheme.lower() != "bearer" or key not in (flowy.key, flowy.publishable_key):
        raise RefusalError(401, "unauthorized", "Invalid API key")
    if wait is not None:
        exchange.headers["Retry-After"] = str(max(1, ceil(wait)))
        raise RefusalError(429, "too_many_requests", "Rate limit exceeded")


def key_of(exchange: Exchange[Flowy]) -> str:
    """The key in a request."""
    return exchange.record.headers.get("Authorization", "").partition(" ")[2]


def scoped(scope: str, handler: Handler[Flowy]) -> Handler[Flowy]:
    """Wrap a handler: refuse (403) a key without the scope."""

    async def checked(exchange: Exchange[Flowy], *arguments: str) -> None:
        scopes = exchange.state.scopes.get(key_of(exchange))
        if scopes is not None and scope not in scopes:
            raise RefusalError(403, "forbidden", "Insufficient permissions")
        await handler(exchange, *arguments)

    return checked


def refusal(error: RefusalError) -> dict[str, str]:
    """The body of an error response."""
    return {"error": str(error)}


async def respond(exchange: Exchange[Flowy], status: int, data: Any) -> None:
    """Send the data, with headers that say how many requests are left."""
    exchange.headers.update(exchange.state.told_limits(key_of(exchange)))
    await exchange.respond(status, {"data": data})


async def list_apps(exchange: Exchange[Flowy]) -> None:
    """`GET /apps`."""
    await respond(exchange, 200, [app.listed() for app in exchange.state.apps.values()])


async def get_app(exchange: Exchange[Flowy], app_id: str) -> None:
    """`GET /apps/{id}`."""
    await respond(exchange, 200, _app(exchange, app_id).public())


async def start_run(exchange: Exchange[Flowy], app_id: str) -> None:
    """`POST /apps/{id}/runs`."""
    flowy, app = exchange.state, _app(exchange, app_id)
    inputs = read_inputs(exchange.record.json, app, flowy.inputs_form)
    check_room(exchange)
    now = flowy.clock()
    begins = now + flowy.queue_seconds
    run = FlowyRun(
        app=app,
        inputs=inputs,
        key=key_of(exchange),
        created_at=now,
        running_at=begins,
        ends_at=begins + app.seconds,
        credits=flowy.run_credits,
    )
    flowy.runs[run.id] = run
    await respond(exchange, 202, {"runId": run.id, "status": "queued"})


def check_room(exchange: Exchange[Flowy]) -> None:
    """Refuse to start a run or generation: 402 without credits, 429 if too many are in flight."""
    flowy, key = exchange.state, key_of(exchange)
    if flowy.daily_runs is not None and flowy.spent(key) >= flowy.daily_runs:
        raise RefusalError(402, "payment_required", "Daily spend cap reached")
    credits, blocked = flowy.balance()
    if credits - blocked < flowy.run_credits:
        raise RefusalError(402, "payment_required", "Insufficient credits")
    if flowy.in_flight(key) >= flowy.max_runs:
        exchange.headers["Retry-After"] = str(flowy.retry_after)
        raise RefusalError(429, "too_many_requests", "Too many runs in flight")


async def get_run(exchange: Exchange[Flowy], run_id: str) -> None:
    """`GET /runs/{id}`."""
    run = exchange.state.runs.get(run_id)
    if run is None:
        raise RefusalError(404, "not_found", "Run not found")
    now = exchange.state.clock()
    status = run.status(now)
    shown: dict[str, Any] = {
        "runId": run.id,
        "appId": run.app.id,
        "appTitle": run.app.title,
        "status": status,
        "outputs": [],
        **times(run, now),
    }
    if status == "failed":
        shown["error"] = run.error
    if status == "completed":
        shown["outputs"] = [
            _output(exchange, run, node, what) for node, what in run.outputs.items()
        ]
    await respond(exchange, 200, shown)


async def not_found(exchange: Exchange[Flowy]) -> None:
    """Any other path."""
    raise RefusalError(404, "not_found", "Not found")


def _app(exchange: Exchange[Flowy], app_id: str) -> FlowyApp:
    apps = exchange.state.apps.values()
    found = next((app for app in apps if app_id in (app.id, app.slug)), None)
    if found is None:
        raise RefusalError(404, "not_found", "App not found")
    return found


def _output(
    exchange: Exchange[Flowy], run: FlowyRun, node: str, what: str | FlowyContent
) -> dict[str, Any]:
    shown = {"nodeId": node}
    for spec in run.app.outputs:
        if spec["nodeId"] == node and "name" in spec:
            shown["name"] = spec["name"]
    if isinstance(what, str):
        return {**shown, "kind": "text", "text": what}
    return {**shown, "kind": what.kind, "url": link_of(exchange, run, node, what)}


def times(job: FlowyJob, now: float) -> dict[str, str]:
    """The times at which a run or generation was made and last changed."""
    return {"createdAt": time_text(job.created_at), "updatedAt": time_text(min(now, job.ends_at))}


def time_text(when: float) -> str:
    """A Unix time as the API shows it."""
    return datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")
