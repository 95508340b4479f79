"""`flowy.apps` and `flowy.runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Raw, Struct

from dynamiq_async._client import UNSET, Extras, TimeoutLike
from dynamiq_async._clock import deadline_in
from dynamiq_async.flowy._service import DEFAULT_WAIT, checked_id
from dynamiq_async.flowy_models import FlowyApp, FlowyRun, app_of
from dynamiq_async.options import check_seconds
from dynamiq_async.paging import Pages
from dynamiq_async.runs_models import Page, Pagination

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async.flowy._service import FlowyClient


class _Listed(Struct):
    data: list[Raw] | None = None


class FlowyApps:
    """The apps of Flowy, as `flowy.apps`."""

    def __init__(self, client: FlowyClient) -> None:
        self._client = client

    def list(
        self, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> Pages[FlowyApp]:
        """All apps: await it for a page of them all, or iterate it. No pages are documented.

        What an app takes and makes is told by `get` alone.
        """
        client = self._client
        options = client._call_options(Extras(timeout, max_retries))

        async def fetch(_: int) -> Page[FlowyApp]:
            request = client._request("GET", "apps", extras=Extras())
            found = await client._send(request, options, _Listed)
            apps = [client._read(app_of, data, request) for data in found.data or []]
            return Page(data=apps, pagination=Pagination(page=1, page_count=1))

        return Pages(fetch, page=1, identity=lambda app: app.id or app.slug or id(app))

    async def get(
        self, app_id: str, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> FlowyApp:
        """An app, with what it takes and makes.

        Args:
            app_id: its id (documented) or slug (our guess).

        Raises:
            NotFoundError: there is no such app.
        """
        options = self._client._call_options(Extras(timeout, max_retries))
        return await self._client._get_app(checked_id(app_id, "app_id"), options)


class FlowyRuns:
    """The runs of Flowy, as `flowy.runs`. A run that failed is a value here."""

    def __init__(self, client: FlowyClient) -> None:
        self._client = client

    async def start(
        self,
        app: FlowyApp | str,
        inputs: Mapping[str, Any] | None = None,
        *,
        check: bool = True,
        timeout: TimeoutLike = UNSET,
        retry: bool | None = None,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> FlowyRun:
        """Start a run and return at once; `max_runs` does not hold it back.

        Arguments and errors are those of `AsyncFlowy.run`; `timeout` is by default the client's.
        """
        extras = Extras(timeout, max_retries, retry)
        options = self._client._call_options(extras)
        deadline = deadline_in(options.timeout.total)
        request = await self._client._start_request(
            app, inputs, check, extras, extra_body, deadline
        )
        return await self._client._start(request, options, deadline)

    async def get(
        self, run_id: str, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> FlowyRun:
        """A run as it is now.

        Raises:
            NotFoundError: there is no such run.
        """
        options = self._client._call_options(Extras(timeout, max_retries))
        return await self._client._get_run(checked_id(run_id, "run_id"), options=options)

    async def wait(self, run_id: str, *, timeout: float | None = DEFAULT_WAIT) -> FlowyRun:
        """Wait for a run to be over, however it ends. It is looked at at once, and then every few
        seconds, less often when it takes long or when few requests are left.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            APITimeoutError: it was not over in time; the message names its status.
            NotFoundError: there is no such run.
        """
        check_seconds(timeout, "timeout")
        run_id = checked_id(run_id, "run_id")
        return await self._client._wait(run_id, timeout, deadline_in(timeout))
