"""`flowy.runs`: starts runs, gets them and waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async._http.request_options import UNSET, RequestOptions, TimeoutLike
from dynamiq_async._http.timers import deadline_in
from dynamiq_async.flowy.requests import DEFAULT_WAIT
from dynamiq_async.options import check_id, check_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async.flowy.models import FlowyRun
    from dynamiq_async.flowy.requests import FlowyRequests
    from dynamiq_async.flowy.schema import FlowyApp, InputsForm


class FlowyRuns:
    """The runs of Flowy, as `flowy.runs`. A run that failed is returned, not raised."""

    def __init__(self, requests: FlowyRequests) -> None:
        self._requests = requests

    async def start(
        self,
        app: FlowyApp | str,
        inputs: Mapping[str, Any] | None = None,
        *,
        check: bool = True,
        inputs_form: InputsForm | None = None,
        timeout: TimeoutLike = UNSET,
        retry: bool | None = None,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> FlowyRun:
        """Start a run and return at once. `max_runs` does not delay it.

        Arguments and errors are those of `AsyncFlowy.run`. `timeout` is by default the client's.
        """
        given = RequestOptions(timeout, max_retries, retry)
        options = self._requests.api.options.for_call(given)
        deadline = deadline_in(options.timeout.total)
        request = await self._requests.start_request(
            app, inputs, check, inputs_form, given, extra_body, deadline
        )
        return await self._requests.start(request, options, deadline)

    async def get(
        self, run_id: str, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> FlowyRun:
        """A run as it is now.

        Raises:
            NotFoundError: there is no such run.
        """
        options = self._requests.api.options.for_call(RequestOptions(timeout, max_retries))
        return await self._requests.get_run(check_id(run_id, "run_id"), options=options)

    async def wait(self, run_id: str, *, timeout: float | None = DEFAULT_WAIT) -> FlowyRun:
        """Wait until a run is over, whether it succeeds or fails. The client polls it at once, and
        then every few seconds, or less often if it takes long or few requests are left.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            APITimeoutError: it was not over in time; the message names its status.
            NotFoundError: there is no such run.
        """
        check_seconds(timeout, "timeout")
        run_id = check_id(run_id, "run_id")
        return await self._requests.wait(run_id, timeout, deadline_in(timeout))
