"""The requests of the Runs API, and the searches for runs, events and questions made of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import Raw, Struct

from dynamiq_async import _json, errors
from dynamiq_async._http.bodies import root_body
from dynamiq_async._http.error_responses import masked_json, stream_error
from dynamiq_async._http.paging import Page, PageBody
from dynamiq_async._http.request_options import RequestOptions
from dynamiq_async._http.response import read_with
from dynamiq_async._http.status import may_pass
from dynamiq_async._json import encode
from dynamiq_async.events.run_events import BrokenRunEvent, RunEvent, run_event, stored_event
from dynamiq_async.options import check_id
from dynamiq_async.runs.models import Run, run_of
from dynamiq_async.runs.stream_errors import ServiceError
from dynamiq_async.sse import SSEDecoder
from dynamiq_async.streaming.event_reader import OnBadEvent, recovery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynamiq_async._http.api import Api
    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async.events import Question

ENDLESS = 2**63

SETTLE_SECONDS = 10.0
"""How long a run is searched for when the response to its create request was lost."""

SECOND_LOOK_SECONDS = 0.5
"""The pause before the second search for a question that was not listed as open."""

EVENT_PAGE_SIZE = 500


class _RunData(Struct):
    data: Raw


class RunRequests:
    """The requests of one App's Runs API.

    Attributes:
        api: the App's API.
    """

    def __init__(self, api: Api) -> None:
        self.api = api

    def about(
        self,
        run_id: str,
        method: str,
        *path: str,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        stream: bool = False,
        urgent: bool = False,
        retry: bool | None = None,
    ) -> Request:
        """A request about one run."""
        return self.api.request(
            method,
            "v1",
            "runs",
            check_id(run_id, "run_id"),
            *path,
            query=query,
            body=body,
            stream=stream,
            urgent=urgent,
            given=RequestOptions(retry=retry),
        )

    def create_request(
        self, input: Any, given: RequestOptions, *, stream: bool = False, **fields: Any
    ) -> Request:
        """The request that makes a run."""
        body = root_body(input, stream=stream or None, **fields)
        return self.api.request("POST", "v1", "runs", body=body, stream=stream, given=given)

    def stream_request(self, run_id: str, after: int | None) -> Request:
        """The request that follows a run's events after a sequence number."""
        query = {"after_sequence": after} if after else None
        return self.about(run_id, "GET", "stream", query=query, stream=True)

    def decoder(self, on_bad_event: OnBadEvent = "raise") -> SSEDecoder[RunEvent]:
        """A decoder for one connection of a stream.

        Raises:
            InvalidArgumentError: `on_bad_event` is not one of the two.
        """
        return SSEDecoder(
            RunEvent,
            max_event_bytes=self.api.max_event_bytes,
            recover=recovery(run_event, _broken_event, on_bad_event, self.api.sender.key),
            read_error=self._read_error,
        )

    def _read_error(self, data: bytes) -> RunEvent:
        """The run's event in the data of an event named `error`: an event of the run has
        a position.

        Raises:
            ServiceError: it is an error, as an object or a text (our guess: the vendor does not
                document what the service sends).
        """
        with suppress(*_json.DECODE_ERRORS):
            if (event := run_event(data)) is not None:
                return event
        try:
            said = _json.decode(data)
        except _json.DECODE_ERRORS:
            said = data.decode("utf-8", "replace")
        if isinstance(said, dict) and not said.keys() & {"error", "message", "detail"}:
            said = said.get("data") or said
        error = ServiceError("the stream reported an error")
        error.said = said
        raise error

    def reported(self, broken: errors.EventDecodeError, request: str) -> errors.DynamiqError | None:
        """The error that the service sent in place of an event, as the class it has over HTTP.

        None when the broken event holds no such error.
        """
        if isinstance(broken, ServiceError):
            data = broken.said
        else:
            try:
                data = _json.decode(broken.data)
            except _json.DECODE_ERRORS:
                return None
            if not isinstance(data, dict) or ("error" not in data and data.get("type") != "error"):
                return None
        return stream_error(data, run_id=None, request=request, key=self.api.sender.key)

    async def create(self, request: Request, options: SendOptions, deadline: float | None) -> Run:
        """Make a run."""
        found = await self.api.fetch(request, options, _RunData, deadline=deadline)
        return self._run(request, found.data)

    async def get(
        self,
        run_id: str,
        options: SendOptions,
        deadline: float | None = None,
        *,
        urgent: bool = False,
        over_limit: bool = False,
    ) -> Run:
        """A run as it is now."""
        request = self.about(run_id, "GET", urgent=urgent)
        request.over_limit = over_limit
        found = await self.api.fetch(request, options, _RunData, deadline=deadline)
        return self._run(request, found.data)

    def _run(self, request: Request, data: Raw) -> Run:
        wrong = f"the answer to {request} holds no run"
        key = self.api.sender.key
        run = read_with(run_of, data, wrong, key=key)
        # The error of a failed run holds the run, so text from the service in it is masked.
        return run if run.failure is None else run_of(Raw(masked_json(data, key)))

    async def run_page(
        self, query: Mapping[str, Any], options: SendOptions, deadline: float | None = None
    ) -> Page[Run]:
        """A page of the App's runs."""
        request = self.api.request("GET", "v1", "runs", query=query)
        found = await self.api.fetch(request, options, PageBody, deadline=deadline)
        return found.page([self._run(request, data) for data in found.data or []])

    async def event_page(
        self,
        run_id: str,
        page: int,
        options: SendOptions,
        deadline: float | None = None,
        *,
        size: int = EVENT_PAGE_SIZE,
        urgent: bool = False,
    ) -> Page[RunEvent]:
        """A page of a run's stored events."""
        query = {"page": page, "page_size": size}
        request = self.about(run_id, "GET", "events", query=query, urgent=urgent)
        found = await self.api.fetch(request, options, PageBody, deadline=deadline)
        wrong = f"{request}: a stored event of run {run_id} is broken"
        key = self.api.sender.key
        events = [
            read_with(stored_event, raw, wrong, key=key, run_id=run_id) for raw in found.data or []
        ]
        return found.page(events)

    async def stored(
        self,
        run_id: str,
        first: int,
        last: int,
        options: SendOptions,
        deadline: float | None,
        *,
        urgent: bool = False,
    ) -> Sequence[RunEvent]:
        """The stored events from sequence number `first` to `last`.

        Pages cannot be requested by sequence number. The page of `first` is estimated as if every
        sequence number had an event; if some have none, the event is on an earlier page.
        """

        async def page_of(number: int) -> Page[RunEvent]:
            return await self.event_page(run_id, number, options, deadline, urgent=urgent)

        number = (first - 1) // EVENT_PAGE_SIZE + 1
        page = await page_of(number)
        while number > 1 and (not page.data or page.data[0].sequence > first):
            # Past the last page: go to the last one if the response names it, else halve the
            # number. Once a page has events, go back one page at a time.
            count = page.pagination.page_count
            number = number - 1 if page.data else max(1, min(number // 2, count or number))
            page = await page_of(number)
        found: list[RunEvent] = []
        read_to = -1
        # A page without later events ends the loop: a service that ignores the page number would
        # otherwise be asked for ever.
        while page.data and page.data[-1].sequence > read_to:
            found += [event for event in page.data if first <= event.sequence <= last]
            read_to = page.data[-1].sequence
            if read_to >= last or number == page.pagination.page_count:
                break
            number += 1
            page = await page_of(number)
        return found

    async def remaining(
        self, run_id: str, position: int, options: SendOptions, deadline: float | None
    ) -> Sequence[RunEvent]:
        """The stored events of a run that is over, from `position` on.

        Raises:
            InvalidArgumentError: the run has ended before that position.
        """
        stored = await self.stored(run_id, max(position, 1), ENDLESS, options, deadline)
        if not stored and position:
            page = await self.event_page(run_id, 1, options, deadline)
            if (count := page.pagination.page_count or 1) > 1:
                page = await self.event_page(run_id, count, options, deadline)
            end = page.data[-1] if page.data else None
            if end is not None and end.is_final and end.sequence < position:
                raise errors.InvalidArgumentError(
                    f"run {run_id} has ended with event {end.sequence}: it has no position "
                    f"{position}",
                    argument="after_sequence",
                )
        return stored

    async def find(
        self, session_id: str, options: SendOptions, deadline: float | None = None
    ) -> Run | None:
        """The run of a session that was made for that run alone.

        None when no run is found, and when the search fails. The caller then raises its own error,
        which says that the run may exist. An error of the search would hide that.
        """
        try:
            return await self.search(session_id, options, deadline, settle=SETTLE_SECONDS)
        except errors.DynamiqError:
            return None

    async def search(
        self,
        session_id: str,
        options: SendOptions,
        deadline: float | None = None,
        *,
        settle: float,
    ) -> Run | None:
        """Search for a session's run for `settle` seconds, as a new run may not be listed at once.

        None when there is none.

        Raises:
            DynamiqError: the search failed.
        """
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + settle, 0.1
        while True:
            failure = None
            try:
                page = await self.run_page({"session_id": session_id}, options, deadline)
            except errors.DynamiqError as error:
                if not may_pass(error):
                    raise
                failure = error
            else:
                # A service that ignores the filter also lists the runs of other sessions. A run
                # without a session may belong to any caller.
                for run in page:
                    if run.session_id == session_id:
                        return run
            if loop.time() >= until:
                if failure is not None:
                    raise failure
                return None
            await asyncio.sleep(min(pause, max(0.0, until - loop.time())))
            pause = min(pause * 2, 1.0)

    async def still_open(
        self, run_id: str, asked: Question, options: SendOptions, deadline: float | None
    ) -> Question | None:
        """The open question that an answer to `asked` would reach, as the service lists it.

        None when no question with its id is open. Several questions may have the same id, and
        `asked` itself may be answered already, so the service's list decides. The list may lag
        behind the events, so it is requested a second time before None is returned.
        """
        run = await self.get(run_id, options, deadline, urgent=True)
        listed = [question for question in run.questions if question.id == asked.id]
        if not listed and not run.is_terminal:
            await asyncio.sleep(SECOND_LOOK_SECONDS)
            run = await self.get(run_id, options, deadline, urgent=True)
            listed = [question for question in run.questions if question.id == asked.id]
        return asked if asked in listed else listed[-1] if listed else None

    async def named(self, run_id: str, request_id: str) -> Question | str:
        """The open question with this id; the id itself when the run lists no such question."""
        run = await self.get(run_id, self.api.options, urgent=True)
        return next((asked for asked in run.questions if asked.id == request_id), request_id)

    async def cancel(self, run_id: str) -> None:
        """Cancel a run. The request does not wait for a slot."""
        request = self.about(run_id, "POST", "cancel", urgent=True, retry=True)
        await self._send(request)

    async def _send(self, request: Request) -> None:
        sender = self.api.sender
        with sender.telemetry.calling(request):
            await sender.fetch(request, self.api.options)

    async def send_input(
        self, run_id: str, body: Mapping[str, Any], extra: Mapping[str, Any] | None
    ) -> None:
        """Send `POST /v1/runs/{id}/input`; fields in `extra` replace those in `body`."""
        encoded = encode({**body, **(extra or {})}, "params")
        request = self.about(run_id, "POST", "input", body=encoded, urgent=True)
        await self._send(request)


def _broken_event(data: bytes) -> BrokenRunEvent:
    return BrokenRunEvent(raw_data=Raw(data))
