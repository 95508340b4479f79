"""The modes of a batch: for each input a synchronous call, a run that is followed to its end, or
a function of the caller's.

All modes are patient: when the service asks to slow down, the input waits for as long as needed
and does not fail.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import uuid4

import msgspec

from dynamiq_async import _json, errors
from dynamiq_async._http.bodies import root_body
from dynamiq_async._http.client import Client, api_of, patient_view
from dynamiq_async._http.request import Request
from dynamiq_async._http.request_options import UNSET, RequestOptions
from dynamiq_async._http.response import decode_output
from dynamiq_async._json import encode, encode_object
from dynamiq_async._telemetry import INVOKE
from dynamiq_async.batch.engine import HaltError
from dynamiq_async.runs.leaving import Leaving
from dynamiq_async.runs.options import checked_session
from dynamiq_async.runs.requests import RunRequests
from dynamiq_async.runs.stream import RunStream
from dynamiq_async.runs.waiting import DEFAULT_WAIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from dynamiq_async._http.outage import Outage
    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async.batch.models import Draft
    from dynamiq_async.options import OnLeave
    from dynamiq_async.runs.models import Run

C = TypeVar("C", bound=Client)


class Attempt(Protocol):
    """One attempt at an input, as a journal keeps it."""

    @property
    def session_id(self) -> str:
        """A session for this attempt alone."""

    @property
    def fresh(self) -> bool:
        """Whether a journal with earlier entries shows that there was no earlier attempt."""

    def note_run(self, run_id: str) -> None:
        """Record the id of the attempt's run."""

    def withdraw(self) -> None:
        """Undo the attempt, because nothing was sent."""


class Mode(Protocol):
    """How one input is worked on.

    Attributes:
        name: its name in a journal.
        traceable: whether the outcome of an attempt can be found out later.
        single: whether a refusal by the service means that nothing was done for the input.
    """

    name: str
    traceable: bool
    single: bool

    def prepare(self, input: Any) -> Any:
        """What `work` needs for the input. Raises InvalidArgumentError if it cannot be sent."""

    async def work(self, result: Draft, prepared: Any, attempt: Attempt | None) -> bytes | None:
        """Fill in `result`; with an `attempt`, return the output as JSON."""

    async def recover(
        self, result: Draft, prepared: Any, session_id: str, run_id: str | None
    ) -> bytes | None:
        """Where that is possible, find the run of an earlier attempt and do as `work` does; return
        None when there is no run."""

    def recall(self, output: bytes) -> Any:
        """The output that `work` returned once."""


class Invoke:
    """A synchronous call. What all calls share is prepared once."""

    name = "invoke"
    traceable = False
    single = True

    def __init__(
        self,
        app: Client,
        given: RequestOptions,
        fields: Mapping[str, Any],
        output_type: Any,
        outage: Outage,
    ) -> None:
        root_body({}, **fields)
        api = api_of(patient_view(app, given, outage))
        self._sender = api.sender
        self._options = api.options.for_call(RequestOptions(retry=given.retry))
        self._fields = {**fields, "row": True}
        self._output_type = output_type
        self._model = api.request("POST", "", body=b"{}", given=given)
        self._label = str(self._model)

    def prepare(self, input: Any) -> Any:
        """The body of the call's request."""
        return root_body(input, **self._fields)

    async def work(self, result: Draft, prepared: Any, attempt: Attempt | None) -> bytes | None:
        """Invoke the App."""
        model = self._model
        request = Request("POST", model.url, model.headers, prepared, idempotent=model.idempotent)
        with self._sender.telemetry.calling(request):
            try:
                response = await self._sender.fetch(request, self._options)
            except asyncio.CancelledError:
                _withdraw_unsent(request, attempt)
                raise
            result.attempts = response.attempts
            try:
                result.output = await decode_output(
                    self._label, response, self._output_type, key=self._sender.key
                )
            except errors.ResponseDecodeError as error:
                _keep_misfit(result, error)
            return response.body

    async def recover(
        self, result: Draft, prepared: Any, session_id: str, run_id: str | None
    ) -> bytes | None:
        """Never called: a synchronous call cannot be looked up."""
        raise NotImplementedError

    def recall(self, output: bytes) -> Any:
        """The output that a journal kept."""
        return recalled(output, self._output_type)


class Call:
    """A call of the caller's coroutine function with a view of the client."""

    name = "call"
    traceable = False
    single = False

    def __init__(
        self,
        client: C,
        call: Callable[[C, Any], Awaitable[Any]],
        given: RequestOptions,
        output_type: Any,
        outage: Outage,
    ) -> None:
        if not callable(call):
            raise errors.InvalidArgumentError(
                f"call must be a coroutine function of client and input, not {call!r}",
                argument="call",
            )
        self._call = call
        self._view = patient_view(client, given, outage)
        self._output_type = output_type

    def prepare(self, input: Any) -> Any:
        """The input itself."""
        return input

    async def work(self, result: Draft, prepared: Any, attempt: Attempt | None) -> bytes | None:
        """Await the function."""
        calling = self._call(self._view, prepared)
        if not hasattr(calling, "__await__"):
            raise HaltError(_not_awaitable(calling), at_once=True)
        result.output = output = await calling
        return None if attempt is None else encode(output, "call")

    async def recover(
        self, result: Draft, prepared: Any, session_id: str, run_id: str | None
    ) -> bytes | None:
        """Never called: what a function did cannot be looked up."""
        raise NotImplementedError

    def recall(self, output: bytes) -> Any:
        """The output that a journal kept."""
        return recalled(output, self._output_type)


class RunToEnd:
    """A background run with a session of its own, followed to its end.

    If the response to the create is lost, the run is looked for by its session for `settle`
    seconds, and is not created again. An error after the create says nothing about the run, and
    becomes an AmbiguousOutcomeError with its `run_id`.
    """

    name = "run"
    traceable = True
    single = True

    def __init__(
        self,
        app: Client,
        given: RequestOptions,
        fields: Mapping[str, Any],
        output_type: Any,
        outage: Outage,
        *,
        session_id: str | None,
        settle: float,
        on_leave: OnLeave = "detach",
    ) -> None:
        api = api_of(patient_view(app, given, outage))
        self._service = RunRequests(api)
        self._given = given
        self._fields = {**fields, "row": True}
        self._output_type = output_type
        self._session_id = session_id
        self._settle = settle
        self._on_leave = on_leave
        self._options = api.options
        self._creating = api.options.for_call(RequestOptions(retry=given.retry))
        self._following = _with_limit(api.options, given)
        self._service.create_request({}, given, session_id=session_id, **fields)

    def prepare(self, input: Any) -> Any:
        """The input itself, once it is known to be an object that JSON can hold."""
        encode_object(input, "input", row=True)
        return input

    async def work(self, result: Draft, prepared: Any, attempt: Attempt | None) -> bytes | None:
        """Make a run and follow it to its end."""
        session = attempt.session_id if attempt is not None else self._session_id or str(uuid4())
        telemetry = self._service.api.sender.telemetry
        with telemetry.composed(INVOKE, CONVERSATION=session, STREAM=True) as call:
            run = await self._create(prepared, session, attempt)
            if attempt is not None:
                attempt.note_run(run.id)
            if call is not None:
                call.told(RESPONSE_ID=run.id)
            return await self._follow(result, run.id)

    async def recover(
        self, result: Draft, prepared: Any, session_id: str, run_id: str | None
    ) -> bytes | None:
        """Follow the run that was made before, if there is one."""
        if run_id is None:
            try:
                run = await self._find(session_id)
            except errors.DynamiqError as error:
                raise unseen(
                    "it could not be found out whether a run was started", error
                ) from error
            run_id = None if run is None else run.id
        try:
            return None if run_id is None else await self._follow(result, run_id)
        except errors.RunCanceledError:
            if self._on_leave == "cancel":  # the earlier start canceled it: there is no result
                return None
            raise

    def recall(self, output: bytes) -> Any:
        """The output that a journal kept."""
        return recalled(output, self._output_type)

    async def _create(self, input: Any, session: str, attempt: Attempt | None) -> Run:
        request = self._service.create_request(
            input, self._given, session_id=session, background=True, **self._fields
        )
        try:
            run = await self._service.create(request, self._creating, None)
        except errors.AmbiguousOutcomeError as error:
            lost = error
        except asyncio.CancelledError:
            _withdraw_unsent(request, attempt)
            if self._on_leave == "cancel" and request.taken and self._session_id is None:
                await Leaving(self._service, session_id=session).finish(None)
            raise
        else:
            return run
        if self._session_id is None:
            try:
                found = await self._find(session)
            except errors.DynamiqError:
                found = None  # the lost create is the item's error, not the failed search
            if found is not None:
                return found
        raise lost

    async def _find(self, session_id: str) -> Run | None:
        """The run of a session, which may appear in the list with a delay.

        Raises:
            DynamiqError: it could not be found out.
        """
        return await self._service.search(session_id, self._options, settle=self._settle)

    async def _follow(self, result: Draft, run_id: str) -> bytes:
        result.run_id = run_id
        try:
            stream = RunStream[Any](
                self._service, self._following, run_id=run_id, on_leave=self._on_leave
            )
            async with stream:
                try:
                    output: msgspec.Raw = await stream.output(output_type=msgspec.Raw)
                finally:
                    result.usage = stream.usage
        except errors.RunError:
            raise
        except errors.DynamiqError as error:
            raise unseen(f"the end of run {run_id} was not seen", error, run_id) from error
        self._decode(result, output, run_id)
        return bytes(output)

    def _decode(self, result: Draft, output: msgspec.Raw, run_id: str) -> None:
        try:
            what = f"the output of run {run_id}"
            result.output = _json.decode_as(output, self._output_type, what, run_id=run_id)
        except errors.ResponseDecodeError as error:
            _keep_misfit(result, error)


def run_session(session_id: str | UUID | None, retry: bool | None, journal: object) -> str | None:
    """The session that all runs share, if the caller gives one. Then a run whose create got no
    response cannot be found by a session of its own."""
    if retry:
        raise errors.InvalidArgumentError(
            "in mode 'run' the one run there is is found again, and retry=True may make it two",
            argument="retry",
        )
    if session_id is None:
        return None
    if journal is not None:
        raise errors.InvalidArgumentError(
            "with a journal, each run gets a session of its own, by which it is found again",
            argument="session_id",
        )
    return checked_session(session_id)


def _not_awaitable(made: object) -> errors.InvalidArgumentError:
    return errors.InvalidArgumentError(
        "call must be a coroutine function (`async def`, with asyncio.to_thread in it for what "
        f"blocks); what it returned, of type {type(made).__name__!r}, cannot be awaited",
        argument="call",
    )


def _withdraw_unsent(request: Request, attempt: Attempt | None) -> None:
    """Withdraw an attempt that was cancelled while its request waited to be sent."""
    if attempt is not None and not request.taken:
        attempt.withdraw()


def recalled(output: bytes, output_type: Any) -> Any:
    """An output that a journal kept, as `output_type`."""
    return _json.decode_as(output, output_type, "the output in the journal")


def _with_limit(options: SendOptions, given: RequestOptions) -> SendOptions:
    """A run whose server was killed can stay `started` for ever, so following has a limit, unless
    that was switched off."""
    if options.timeout.total is not None or given.timeout is not UNSET:
        return options
    return options.with_total(DEFAULT_WAIT)


def _keep_misfit(result: Draft, error: errors.ResponseDecodeError) -> None:
    """Record an output that does not fit the type asked for as an error for the caller. A journal
    still keeps the output. Any other error is raised again."""
    if not isinstance(error.__cause__, msgspec.ValidationError):
        raise error
    result.error = error


def unseen(
    what: str, error: errors.DynamiqError, run_id: str | None = None
) -> errors.AmbiguousOutcomeError:
    """The error for a run whose outcome is not known: `what` is unknown because of `error`."""
    timed_out = isinstance(error, errors.APITimeoutError)
    kind = errors.AmbiguousTimeoutError if timed_out else errors.AmbiguousConnectionError
    return error.retold(kind, f"{what}: {error.message}", run_id=run_id)
