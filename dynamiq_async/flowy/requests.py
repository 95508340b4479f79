"""The requests of one client to Flowy, the inputs of apps that it keeps, and its runs in flight."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from msgspec import Raw, Struct, structs

from dynamiq_async import errors
from dynamiq_async._hosts import reach_of
from dynamiq_async._http.error_responses import masked
from dynamiq_async._http.limiter import Limiter, now
from dynamiq_async._http.response import read_with
from dynamiq_async._json import encode
from dynamiq_async._words import counted
from dynamiq_async.flowy.models import FlowyApp, FlowyRun, app_of, run_of
from dynamiq_async.flowy.outputs import OutputLoader
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
"""How long the inputs of an app are kept."""

SCHEMA_RECHECK_SECONDS = 30.0
"""Inputs of an app that were kept for longer are fetched anew before a run is refused by them."""

MAX_SCHEMAS = 256


class _Data(Struct):
    data: Raw = Raw(b"null")


class _Schema(NamedTuple):
    app: FlowyApp
    fetched_at: float


class Shared:
    """What all views of one client share.

    Args:
        downloader: downloads outputs.
        limiter: the client's, whose quota tells how many requests are left.
        runs: how many runs may be in flight.
    """

    def __init__(self, downloader: Downloader, limiter: Limiter, runs: RunLimiter) -> None:
        self.downloader = downloader
        self.runs = runs
        self.poller = Poller(limiter)
        self.schemas: OrderedDict[str, _Schema] = OrderedDict()
        self.schema_locks: WeakValueDictionary[tuple[int, str], asyncio.Lock]
        self.schema_locks = WeakValueDictionary()  # by event loop and app


class FlowyRequests:
    """The requests of one view of a client."""

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
        return self._read_run(found.data, request, options)

    async def acquire_run(self, deadline: float | None) -> None:
        """Wait for a slot of `Shared.runs`, the runs in flight. The caller releases it."""
        if not self.shared.runs.try_acquire():
            late = (
                f"no run was started: the {counted(self.shared.runs.limit, 'run')} that this "
                "client has in flight did not end in time; allow more time or raise max_runs"
            )
            await in_time(self._acquire_after_cooldown(), deadline, late)

    async def _acquire_after_cooldown(self) -> None:
        while not await self.shared.runs.acquire():  # noqa: ASYNC110 - `acquire` waits
            await asyncio.sleep(self.shared.runs.cooldown)

    async def wait(
        self,
        run_id: str,
        timeout: float | None,
        deadline: float | None,
        *,
        started: FlowyRun | None = None,
    ) -> FlowyRun:
        # A poll may have to wait long for the quota, so only the limit of the whole wait holds.
        options = self.api.options.with_total(None)
        get_run = partial(self.get_run, options=options)
        return await self.shared.poller.wait(
            run_id, get_run, timeout=timeout, deadline=deadline, started=started
        )

    async def get_run(
        self, run_id: str, deadline: float | None = None, *, options: SendOptions
    ) -> FlowyRun:
        request = self.api.request("GET", "runs", run_id)
        found = await self.api.fetch(request, options, _Data, deadline=deadline)
        return self._read_run(found.data, request, options)

    def _read_run(self, data: Raw, request: Request, options: SendOptions) -> FlowyRun:
        """A run whose outputs are bound to this client, and whose error does not repeat its key."""
        run = self.read(run_of, data, request)
        if run.error is not None:
            run = structs.replace(run, error=masked(run.error, self.api.sender.key))
        get_run = partial(self.get_run, options=options)
        near = reach_of(urlsplit(self.api.url).hostname or "")
        for position, output in enumerate(run.outputs):
            output.bind(OutputLoader(self.shared.downloader, options, get_run, run, position, near))
        return run

    async def get_app(
        self, app_id: str, options: SendOptions, deadline: float | None = None
    ) -> FlowyApp:
        request = self.api.request("GET", "apps", app_id)
        found = await self.api.fetch(request, options, _Data, deadline=deadline)
        app = self.read(app_of, found.data, request)
        self._keep_schema(app, app_id)
        return app

    def _keep_schema(self, app: FlowyApp, app_id: str) -> None:
        for name in filter(None, {app_id, app.id, app.slug}):
            self.shared.schemas[name] = _Schema(app, now())
            self.shared.schemas.move_to_end(name)
        while len(self.shared.schemas) > MAX_SCHEMAS:
            self.shared.schemas.popitem(last=False)

    def read(self, read: Callable[[Raw], T], data: Raw, request: Request) -> T:
        wrong = f"the answer to {request} is not what it should be"
        return read_with(read, data, wrong, key=self.api.sender.key)

    # --- the inputs of apps --------------------------------------------------------------------

    async def _fit(
        self, app_id: str, inputs: dict[str, Any], deadline: float | None
    ) -> dict[str, Any]:
        schema = await self._schema(app_id, now() - SCHEMA_SECONDS, deadline)
        oldest = now() - SCHEMA_RECHECK_SECONDS
        try:
            return schema.app.fit(inputs)
        except errors.InvalidArgumentError:
            if schema.fetched_at >= oldest:
                raise
        return (await self._schema(app_id, oldest, deadline)).app.fit(inputs)

    async def _schema(self, app_id: str, oldest: float, deadline: float | None) -> _Schema:
        """The inputs of an app, fetched at or after `oldest`, with one request for all callers."""
        key = id(asyncio.get_running_loop()), app_id
        lock = self.shared.schema_locks.setdefault(key, asyncio.Lock())
        await in_time(lock.acquire(), deadline, f"what {app_id!r} takes was not told in time")
        try:
            schema = self.shared.schemas.get(app_id)
            if schema is None or schema.fetched_at < oldest:
                await self._fetch_schema(app_id, deadline)
                schema = self.shared.schemas[app_id]
            return schema
        finally:
            lock.release()

    async def _fetch_schema(self, app_id: str, deadline: float | None) -> None:
        try:
            await self.get_app(app_id, self.api.options.with_total(None), deadline)
        except (errors.PermissionDeniedError, errors.NotFoundError):
            # A key may be allowed to run an app that it may not see. Starting the run will show.
            self._keep_schema(FlowyApp(), app_id)


async def in_time(waiting: Awaitable[T], deadline: float | None, late: str) -> T:
    """Await `waiting` until the deadline, a point in the loop's time.

    Raises:
        APITimeoutError: the deadline passed. The message is `late`.
    """
    try:
        async with asyncio.timeout_at(deadline):
            return await waiting
    except TimeoutError:
        raise errors.APITimeoutError(late, limit="total") from None


def app_id_of(app: FlowyApp | str) -> str:
    found = app.id or app.slug if isinstance(app, FlowyApp) else app
    return check_id(found, "app")
