"""What Flowy is asked, as one client does it: requests, what apps take, runs in flight."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from msgspec import Raw, Struct

from dynamiq_async import errors
from dynamiq_async._http.limiter import Limiter, now
from dynamiq_async._http.response import read_with
from dynamiq_async._json import encode
from dynamiq_async.flowy.models import FlowyApp, FlowyRun, app_of, run_of
from dynamiq_async.flowy.outputs import Origin
from dynamiq_async.flowy.poller import Poller
from dynamiq_async.options import check_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dynamiq_async._http.api import Api
    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import RequestOptions, SendOptions
    from dynamiq_async.downloads import Downloader
    from dynamiq_async.flowy.poller import RunLimiter

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


class Shared:
    """What all views of one client share.

    Args:
        downloader: brings outputs.
        limiter: the client's, whose quota tells how many requests are left.
        runs: how many runs may be in flight.
    """

    def __init__(self, downloader: Downloader, limiter: Limiter, runs: RunLimiter) -> None:
        self.downloader = downloader
        self.runs = runs
        self.poller = Poller(limiter)
        self.schemas: OrderedDict[str, _Schema] = OrderedDict()
        self.learning: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()


class FlowyRequests:
    """What Flowy is asked, by one view of a client."""

    def __init__(self, api: Api, shared: Shared) -> None:
        self.api = api
        self.shared = shared

    async def start_request(
        self,
        app: FlowyApp | str,
        inputs: Mapping[str, Any] | None,
        check: bool,
        given: RequestOptions,
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
        return self.api.request("POST", "apps", app_id, "runs", body=body, given=given)

    async def start(
        self, request: Request, options: SendOptions, deadline: float | None
    ) -> FlowyRun:
        found = await self.api.fetch(request, options, _Data, deadline=deadline)
        return self._bound(found.data, request, options)

    async def enter_flight(self, deadline: float | None) -> None:
        """Wait until there is room for a run in flight, and take it."""
        if not self.shared.runs.try_acquire():
            late = (
                f"no run was started: the {self.shared.runs.limit} runs that this client has in "
                "flight did not end in time; allow more time or raise max_runs"
            )
            await in_time(self._stand_in_line(), deadline, late)

    async def _stand_in_line(self) -> None:
        while not await self.shared.runs.acquire():  # noqa: ASYNC110 - which waits
            await asyncio.sleep(self.shared.runs.cooldown)

    async def wait(
        self,
        run_id: str,
        timeout: float | None,
        deadline: float | None,
        *,
        started: FlowyRun | None = None,
    ) -> FlowyRun:
        # How long one look may wait for the quota is no limit of its own here.
        options = self.api.options.with_total(None)
        look = partial(self.get_run, options=options)
        return await self.shared.poller.wait(
            run_id, look, timeout=timeout, deadline=deadline, started=started
        )

    async def get_run(
        self, run_id: str, deadline: float | None = None, *, options: SendOptions
    ) -> FlowyRun:
        request = self.api.request("GET", "runs", run_id)
        found = await self.api.fetch(request, options, _Data, deadline=deadline)
        return self._bound(found.data, request, options)

    def _bound(self, data: Raw, request: Request, options: SendOptions) -> FlowyRun:
        """A run whose outputs know how they are downloaded."""
        run = self.read(run_of, data, request)
        reread = partial(self.get_run, options=options)
        for position, output in enumerate(run.outputs):
            output.bind(Origin(self.shared.downloader, options, reread, run, position))
        return run

    async def get_app(
        self, app_id: str, options: SendOptions, deadline: float | None = None
    ) -> FlowyApp:
        request = self.api.request("GET", "apps", app_id)
        found = await self.api.fetch(request, options, _Data, deadline=deadline)
        app = self.read(app_of, found.data, request)
        self._remember(app, app_id)
        return app

    def _remember(self, app: FlowyApp, app_id: str) -> None:
        for name in filter(None, {app_id, app.id, app.slug}):
            self.shared.schemas[name] = _Schema(app, now())
            self.shared.schemas.move_to_end(name)
        while len(self.shared.schemas) > MAX_SCHEMAS:
            self.shared.schemas.popitem(last=False)

    def read(self, read: Callable[[Raw], T], data: Raw, request: Request) -> T:
        wrong = f"the answer to {request} is not what it should be"
        return read_with(read, data, wrong, key=self.api.sender.key)

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
        turn = self.shared.learning.setdefault(here, asyncio.Lock())
        await in_time(turn.acquire(), deadline, f"what {app_id!r} takes was not told in time")
        try:
            known = self.shared.schemas.get(app_id)
            if known is None or known.at < oldest:
                await self._learn(app_id, deadline)
                known = self.shared.schemas[app_id]
            return known
        finally:
            turn.release()

    async def _learn(self, app_id: str, deadline: float | None) -> None:
        try:
            await self.get_app(app_id, self.api.options.with_total(None), deadline)
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


def app_id_of(app: FlowyApp | str) -> str:
    found = app.id or app.slug if isinstance(app, FlowyApp) else app
    return check_id(found, "app")
