"""The requests of the Runs API, as one client sends them, and what streams need beyond them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Raw, Struct, structs

from dynamiq_async import _json, errors
from dynamiq_async._http.bodies import root_body
from dynamiq_async._http.error_responses import beginning, stream_error
from dynamiq_async._http.paging import Page, PageBody
from dynamiq_async._http.request_options import Extras
from dynamiq_async._http.status import Outcome, outcome
from dynamiq_async._json import encode
from dynamiq_async.events.run_events import InputRequest, RunEvent, run_event, stored_event
from dynamiq_async.runs.models import Run, run_of
from dynamiq_async.sse import SSEDecoder
from dynamiq_async.streaming.event_reader import read_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamiq_async._http.client import Client
    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import CallOptions
    from dynamiq_async._http.sender import Caller

T = TypeVar("T")

SETTLE_SECONDS = 10.0
"""How long a run whose create was not answered is looked for."""

SECOND_LOOK_SECONDS = 0.5
"""After it a question that was not listed as open is looked for once more."""

EVENT_PAGE_SIZE = 500


Extra = Mapping[str, Any] | None
"""What a caller lays over a body."""


class _RunData(Struct):
    data: Raw


class RunService:
    """What one App's Runs API is asked."""

    read_stored = staticmethod(stored_event)

    def __init__(self, client: Client, *, max_event_bytes: int) -> None:
        self.client = client
        self.max_event_bytes = max_event_bytes

    @property
    def caller(self) -> Caller:
        return self.client._caller

    @property
    def options(self) -> CallOptions:
        return self.client._options

    def request(
        self,
        method: str,
        *path: str,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        stream: bool = False,
        urgent: bool = False,
        retry: bool | None = None,
    ) -> Request:
        return self.client._request(
            method,
            "v1",
            "runs",
            *path,
            query=query,
            body=body,
            stream=stream,
            urgent=urgent,
            extras=Extras(retry=retry),
        )

    def create_request(
        self, input: Any, extras: Extras, *, stream: bool = False, **fields: Any
    ) -> Request:
        body = root_body(input, stream=stream or None, **fields)
        return self.client._request("POST", "v1", "runs", body=body, stream=stream, extras=extras)

    def stream_request(self, run_id: str, after: int | None) -> Request:
        query = {"after_sequence": after} if after else None
        return self.request("GET", run_id, "stream", query=query, stream=True)

    def decoder(self) -> SSEDecoder[RunEvent]:
        """For one connection of a stream."""
        recover = partial(read_event, run_event, self.caller.key)
        return SSEDecoder(RunEvent, max_event_bytes=self.max_event_bytes, recover=recover)

    def reported(self, broken: errors.EventDecodeError, request: str) -> errors.DynamiqError | None:
        """The error that the service put in an event's place, as the class it has over HTTP."""
        try:
            data = _json.decode(broken.data)
        except _json.DECODE_ERRORS:
            return None
        if not isinstance(data, dict) or "error" not in data:
            return None
        return stream_error(data, run_id=None, request=request, key=self.caller.key)

    async def create(self, request: Request, options: CallOptions, deadline: float | None) -> Run:
        found = await self.client._send(request, options, _RunData, deadline=deadline)
        return self._run(request, found.data)

    async def get(
        self,
        run_id: str,
        options: CallOptions,
        deadline: float | None = None,
        *,
        urgent: bool = False,
    ) -> Run:
        request = self.request("GET", run_id, urgent=urgent)
        found = await self.client._send(request, options, _RunData, deadline=deadline)
        return self._run(request, found.data)

    def _run(self, request: Request, data: Raw) -> Run:
        try:
            return run_of(data)
        except _json.DECODE_ERRORS as error:
            raise errors.ResponseDecodeError(
                f"the answer to {request} holds no run: {error}",
                body=beginning(bytes(data), self.caller.key),
            ) from error

    async def run_page(
        self, query: Mapping[str, Any], options: CallOptions, deadline: float | None = None
    ) -> Page[Run]:
        request = self.request("GET", query=query)
        found = await self.client._send(request, options, PageBody, deadline=deadline)
        return found.page([self._run(request, data) for data in found.data or []])

    async def event_page(
        self,
        run_id: str,
        page: int,
        options: CallOptions,
        deadline: float | None = None,
        *,
        size: int = EVENT_PAGE_SIZE,
        urgent: bool = False,
    ) -> Page[RunEvent]:
        query = {"page": page, "page_size": size}
        request = self.request("GET", run_id, "events", query=query, urgent=urgent)
        found = await self.client._send(request, options, PageBody, deadline=deadline)
        try:
            events = [self.read_stored(raw) for raw in found.data or []]
        except _json.DECODE_ERRORS as error:
            raise errors.ResponseDecodeError(
                f"{request}: a stored event of run {run_id} is broken: {error}", run_id=run_id
            ) from error
        return found.page(events)

    async def stored(
        self,
        run_id: str,
        first: int,
        last: int,
        options: CallOptions,
        deadline: float | None,
        *,
        urgent: bool = False,
    ) -> Sequence[RunEvent]:
        """The stored events from sequence number `first` to `last`. Pages cannot be asked for by
        sequence, so the first one is estimated from above (no page holds more events than there
        are numbers)."""

        async def page_of(number: int) -> Page[RunEvent]:
            return await self.event_page(run_id, number, options, deadline, urgent=urgent)

        number = (first - 1) // EVENT_PAGE_SIZE + 1
        page = await page_of(number)
        while number > 1 and (not page.data or page.data[0].sequence > first):
            # From behind the end in halves, unless it is told where that is; then page by page.
            count = page.pagination.page_count
            number = number - 1 if page.data else max(1, min(number // 2, count or number))
            page = await page_of(number)
        found: list[RunEvent] = []
        read_to = -1
        # A page that leads no further ends it, lest a service that ignores the number be asked
        # for ever.
        while page.data and page.data[-1].sequence > read_to:
            found += [event for event in page.data if first <= event.sequence <= last]
            read_to = page.data[-1].sequence
            if read_to >= last or number == page.pagination.page_count:
                break
            number += 1
            page = await page_of(number)
        return found

    async def find(
        self, session_id: str, options: CallOptions, deadline: float | None = None
    ) -> Run | None:
        """The run of a session that was made for it.

        None when there is none, and when nobody can tell: what was lost is the caller's error,
        and an error of the search in its place would say that nothing was sent.
        """
        try:
            return await self.search(session_id, options, deadline, settle=SETTLE_SECONDS)
        except errors.DynamiqError:
            return None

    async def search(
        self,
        session_id: str,
        options: CallOptions,
        deadline: float | None = None,
        *,
        settle: float,
    ) -> Run | None:
        """The same for `settle` seconds, since a run may take a while to show up.

        Raises:
            DynamiqError: nobody can tell.
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
                # A service that does not know the filter must not pass a stranger's run off.
                for run in page:
                    if run.session_id in (session_id, None):
                        return run
            if loop.time() >= until:
                if failure is not None:
                    raise failure
                return None
            await asyncio.sleep(min(pause, max(0.0, until - loop.time())))
            pause = min(pause * 2, 1.0)

    async def still_open(
        self, run_id: str, request: InputRequest, options: CallOptions, deadline: float | None
    ) -> InputRequest | None:
        """The open question that an answer to `request` would reach, as the service lists it;
        None when there is none any more.

        Several may carry the same id, and the one that `request` stands for may be answered
        already: what the service lists is what is really asked. Its list may lag behind its
        events, so that it is looked at twice.
        """
        run = await self.get(run_id, options, deadline, urgent=True)
        listed = [question for question in run.questions if question.id == request.id]
        if not listed and not run.is_terminal:
            await asyncio.sleep(SECOND_LOOK_SECONDS)
            run = await self.get(run_id, options, deadline, urgent=True)
            listed = [question for question in run.questions if question.id == request.id]
        return request if request in listed else listed[-1] if listed else None

    async def cancel(self, run_id: str) -> None:
        request = self.request("POST", run_id, "cancel", urgent=True, retry=True)
        await self.caller.fetch(request, self.options)

    async def answer(
        self, run_id: str, request: InputRequest | str, feedback: str, extra: Extra = None
    ) -> None:
        _check_kind(request, approval=False)
        body = _input_body(request, {"feedback": feedback}, "human_feedback")
        await self._input(run_id, body, extra)

    async def approve(
        self,
        run_id: str,
        request: InputRequest | str,
        params: Mapping[str, Any] | None,
        feedback: str | None,
        extra: Extra = None,
    ) -> None:
        if params and isinstance(request, str):
            request = await self._named(run_id, request)
        _check_kind(request, approval=True)
        _check_editable(request, params)
        verdict = {"approved": True, "params": params, "feedback": feedback}
        await self._input(run_id, _input_body(request, verdict, "approval_request"), extra)

    async def reject(
        self,
        run_id: str,
        request: InputRequest | str,
        feedback: str | None,
        extra: Extra = None,
    ) -> None:
        _check_kind(request, approval=True)
        verdict = {"approved": False, "feedback": feedback}
        await self._input(run_id, _input_body(request, verdict, "approval_request"), extra)

    async def _named(self, run_id: str, request_id: str) -> InputRequest | str:
        """The open question of this id, or the id where the run does not list it."""
        run = await self.get(run_id, self.options, urgent=True)
        return next((asked for asked in run.questions if asked.id == request_id), request_id)

    async def _input(self, run_id: str, body: dict[str, Any], extra: Extra) -> None:
        encoded = encode({**body, **(extra or {})}, "params")
        request = self.request("POST", run_id, "input", body=encoded, urgent=True)
        await self.caller.fetch(request, self.options)


def single_attempt(options: CallOptions) -> CallOptions:
    """`options` for a request whose repetition somebody else decides over."""
    return structs.replace(options, policy=structs.replace(options.policy, max_retries=0))


def may_pass(error: errors.DynamiqError) -> bool:
    """Whether asking again may help: neither a definite answer nor the end of the time for all."""
    if isinstance(error, errors.APITimeoutError):
        return error.limit != "total"
    if isinstance(error, errors.APIStatusError):
        return isinstance(error, errors.InternalServerError) or outcome(error) is not Outcome.FINAL
    # A page of HTML in the answer's place is some proxy's.
    return isinstance(error, errors.APIConnectionError | errors.ContentTypeError)


def check_id(run_id: str) -> str:
    """Raise InvalidArgumentError unless `run_id` can be an id."""
    if not isinstance(run_id, str) or not run_id:
        raise errors.InvalidArgumentError(
            f"run_id must be a non-empty string, not {run_id!r}", argument="run_id"
        )
    return run_id


def _input_body(request: InputRequest | str, answer: dict[str, Any], kind: str) -> dict[str, Any]:
    """The body of `POST /v1/runs/{id}/input`. For an approval it is our guess."""
    request_id = request if isinstance(request, str) else request.id
    known = {name: value for name, value in answer.items() if value is not None}
    return {"type": kind, "data": {"request_id": request_id, **known}}


def _check_editable(request: InputRequest | str, params: Mapping[str, Any] | None) -> None:
    """Raise InvalidArgumentError if `params` has keys that this question does not let be edited."""
    if params is None or isinstance(request, str):
        return
    editable = request.editable_params or []
    if wrong := sorted(set(params) - set(editable)):
        raise errors.InvalidArgumentError(
            f"params: {', '.join(wrong)} cannot be edited; "
            + (f"only {', '.join(editable)} can" if editable else "nothing can be"),
            argument="params",
        )


def _check_kind(request: InputRequest | str, *, approval: bool) -> None:
    """Raise InvalidArgumentError if an approval is answered with text, or a question approved."""
    opposite = "human_feedback" if approval else "approval_request"
    if isinstance(request, str) or request.type != opposite:
        return  # the list of types is open
    advice = "answer it with answer()" if approval else "use approve() or reject()"
    raise errors.InvalidArgumentError(f"this is a {request.type}: {advice}", argument="request")
