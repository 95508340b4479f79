"""`Telemetry`: reports one client's calls to OpenTelemetry.

A call of a method is one span, however many requests it makes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from dynamiq_async import errors
from dynamiq_async._telemetry import names
from dynamiq_async._telemetry.calls import Call, attach, current, detach
from dynamiq_async._telemetry.instruments import Api, is_imported, never_raises
from dynamiq_async._telemetry.names import Operation, operation_of
from dynamiq_async._telemetry.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dynamiq_async._telemetry.instruments import Instruments

_NO_CALL = nullcontext()
_OFF = Settings(enabled=False)


class Sent(Protocol):
    """The attributes of a request that telemetry reads."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Any


class _Told(Struct):
    session_id: str | None = None
    stream: bool | None = None


class Telemetry:
    """Reports the calls of one client and its views to OpenTelemetry.

    Args:
        url: the client's base URL.
        propagates: whether trace headers are sent to its host. Only an App's host gets them.
    """

    def __init__(
        self, settings: Settings = _OFF, url: str = "", *, propagates: bool = False
    ) -> None:
        self._enabled = settings.enabled
        self._is_global = settings.tracer_provider is None and settings.meter_provider is None
        self._api = Api(settings)
        self._propagates = propagates
        self._url = url
        parts = urlsplit(url)
        host = parts.hostname or ""
        self._agent = settings.agent_name or host
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._server = {names.ADDRESS: host, names.PORT: port}

    # --- calls -----------------------------------------------------------------------------------

    def calling(self, request: Sent) -> AbstractContextManager[Call | None]:
        """A call whose requests are sent in the body, beginning with `request`. Within another call
        of this client, it is a part of that call."""
        if not self._enabled or (self._is_global and not is_imported()):
            return _NO_CALL
        call = current.get()
        if call is not None and call.telemetry is self:
            return nullcontext(call)
        began = self._begin_for(request)
        return _NO_CALL if began is None else _ended(began)

    def requesting(self, request: Sent) -> AbstractContextManager[Call | None]:
        """The call that `request` is a part of, if any. The sender enters it around the request."""
        call = current.get()
        if call is None or call.telemetry is not self:
            return _NO_CALL
        return self._sending(call, request)

    def composed(self, name: str, **known: Any) -> AbstractContextManager[Call | None]:
        """A call that makes several requests.

        Args:
            name: the name of its operation.
            known: attributes, by the names in `names`.
        """
        began = self.begin(Operation(name), **known)
        return _NO_CALL if began is None else _ended(began)

    def begin_stream(self, request: Sent | None, **known: Any) -> Call | None:
        """A call that the caller ends with `end`; None if nothing is recorded, or if it is a part
        of another call.

        Args:
            request: the first request; None for a run on a WebSocket.
            known: attributes, by the names in `names`.
        """
        if request is None:
            return self.begin(Operation(names.INVOKE), STREAM=True, **known)
        return self._begin_for(request, STREAM=True, **known) if self._enabled else None

    def _begin_for(self, request: Sent, **known: Any) -> Call | None:
        if not self._is_used():
            return None
        found = operation_of(request.method, request.url.partition("?")[0][len(self._url) :])
        if found.is_agents:
            told = _told(request.body)
            return self.begin(found, CONVERSATION=told.session_id, **known)
        return self.begin(found, METHOD=request.method, TEMPLATE=found.template or None, **known)

    @never_raises
    def _is_used(self) -> bool:
        return self._api.tracer() is not None or self._api.instruments() is not None

    @never_raises
    def begin(self, operation: Operation, **known: Any) -> Call | None:
        """A call of this operation; None if it is a part of another call or nothing is recorded."""
        call = current.get()
        if not self._enabled or (call is not None and call.telemetry is self):
            return None
        tracer, instruments = self._api.tracer(), self._api.instruments()
        if tracer is None and instruments is None:
            return None
        measured: dict[str, Any] = {**self._server, names.OPERATION: operation.name}
        if operation.is_agents:
            measured |= {names.PROVIDER: "dynamiq", names.AGENT: self._agent}
        span = None
        if tracer is not None:
            told = {getattr(names, n): value for n, value in known.items() if value is not None}
            span = self._span(tracer, operation, measured | told)
        return Call(self, span, instruments, measured)

    def _span(self, tracer: Any, operation: Operation, attributes: dict[str, Any]) -> Any:
        from opentelemetry.trace import SpanKind

        name = f"{operation.name} {self._agent}" if operation.is_agents else operation.name
        if not operation.is_agents:
            attributes.pop(names.OPERATION)
        return tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)

    @contextmanager
    def _sending(self, call: Call, request: Sent) -> Iterator[Call]:
        if self._propagates and call.is_traced:
            request.headers = self._api.inject(request.headers) or request.headers
        try:
            yield call
        except errors.DynamiqError as error:
            call.answered(error.status, error.attempts)
            raise

    # --- the limiter and batches -----------------------------------------------------------------

    @never_raises
    def cooled_down(self, seconds: float) -> None:
        """Record that the service asked to slow down."""
        if self._enabled and (instruments := self._api.instruments()) is not None:
            instruments.cooldown.record(seconds, self._server)

    @contextmanager
    def batch(self) -> Iterator[Batch | None]:
        """A batch. Its items are calls of their own, with spans below the batch's."""
        batch = self._begin_batch() if self._enabled else None
        if batch is None:
            yield None
            return
        try:
            yield batch
        finally:
            batch.end()

    @never_raises
    def _begin_batch(self) -> Batch | None:
        tracer, instruments = self._api.tracer(), self._api.instruments()
        if tracer is None and instruments is None:
            return None
        span = tracer and tracer.start_span(names.BATCH, attributes=dict(self._server))
        return Batch(span, instruments, self._server)


class Item(Protocol):
    """The attributes of an item's result that telemetry reads."""

    @property
    def error(self) -> Exception | None: ...
    @property
    def from_journal(self) -> bool: ...


def _outcome(item: Item) -> str:
    if item.from_journal:
        return "from_journal"
    if item.error is None:
        return "done"
    return "unknown" if isinstance(item.error, errors.AmbiguousOutcomeError) else "failed"


class Batch:
    """A batch that has begun. Its span is the current one."""

    def __init__(
        self, span: Any, instruments: Instruments | None, attributes: dict[str, Any]
    ) -> None:
        self._span = span
        self._instruments = instruments
        self._attributes = attributes
        self._token = None if span is None else attach(span)

    @never_raises
    def count(self, item: Item) -> None:
        """Count the result of an item."""
        if self._instruments is not None:
            outcome = _outcome(item)
            self._instruments.items.add(1, {**self._attributes, names.OUTCOME: outcome})

    @never_raises
    def told(self, error: BaseException | None, **counts: int | None) -> None:
        """Set the batch's counts and its error, if any. Leaving a batch is not a failure."""
        if self._span is None:
            return
        known = {f"{names.BATCH}.{n}": value for n, value in counts.items() if value is not None}
        self._span.set_attributes(known)
        if isinstance(error, Exception):
            from opentelemetry.trace import Status, StatusCode

            name = type(error).__name__
            self._span.set_status(Status(StatusCode.ERROR, name))
            self._span.set_attribute(names.ERROR, name)

    @never_raises
    def end(self) -> None:
        """End the span."""
        if self._span is not None:
            detach(self._token)
            self._span.end()


@contextmanager
def _ended(call: Call) -> Iterator[Call]:
    """Enter a call, and end it with the error that is raised, if any."""
    try:
        with call.inside():
            yield call
    except BaseException as error:
        call.end(error)
        raise
    else:
        call.end()


def _told(body: Any) -> _Told:
    """The facts in a call's body other than its input."""
    if isinstance(body, bytes):
        try:
            return msgspec.json.decode(body, type=_Told)
        except msgspec.MsgspecError:  # a field that the caller set otherwise
            return _Told()
    return _Told()
