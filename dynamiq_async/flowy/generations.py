"""`flowy.generations`: makes a single thing from a prompt, without an app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async._http.request_options import UNSET, RequestOptions, TimeoutLike
from dynamiq_async._http.timers import deadline_in
from dynamiq_async._json import encode
from dynamiq_async.flowy.requests import DEFAULT_WAIT
from dynamiq_async.options import check_id, check_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from dynamiq_async._http.request import Request
    from dynamiq_async.flowy.models import FlowyGeneration
    from dynamiq_async.flowy.requests import FlowyRequests

from typing import TypedDict


class GenerationOptions(TypedDict, total=False):
    """Options of a generation besides its type and prompt (documented by the vendor).

    Attributes:
        model: the model; by default the service's own.
        input_media: the media to make it from: a URL, or a list of URLs (our guess).
        aspect_ratio: such as `16:9`.
        resolution: such as `1080p`.
        duration_seconds: how long a video or a sound is.
    """

    model: str | None
    input_media: str | Sequence[str] | None
    aspect_ratio: str | None
    resolution: str | None
    duration_seconds: float | None


class FlowyGenerations:
    """The generations of Flowy, as `flowy.generations`. A failed one is returned, not raised."""

    def __init__(self, requests: FlowyRequests) -> None:
        self._requests = requests

    async def run(
        self,
        type: str,
        prompt: str,
        *,
        timeout: float | None = DEFAULT_WAIT,
        retry: bool | None = None,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **options: Unpack[GenerationOptions],
    ) -> FlowyGeneration:
        """Start a generation and wait for its end, whether it succeeds or fails.

        It counts as one of the client's `max_runs` in flight. `unwrap()` of the result returns the
        outputs, or raises if the generation failed.

        Args:
            type: what to make, such as `image`, `video` or `audio`.
            prompt: a description of it.
            timeout: seconds for the whole call; None for no limit.
            retry, max_retries, extra_body: as for `AsyncFlowy.run`.
            options: other documented options; see `GenerationOptions`. None leaves one out.

        Raises:
            APITimeoutError: it was not over in time. The error's `run_id` is the generation's id,
                if it was started.

        And what `AsyncFlowy.run` raises.
        """
        check_seconds(timeout, "timeout")
        deadline = deadline_in(timeout)
        requests, given = self._requests, RequestOptions(max_retries=max_retries, retry=retry)
        sending = requests.api.options.for_call(given).with_total(timeout)
        request = self._start_request(type, prompt, given, extra_body, options)
        async with requests.room(deadline) as room:
            made = await requests.start_generation(request, sending, deadline)
            room.succeeded()
            id = made.generation_id
            return await requests.wait_for_generation(id, timeout, deadline, started=made)

    async def start(
        self,
        type: str,
        prompt: str,
        *,
        timeout: TimeoutLike = UNSET,
        retry: bool | None = None,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **options: Unpack[GenerationOptions],
    ) -> FlowyGeneration:
        """Start a generation and return at once. `max_runs` does not delay it.

        Arguments and errors are those of `run`. `timeout` is by default the client's.
        """
        requests, given = self._requests, RequestOptions(timeout, max_retries, retry)
        request = self._start_request(type, prompt, given, extra_body, options)
        sending = requests.api.options.for_call(given)
        return await requests.start_generation(request, sending, None)

    async def get(
        self, generation_id: str, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> FlowyGeneration:
        """A generation as it is now.

        Raises:
            NotFoundError: there is no such generation.
        """
        options = self._requests.api.options.for_call(RequestOptions(timeout, max_retries))
        id = check_id(generation_id, "generation_id")
        return await self._requests.get_generation(id, options=options)

    async def wait(
        self, generation_id: str, *, timeout: float | None = DEFAULT_WAIT
    ) -> FlowyGeneration:
        """Wait until a generation is over, as `flowy.runs.wait` does for a run.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            APITimeoutError: it was not over in time; the message names its status.
            NotFoundError: there is no such generation.
        """
        check_seconds(timeout, "timeout")
        id = check_id(generation_id, "generation_id")
        return await self._requests.wait_for_generation(id, timeout, deadline_in(timeout))

    def _start_request(
        self,
        type: str,
        prompt: str,
        given: RequestOptions,
        extra_body: Mapping[str, Any] | None,
        options: GenerationOptions,
    ) -> Request:
        wanted = {name: value for name, value in options.items() if value is not None}
        fields = {"type": check_id(type, "type"), "prompt": check_id(prompt, "prompt")}
        body = encode({**fields, **wanted, **(extra_body or {})}, "input_media")
        return self._requests.api.request("POST", "generations", body=body, given=given)
