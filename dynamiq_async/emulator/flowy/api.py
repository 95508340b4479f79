"""Flowy: apps that are run and asked about, rate limits, a spend cap, and links that expire.

Everything in it that has to do with time goes by `Flowy.clock`, the runs too: what a run is doing
is a matter of when one asks. Status codes, bodies and `X-RateLimit-*` are documented by the vendor;
the texts of errors, the cap on runs in flight and what it answers beyond that cap are our guess.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..core.request_bodies import RefusalError
from .apps import BUILTIN_FLOWY, FlowyApp, FlowyContent, FlowyFailedError
from .links import sign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..core.exchange import Exchange

DEFAULT_FLOWY_KEY = "flowy_sk_emulator"
DEFAULT_PUBLISHABLE_KEY = "flowy_pk_emulator"
WINDOW = 60
DAY = 86_400


@dataclass(eq=False, kw_only=True)
class FlowyRun:
    """A run, which is over when its time is."""

    app: FlowyApp
    inputs: Mapping[str, str]
    key: str
    created_at: float
    running_at: float
    ends_at: float
    id: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        self.outputs: Mapping[str, str | FlowyContent] = {}
        self.error: str | None = None
        try:
            self.outputs = self.app.make(self.inputs)
        except FlowyFailedError as error:
            self.error = str(error)

    def status(self, now: float) -> str:
        """What it is doing at that time."""
        if now < self.running_at:
            return "queued"
        if now < self.ends_at:
            return "running"
        return "completed" if self.error is None else "failed"


@dataclass(eq=False, kw_only=True)
class Flowy:
    """What Flowy knows, and how it behaves. May be changed while the emulator runs.

    Attributes:
        key, publishable_key: what clients may send.
        limits: requests a minute, by key.
        max_runs: runs in flight, for each key; beyond it: 429.
        retry_after: seconds to wait that such a 429 asks for.
        daily_runs: how many runs there are for each key and UTC day before 402; None: no cap.
        queue_seconds: how long a run is queued.
        link_seconds: how long a link to an output works.
        apps: the apps, by id.
        runs: the runs, by id, oldest first.
        clock: gives the Unix time.
    """

    key: str = DEFAULT_FLOWY_KEY
    publishable_key: str = DEFAULT_PUBLISHABLE_KEY
    limits: dict[str, int] = field(
        default_factory=lambda: {DEFAULT_FLOWY_KEY: 60, DEFAULT_PUBLISHABLE_KEY: 120}
    )
    max_runs: int = 10
    retry_after: int = 5
    daily_runs: int | None = None
    queue_seconds: float = 0.0
    link_seconds: float = 600.0
    apps: dict[str, FlowyApp] = field(default_factory=lambda: dict(BUILTIN_FLOWY))
    runs: dict[str, FlowyRun] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    url: Callable[[], str] = str
    _used: Counter[tuple[str, int]] = field(default_factory=Counter)

    def take_request(self, key: str) -> tuple[dict[str, str], bool]:
        """Count a request in its window; the headers that say so, and whether it was too many."""
        now = self.clock()
        window = int(now // WINDOW)
        limit = self.limits.get(key, min(self.limits.values()))
        over = self._used[key, window] >= limit
        if not over:
            self._used[key, window] += 1
        ends = (window + 1) * WINDOW
        headers = {
            "Date": formatdate(now, usegmt=True),
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(limit - self._used[key, window]),
            "X-RateLimit-Reset": str(ends),
        }
        if over:
            headers["Retry-After"] = str(max(1, math.ceil(ends - now)))
        return headers, over

    def in_flight(self, key: str) -> int:
        """How many of a key's runs are not over."""
        now = self.clock()
        return sum(run.key == key and now < run.ends_at for run in self.runs.values())

    def spent(self, key: str) -> int:
        """How many runs a key has started on this UTC day."""
        today = self.clock() // DAY
        return sum(r.key == key and r.created_at // DAY == today for r in self.runs.values())


def authorize(exchange: Exchange) -> None:
    """Refuse (401) another key than there is, and (429) what is beyond the limit."""
    flowy = exchange.state.flowy
    scheme, _, key = exchange.record.headers.get("Authorization", "").partition(" ")
    headers, over = flowy.take_request(key)
    exchange.headers.update(headers)
    if scheme.lower() != "bearer" or key not in (flowy.key, flowy.publishable_key):
        raise RefusalError(401, "unauthorized", "Invalid API key")
    if over:
        raise RefusalError(429, "too_many_requests", "Rate limit exceeded")


def refusal(error: RefusalError) -> dict[str, str]:
    """The body of an answer that says no."""
    return {"error": str(error)}


async def list_apps(exchange: Exchange) -> None:
    """`GET /apps`."""
    apps = exchange.state.flowy.apps.values()
    await exchange.answer(200, {"data": [app.listed() for app in apps]})


async def get_app(exchange: Exchange, app_id: str) -> None:
    """`GET /apps/{id}`."""
    await exchange.answer(200, {"data": _app(exchange, app_id).public()})


async def start_run(exchange: Exchange, app_id: str) -> None:
    """`POST /apps/{id}/runs`."""
    flowy, app = exchange.state.flowy, _app(exchange, app_id)
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
    await exchange.answer(202, {"data": {"runId": run.id, "status": "queued"}})


async def get_run(exchange: Exchange, run_id: str) -> None:
    """`GET /runs/{id}`."""
    flowy = exchange.state.flowy
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
        shown["outputs"] = [_output(flowy, run, node, what) for node, what in run.outputs.items()]
    await exchange.answer(200, {"data": shown})


async def not_found(exchange: Exchange) -> None:
    """Any other path."""
    raise RefusalError(404, "not_found", "Not found")


def _app(exchange: Exchange, app_id: str) -> FlowyApp:
    apps = exchange.state.flowy.apps.values()
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


def _output(flowy: Flowy, run: FlowyRun, node: str, what: str | FlowyContent) -> dict[str, Any]:
    if isinstance(what, str):
        return {"nodeId": node, "kind": "text", "text": what}
    return {"nodeId": node, "kind": what.kind, "url": sign(flowy, run.id, node, what)}


def _time(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")
