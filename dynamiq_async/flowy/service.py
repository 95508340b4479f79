"""What Flowy is asked, as one client does it: requests, what apps take, runs in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from msgspec import Raw, Struct, structs

from dynamiq_async import _json, errors
from dynamiq_async._http.client import Client
from dynamiq_async._http.error_responses import beginning
from dynamiq_async._http.limiter import now
from dynamiq_async._http.request_options import Extras
from dynamiq_async._json import encode
from dynamiq_async.flowy.models import FlowyApp, FlowyRun, app_of, run_of
from dynamiq_async.flowy.outputs import Origin

if TYPE_CHECKING:
    from collections import OrderedDict
    from collections.abc import Awaitable, Callable
    from weakref import WeakValueDictionary

    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import CallOptions
    from dynamiq_async.downloads import Downloader
    from dynamiq_async.flowy.poller import Poller, RunGate

T = TypeVar("T")

DEFAULT_WAIT = 3600.0
"""Seconds. Nothing says that every run ends, so a wait has a limit."""

SCHEMA_SECONDS = 600.0
"""How long it is remembered what an app takes."""

SCHEMA_DOUBT_SECONDS = 30.0
"""What was learned longer ago is learned anew before inputs are refused because of it."""

MAX_SCHEMAS = 256


class _Data(Struct):
    data: Raw = Raw(b"null")


class _Schema(NamedTuple):
    app: FlowyApp
    at: float


class FlowyClient(Client):
    """The base of `AsyncFlowy`."""

    _downloader: Downloader
    _poller: Poller
    _in_flight: RunGate
    _schemas: OrderedDict[str, _Schema]
    _learning: WeakValueDictionary[tuple[int, str], asyncio.Lock]

    async def _start_request(
        self,
        app: FlowyApp | str,
        inputs: Mapping[str, Any] | None,
        check: bool,
        extras: Extras,
        extra_body: Mapping[str, Any] | None,
        deadline: float | None,
    ) -> Request:
        app_id = app_id_of(app)
        if not isinstance(inputs, Mapping | None):
            raise errors.InvalidArgumentError(
                f"inputs must be a mapping, not {type(inputs).__name__}", argument="inputs"
            )
        fitting = dict(inputs or {})
        if check:
            if isinstance(app, FlowyApp) and app.inputs is not None:
                fitting = app.fit(fitting)
            else:
                fitting = await self._fit(app_id, fitting, deadline)
        body = encode({"inputs": fitting, **(extra_body or {})}, "inputs")
        return self._request("POST", "apps", app_id, "runs", body=body, extras=extras)

    async def _start(
        self, request: Request, options: CallOptions, deadline: float | None
    ) -> FlowyRun:
        found = await self._send(request, options, _Data, deadline=deadline)
        return self._bound(found.data, request, options)

    async def _enter_flight(self, deadline: float | None) -> None:
        """Wait until there is room for a run in flight, and take it."""
        if not self._in_flight.try_enter():
            late = (
                f"no run was started: the {self._in_flight.limit} runs that this client has in "
                "flight did not end in time; allow more time or raise max_runs"
            )
            await in_time(self._stand_in_line(), deadline, late)

    async def _stand_in_line(self) -> None:
        while not await self._in_flight.enter():  # noqa: ASYNC110 - which waits
            await asyncio.sleep(self._in_flight.cooldown)

    async def _wait(
        self,
        run_id: str,
        timeout: float | None,
        deadline: float | None,
        *,
        started: FlowyRun | None = None,
    ) -> FlowyRun:
        # How long one look may wait for the quota is no limit of its own here.
        options = within(self._options, None)
        look = partial(self._get_run, options=options)
        return await self._poller.wait(
            run_id, look, timeout=timeout, deadline=deadline, started=started
        )

    async def _get_run(
        self, run_id: str, deadline: float | None = None, *, options: CallOptions
    ) -> FlowyRun:
        request = self._request("GET", "runs", run_id, extras=Extras())
        found = await self._send(request, options, _Data, deadline=deadline)
        return self._bound(found.data, request, options)

    def _bound(self, data: Raw, request: Request, options: CallOptions) -> FlowyRun:
        """A run whose outputs know how they are downloaded."""
        run = self._read(run_of, data, request)
        reread = partial(self._get_run, options=options)
        for position, output in enumerate(run.outputs):
            output.bind(Origin(self._downloader, options, reread, run, position))
        return run

    async def _get_app(
        self, app_id: str, options: CallOptions, deadline: float | None = None
    ) -> FlowyApp:
        request = self._request("GET", "apps", app_id, extras=Extras())
        found = await self._send(request, options, _Data, deadline=deadline)
        app = self._read(app_of, found.data, request)
        self._remember(app, app_id)
        return app

    def _remember(self, app: FlowyApp, app_id: str) -> None:
        for name in filter(None, {app_id, app.id, app.slug}):
            self._schemas[name] = _Schema(app, now())
            self._schemas.move_to_end(name)
        while len(self._schemas) > MAX_SCHEMAS:
            self._schemas.popitem(last=False)

    def _read(self, read: Callable[[Raw], T], data: Raw, request: Request) -> T:
        try:
            return read(data)
        except _json.DECODE_ERRORS as error:
            raise errors.ResponseDecodeError(
                f"the answer to {request} is not what it should be: {error}",
                body=beginning(bytes(data), self._caller.key),
            ) from error

    # --- what apps take ------------------------------------------------------------------------

    async def _fit(
        self, app_id: str, inputs: dict[str, Any], deadline: float | None
    ) -> dict[str, Any]:
        schema = await self._schema(app_id, now() - SCHEMA_SECONDS, deadline)
        doubtful = now() - SCHEMA_DOUBT_SECONDS
        try:
            return schema.app.fit(inputs)
        except errors.InvalidArgumentError:
            if schema.at >= doubtful:
                raise
        return (await self._schema(app_id, doubtful, deadline)).app.fit(inputs)

    async def _schema(self, app_id: str, oldest: float, deadline: float | None) -> _Schema:
        """What an app takes, as learned at or after `oldest`; asked once for all who need it."""
        here = id(asyncio.get_running_loop()), app_id
        turn = self._learning.setdefault(here, asyncio.Lock())
        await in_time(turn.acquire(), deadline, f"what {app_id!r} takes was not told in time")
        try:
            known = self._schemas.get(app_id)
            if known is None or known.at < oldest:
                await self._learn(app_id, deadline)
                known = self._schemas[app_id]
            return known
        finally:
            turn.release()

    async def _learn(self, app_id: str, deadline: float | None) -> None:
        try:
            await self._get_app(app_id, within(self._options, None), deadline)
        except (errors.PermissionDeniedError, errors.NotFoundError):
            # A key may be allowed to run what it is not shown; whether it is, the start tells.
            self._remember(FlowyApp(), app_id)


async def in_time(waiting: Awaitable[T], deadline: float | None, late: str) -> T:
    """Await it until the deadline, a point in the loop's time; then APITimeoutError."""
    try:
        async with asyncio.timeout_at(deadline):
            return await waiting
    except TimeoutError:
        raise errors.APITimeoutError(late, limit="total") from None


def within(options: CallOptions, seconds: float | None) -> CallOptions:
    """`options` with another limit for the whole call."""
    return structs.replace(options, timeout=structs.replace(options.timeout, total=seconds))


def app_id_of(app: FlowyApp | str) -> str:
    found = app.id or app.slug if isinstance(app, FlowyApp) else app
    return checked_id(found, "app")


def checked_id(value: Any, argument: str) -> str:
    if not isinstance(value, str) or not value:
        raise errors.InvalidArgumentError(
            f"{argument} must be a non-empty string, not {value!r}", argument=argument
        )
    return value
