"""The requests of one client to Flowy, the apps that it has fetched, and its runs in flight."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from msgspec import Raw, Struct, structs

from dynamiq_async import errors
from dynamiq_async._hosts import reach_of
from dynamiq_async._http.error_responses import masked
from dynamiq_async._http.limiter import Limiter, now
from dynamiq_async._http.paging import Page
from dynamiq_async._http.response import read_with
from dynamiq_async._json import encode
from dynamiq_async._words import counted
from dynamiq_async.flowy.models import (
    FlowyAsset,
    FlowyGeneration,
    FlowyOutput,
    FlowyRun,
    asset_of,
    generation_of,
    listed_assets,
    run_of,
)
from dynamiq_async.flowy.outputs import OutputLoader
from dynamiq_async.flowy.poller import Poller
from dynamiq_async.flowy.schema import FlowyApp, InputsForm, app_of
from dynamiq_async.options import check_id, check_one_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dynamiq_async._http.api import Api
    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import RequestOptions, SendOptions
    from dynamiq_async.downloads import Downloader
    from dynamiq_async.flowy.outputs import FindLink
    from dynamiq_async.flowy.poller import RunLimiter
    from dynamiq_async.flowy.schema import FlowyOutputSpec

T = TypeVar("T")
M = TypeVar("M", FlowyRun, FlowyGeneration)

ASSET_PAGES = 5
"""How many pages of assets to search for an asset whose id is not known."""

DEFAULT_WAIT = 3600.0
"""The limit of a wait, in seconds: nothing guarantees that every run ends."""

SCHEMA_SECONDS = 600.0
"""How long to cache the inputs of an app, in seconds."""

SCHEMA_RECHECK_SECONDS = 30.0
"""Inputs cached for longer than these seconds are fetched again before they refuse a run."""

MAX_SCHEMAS = 256


class _Data(Struct):
    data: Raw = Raw(b"null")


class _Schema(NamedTuple):
    app: FlowyApp
    fetched_at: float


class Shared:
    """The state that all views of one client share.

    Args:
        downloader: downloads outputs.
        limiter: the client's limiter, whose quota says how many requests are left.
        runs: the limiter of the runs in flight.
        inputs_form: the form of a start request, unless the call names one.
    """

    def __init__(
        self,
        downloader: Downloader,
        limiter: Limiter,
        runs: RunLimiter,
        inputs_form: InputsForm,
    ) -> None:
        self.downloader = downloader
        self.runs = runs
        self.inputs_form: InputsForm = checked_form(inputs_form)
        self.poller: Poller = Poller(limiter)
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
        form: InputsForm | None,
        given: RequestOptions,
        extra_body: Mapping[str, Any] | None,
        deadline: float | None,
    ) -> Request:
        """The request that starts a run, with checked inputs in the form that the call asks for."""
        app_id = app_id_of(app)
        form = self.shared.inputs_form if form is None else checked_form(form)
        if not isinstance(inputs, Mapping | None):
            raise errors.InvalidArgumentError(
                f"inputs must be a mapping, not {type(inputs).__name__}", argument="inputs"
            )
        fitting = dict(inputs or {})
        schema = FlowyApp()
        if isinstance(app, FlowyApp):
            schema = app
            if app.outputs is not None:
                # Only for the labels of outputs. It may be old, so it cannot replace a fetch.
                self._keep_schema(app, app_id, fetched_at=-math.inf)
        if check:
            if schema.inputs is not None:
                fitting = schema.fit(fitting)
            else:
                schema, fitting = await self._fit(app_id, fitting, deadline)
        body = encode({**schema.body(fitting, form), **(extra_body or {})}, "inputs")
        return self.api.request("POST", "apps", app_id, "runs", body=body, given=given)

    async def start(
        self, request: Request, options: SendOptions, deadline: float | None
    ) -> FlowyRun:
        """Start a run."""
        found = await self.api.fetch(request, options, _Data, deadline=deadline)
        return self._read_run(found.data, request, options)

    async def start_generation(
        self, request: Request, options: SendOptions, deadline: float | None
    ) -> FlowyGeneration:
        """Start a generation."""
        found = await self.api.fetch(request, options, _Data, deadline=deadline)
        return self._read_generation(found.data, request, options)

    @asynccontextmanager
    async def room(self, deadline: float | None) -> AsyncIterator[RunLimiter]:
        """Wait for a slot of `Shared.runs`, the runs in flight, and hold it."""
        await self._acquire_run(deadline)
        try:
            yield self.shared.runs
        finally:
            self.shared.runs.release()

    async def _acquire_run(self, deadline: float | None) -> None:
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
        """Poll a run until it is over."""
        # A poll may wait long for the quota, so only the limit of the whole wait applies.
        options = self.api.options.with_total(None)
        get_run = partial(self.get_run, options=options)
        return await self.shared.poller.wait(
            run_id, get_run, timeout=timeout, deadline=deadline, started=started
        )

    async def get_run(
        self, run_id: str, deadline: float | None = None, *, options: SendOptions
    ) -> FlowyRun:
        """A run as it is now."""
        request = self.api.request("GET", "runs", run_id)
        found = await self.api.fetch(request, options, _Data, deadline=deadline)
        return self._read_run(found.data, request, options)

    def _read_run(self, data: Raw, request: Request, options: SendOptions) -> FlowyRun:
        run = self.read(run_of, data, request)
        known = self.shared.schemas.get(run.app_id or "")
        if known is not None and known.app.outputs:
            labels = {spec.node_id: spec for spec in known.app.outputs}
            run = structs.replace(run, outputs=[_labelled(one, labels) for one in run.outputs])
        get_run = partial(self.get_run, run.run_id, options=options)
        return self._bound(run, f"run {run.run_id}", run.run_id, get_run, options)

    async def wait_for_generation(
        self,
        generation_id: str,
        timeout: float | None,
        deadline: float | None,
        *,
        started: FlowyGeneration | None = None,
    ) -> FlowyGeneration:
        """Poll a generation until it is over."""
        get = partial(self.get_generation, options=self.api.options.with_total(None))
        return await self.shared.poller.wait(
            generation_id,
            get,
            timeout=timeout,
            deadline=deadline,
            started=started,
            kind="generation",
        )

    async def get_generation(
        self, generation_id: str, deadline: float | None = None, *, options: SendOptions
    ) -> FlowyGeneration:
        """A generation as it is now."""
        request = self.api.request("GET", "generations", generation_id)
        found = await self.api.fetch(request, options, _Data, deadline=deadline)
        return self._read_generation(found.data, request, options)

    def _read_generation(
        self, data: Raw, request: Request, options: SendOptions
    ) -> FlowyGeneration:
        made = self.read(generation_of, data, request)
        id = made.generation_id
        get_again = partial(self.get_generation, id, options=options)
        return self._bound(made, f"generation {id}", id, get_again, options)

    # --- assets --------------------------------------------------------------------------------

    async def get_data(
        self, request: Request, options: SendOptions, deadline: float | None = None
    ) -> Any:
        """The `data` of a response, which all should have (documented), or else the whole
        response."""
        body = await self.api.fetch(request, options, dict[str, Any], deadline=deadline)
        return body.get("data", body)

    async def get_assets(
        self, page: int, page_size: int | None, options: SendOptions, deadline: float | None = None
    ) -> Page[FlowyAsset]:
        """A page of the assets."""
        query = {"page": page} if page_size is None else {"page": page, "pageSize": page_size}
        request = self.api.request("GET", "assets", query=query)
        data = await self.get_data(request, options, deadline)
        listed, pagination = self.read(listed_assets, data, request)
        assets = [self._read_asset(content, request, options) for content in listed]
        return Page(data=assets, pagination=pagination)

    async def get_asset(
        self, asset_id: str, options: SendOptions, deadline: float | None = None
    ) -> FlowyAsset:
        """One asset."""
        request = self.api.request("GET", "assets", asset_id)
        data = await self.get_data(request, options, deadline)
        return self._read_asset(data, request, options)

    def _read_asset(self, data: Any, request: Request, options: SendOptions) -> FlowyAsset:
        asset = self.read(asset_of, data, request)
        whose = f"asset {asset.id}"
        asset.output.bind(self._loader(whose, None, [self._find_asset_link(options)], options))
        return asset

    # --- the content of outputs ----------------------------------------------------------------

    def _bound(
        self,
        made: M,
        whose: str,
        id: str,
        get_again: Callable[[float | None], Awaitable[M]],
        options: SendOptions,
    ) -> M:
        """`made`, with outputs that this client can load, and without the key in its error."""
        if made.error is not None:
            made = structs.replace(made, error=masked(made.error, self.api.sender.key))
        for position, output in enumerate(made.outputs):
            find_links = [_find_fresh_link(get_again, position), self._find_asset_link(options)]
            output.bind(self._loader(whose, id, find_links, options))
        return made

    def _loader(
        self, whose: str, id: str | None, find_links: list[FindLink], options: SendOptions
    ) -> OutputLoader:
        near = reach_of(urlsplit(self.api.url).hostname or "")
        return OutputLoader(
            self.shared.downloader,
            options,
            whose=whose,
            run_id=id,
            near=near,
            find_links=find_links,
        )

    def _find_asset_link(self, options: SendOptions) -> FindLink:
        """Find a fresh link to an output by its asset (documented). If the asset's id is not known,
        search the newest assets for one whose link leads to the same place (our guess).
        """

        async def find(output: FlowyOutput, deadline: float | None) -> str | None:
            if output.asset_id is not None:
                return (await self.get_asset(output.asset_id, options, deadline)).url
            place = _place(output.url)
            for number in range(1, ASSET_PAGES + 1):
                page = await self.get_assets(number, None, options, deadline)
                for asset in page:
                    if _place(asset.url) == place:
                        return asset.url
                if not page.has_next:
                    break
            return None

        return find

    # --- apps ----------------------------------------------------------------------------------

    async def get_app(
        self, app_id: str, options: SendOptions, deadline: float | None = None
    ) -> FlowyApp:
        """An app with its inputs, which are cached."""
        request = self.api.request("GET", "apps", app_id)
        found = await self.api.fetch(request, options, _Data, deadline=deadline)
        app = self.read(app_of, found.data, request)
        self._keep_schema(app, app_id)
        return app

    def _keep_schema(self, app: FlowyApp, app_id: str, *, fetched_at: float | None = None) -> None:
        schema = _Schema(app, now() if fetched_at is None else fetched_at)
        for name in filter(None, {app_id, app.id, app.slug}):
            if fetched_at is None or name not in self.shared.schemas:
                self.shared.schemas[name] = schema
            self.shared.schemas.move_to_end(name)
        while len(self.shared.schemas) > MAX_SCHEMAS:
            self.shared.schemas.popitem(last=False)

    def read(self, read: Callable[[Any], T], data: Any, request: Request) -> T:
        """Decode data with `read`. Raises ResponseDecodeError if the data has another form."""
        wrong = f"the answer to {request} is not what it should be"
        return read_with(read, data, wrong, key=self.api.sender.key)

    # --- the inputs of apps --------------------------------------------------------------------

    async def _fit(
        self, app_id: str, inputs: dict[str, Any], deadline: float | None
    ) -> tuple[FlowyApp, dict[str, Any]]:
        """The app, and `inputs` as `FlowyApp.fit` returns them."""
        schema = await self._schema(app_id, now() - SCHEMA_SECONDS, deadline)
        oldest = now() - SCHEMA_RECHECK_SECONDS
        try:
            return schema.app, schema.app.fit(inputs)
        except errors.InvalidArgumentError:
            if schema.fetched_at >= oldest:
                raise
        schema = await self._schema(app_id, oldest, deadline)
        return schema.app, schema.app.fit(inputs)

    async def _schema(self, app_id: str, oldest: float, deadline: float | None) -> _Schema:
        """The inputs of an app, fetched at `oldest` or later. All callers share one request."""
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
            # A key may be allowed to run an app that it may not see. Starting the run will tell.
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


def checked_form(form: InputsForm) -> InputsForm:
    """The form, checked. Raises InvalidArgumentError if there is no such form."""
    check_one_of(form, ("auto", "array", "map"), "inputs_form")
    return form


def _find_fresh_link(
    get_again: Callable[[float | None], Awaitable[FlowyRun | FlowyGeneration]], position: int
) -> FindLink:
    """Find a fresh link to an output by getting its run or generation again."""

    async def find(output: FlowyOutput, deadline: float | None) -> str | None:
        outputs = (await get_again(deadline)).outputs
        same = [one for one in outputs if (one.node_id, one.kind) == (output.node_id, output.kind)]
        if position < len(outputs) and outputs[position] in same:
            same.insert(0, outputs[position])
        return next((one.url for one in same if one.url and one.url != output.url), None)

    return find


def _labelled(output: FlowyOutput, specs: Mapping[str, FlowyOutputSpec]) -> FlowyOutput:
    """An output, completed with what the app says about its node."""
    spec = specs.get(output.node_id)
    if spec is None:
        return output
    return structs.replace(output, name=output.name or spec.name, label=output.label or spec.label)


def _place(url: str | None) -> str | None:
    """The place that a link leads to, without the signature."""
    return url and url.partition("?")[0]


def app_id_of(app: FlowyApp | str) -> str:
    """The id or slug of an app. Raises InvalidArgumentError if it has none."""
    found = app.id or app.slug if isinstance(app, FlowyApp) else app
    return check_id(found, "app")
