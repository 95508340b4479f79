"""`AsyncFlowy`: the client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, Unpack

from dynamiq_async._credentials import Credential, hidden
from dynamiq_async._http.client import ClientOptions
from dynamiq_async._http.rates import Quota
from dynamiq_async._http.request_options import UNSET, RequestOptions, TimeoutLike
from dynamiq_async._http.timers import deadline_in
from dynamiq_async._telemetry import INVOKE
from dynamiq_async.batch import FanOutOptions, Map, collected, fan_out
from dynamiq_async.downloads import DownloadingClient
from dynamiq_async.flowy.advice import advice
from dynamiq_async.flowy.apps import FlowyApps
from dynamiq_async.flowy.assets import FlowyAssets
from dynamiq_async.flowy.generations import FlowyGenerations
from dynamiq_async.flowy.models import FlowyCredits, FlowyRun, credits_of
from dynamiq_async.flowy.poller import RequestLimiter, RunLimiter
from dynamiq_async.flowy.requests import (
    DEFAULT_WAIT,
    FlowyRequests,
    Shared,
    app_id_of,
    checked_form,
)
from dynamiq_async.flowy.runs import FlowyRuns
from dynamiq_async.options import Adaptive, Timeout, check_count, check_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async.batch.inputs import Inputs
    from dynamiq_async.batch.models import MapResult
    from dynamiq_async.flowy.schema import FlowyApp, InputsForm

DEFAULT_URL = "https://apis.tryflowy.ai/genstudio-svc-v2/api/v1"
KEY_VARIABLE = "FLOWY_KEY"
URL_VARIABLE = "FLOWY_API"

DEFAULT_RUNS = Adaptive(min=1, max=8, start=4)
"""The most runs in flight. The service's cap is documented only as "small"."""

DEFAULT_TIMEOUT = Timeout(first_byte=60.0, idle=60.0)
"""No request waits for a run to end, so every response comes soon."""


class AsyncFlowy(DownloadingClient):
    """Flowy.

        async with AsyncFlowy() as flowy:
            run = await flowy.run("product-poster", {"Slogan": "Fresh every day"})
            for output in run.unwrap():
                await output.save("posters/")

    Flowy can also make a single thing from a prompt, without an app: `flowy.generations`. The
    workspace keeps what was made as `flowy.assets`. `flowy.credits()` returns the credits left.

    Successful responses say how many requests are left (documented). The client sends no more than
    that, and polls leave a share of them for starting runs. When the service asks the client to
    slow down, it sends nothing until the time that the service names.

    Args:
        api_key: by default from `FLOWY_KEY`; False to send none, as behind a proxy that adds it.
        base_url: by default from `FLOWY_API`, then the vendor's own.
        max_runs: how many runs `run` and `map` have in flight at once: a number, or bounds within
            which the client adapts to what the service accepts.
        max_downloads: how many outputs are downloaded at once. Downloads use neither the key nor
            the headers nor the `session` of this client, but its `transport`.
        inputs_form: the form of the request that starts a run. Two are documented: an `array` of
            entries by the names of inputs, and a `map` by node id. `auto` sends the array for an
            app whose inputs have names, and the map for any other app (our guess at what the
            service accepts).
        max_retry_after: seconds. If the service asks for a longer wait, the call raises at once.
            None waits for as long as the service asks.

    The other arguments are those of `AsyncApp`.

    Raises:
        InvalidArgumentError: an argument cannot be used; `argument` names it.
    """

    _credential = Credential(
        "API key",
        "api_key",
        KEY_VARIABLE,
        otherwise="; pass api_key=False to send none",
        personal=True,
        advice=advice,
    )

    def __init__(
        self,
        api_key: str | Literal[False] | None = None,
        base_url: str | None = None,
        *,
        max_runs: int | Adaptive = DEFAULT_RUNS,
        max_downloads: int = 8,
        inputs_form: InputsForm = "auto",
        **options: Unpack[ClientOptions],
    ) -> None:
        api_key = hidden(api_key)
        url = base_url if base_url is not None else os.environ.get(URL_VARIABLE) or DEFAULT_URL
        runs = RunLimiter(_bounds(max_runs))
        limiter = RequestLimiter(
            check_count(options.get("max_connections", 100), "max_connections"), Quota(), runs
        )
        options.setdefault("timeout", DEFAULT_TIMEOUT)
        options.setdefault("max_retry_after", None)
        super().__init__(url, api_key, max_downloads=max_downloads, limiter=limiter, **options)
        self._settings |= {"max_runs": max_runs, "inputs_form": inputs_form}
        self._api = self._api.view(options=self._api.options.with_policy(patient=True))
        self._shared = Shared(self._downloader, limiter, runs, inputs_form)

    @property
    def _requests(self) -> FlowyRequests:
        return FlowyRequests(self._api, self._shared)

    @property
    def apps(self) -> FlowyApps:
        """The workspace's apps."""
        return FlowyApps(self._requests)

    @property
    def runs(self) -> FlowyRuns:
        """The runs of apps."""
        return FlowyRuns(self._requests)

    @property
    def generations(self) -> FlowyGenerations:
        """Generations: things made from a prompt, without an app."""
        return FlowyGenerations(self._requests)

    @property
    def assets(self) -> FlowyAssets:
        """The assets: the things that Flowy made."""
        return FlowyAssets(self._requests)

    async def credits(
        self, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> FlowyCredits:
        """The workspace's credits. The key needs the scope `credits:read`."""
        requests = self._requests
        options = requests.api.options.for_call(RequestOptions(timeout, max_retries))
        request = requests.api.request("GET", "credits")
        return requests.read(credits_of, await requests.get_data(request, options), request)

    async def run(
        self,
        app: FlowyApp | str,
        inputs: Mapping[str, Any] | None = None,
        *,
        wait: bool = True,
        timeout: float | None = DEFAULT_WAIT,
        check: bool = True,
        inputs_form: InputsForm | None = None,
        retry: bool | None = None,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> FlowyRun:
        """Run an app and wait for the run's end, whether it succeeds or fails.

        Args:
            app: its id or slug, or the app itself.
            inputs: texts and URLs, by the name, label or node id of each input. If `check` is
                False, by the service's own names. An input for several values takes a list.
            wait: False returns as soon as the run is started, as `runs.start` does.
            timeout: seconds for the whole call; None for no limit.
            check: check the inputs against the app before the run is started. That costs one
                request if the app was not fetched in the last ten minutes. If this is False, or the
                key may not see the app, the inputs are sent unchecked.
            inputs_form: the form of the request that starts the run; by default the client's.
            retry: True allows the run to be started twice, so that the request is repeated even if
                its outcome is unknown. False forbids any repetition.
            max_retries: for this call instead of the client's.
            extra_body: fields to add to the request's body.

        Returns:
            The run. `unwrap()` returns its outputs, or raises if it failed.

        Raises:
            InvalidArgumentError: the inputs do not fit the app; no run was started.
            PaymentRequiredError: the key's daily spend cap is used up, until the next UTC day, or
                the workspace is out of credits.
            PermissionDeniedError: the key lacks a scope, or may not run this app.
            AmbiguousOutcomeError: it is not known whether the run was started.
            APITimeoutError: the run was not over in time. Its `run_id` is set once it was started.
            NotFoundError: there is no such app.

        And what `AsyncApp.invoke` raises for any request.
        """
        check_seconds(timeout, "timeout")
        deadline = deadline_in(timeout)
        given = RequestOptions(max_retries=max_retries, retry=retry)
        requests = self._requests
        options = requests.api.options.for_call(given).with_total(timeout)
        with requests.api.sender.telemetry.composed(INVOKE):
            request = await requests.start_request(
                app, inputs, check, inputs_form, given, extra_body, deadline
            )
            if not wait:
                return await requests.start(request, options, deadline)
            async with requests.room(deadline) as room:
                run = await requests.start(request, options, deadline)
                room.succeeded()
                return await requests.wait(run.run_id, timeout, deadline, started=run)

    def map(
        self,
        app: FlowyApp | str,
        inputs: Inputs,
        *,
        ordered: bool = False,
        timeout: float | None = DEFAULT_WAIT,
        check: bool = True,
        inputs_form: InputsForm | None = None,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **options: Unpack[FanOutOptions],
    ) -> Map[FlowyRun]:
        """Run an app once for each of many inputs, and wait for all of them.

            async with flowy.map("haiku", [{"Topic": topic} for topic in topics]) as results:
                async for result in results:
                    print(result.key, result.unwrap().output().text)

        Every input gets exactly one result or error, which carries its key. For a failed run, the
        error is a RunFailedError with the `run`. The client's `max_runs` bounds the runs in flight.

        Args:
            app: its id or slug, or the app itself.
            inputs: any iterable or async iterable of what `run` takes as inputs.
            ordered: yield the results in the order of the inputs, rather than as they finish.
            timeout: seconds for each run, waiting for its turn included; None for no limit.
            check, inputs_form, max_retries, extra_body: as for `run`.
            options: `key`, `on_error`, `rate`, `include_input`, `grace`, `journal`, `unknown`,
                `retry_failed` and `max_failures`, as for `AsyncApp.map`. A run from
                a journal has no client: get it again to download its outputs. `concurrency` is by
                default the upper bound of `max_runs`, which also applies if `concurrency` is
                higher.

        Raises:
            InvalidArgumentError: an argument cannot be used. Nothing was sent.
        """
        app_id = app_id_of(app)
        check_seconds(timeout, "timeout")

        form = None if inputs_form is None else checked_form(inputs_form)
        options.setdefault("concurrency", self._shared.runs.max_limit)

        async def run(client: AsyncFlowy, given: Any) -> FlowyRun:
            run = await client.run(
                app, given, timeout=timeout, check=check, inputs_form=form, extra_body=extra_body
            )
            run.unwrap()
            return run

        return fan_out(
            self,
            inputs,
            run,
            mode=f"flowy {app_id}",
            output_type=FlowyRun,
            ordered=ordered,
            max_retries=max_retries,
            given={"extra_body": extra_body},
            **options,
        )

    async def batch(
        self, app: FlowyApp | str, inputs: Inputs, **options: Any
    ) -> list[MapResult[FlowyRun]]:
        """The results of `map`, all of them, in the order of the inputs.

        The arguments are those of `map`. Raises what `map` and reading from it raise.
        """
        return await collected(self.map(app, inputs, **options))


def _bounds(max_runs: int | Adaptive) -> Adaptive:
    if isinstance(max_runs, Adaptive):
        return max_runs
    count = check_count(max_runs, "max_runs")
    return Adaptive(min=count, max=count, start=count)
