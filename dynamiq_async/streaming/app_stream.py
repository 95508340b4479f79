"""The stream of an App's root endpoint, which never ends early without an error.

It ends with the workflow's final event. The vendor does not promise that the platform sends that
event, so `FinalEvents` learns it. Until a stream of the client has shown a final event, a body is
enough that is complete by HTTP's framing, holds an event and ends after a whole event. Any other
end raises `StreamInterruptedError`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

from msgspec import Raw

from dynamiq_async import errors
from dynamiq_async._failures import Failure
from dynamiq_async._http.error_responses import beginning, stream_error
from dynamiq_async._http.timers import deadline_in
from dynamiq_async._telemetry import extra
from dynamiq_async.events.app_events import (
    AGENT_TYPE,
    BrokenEvent,
    StreamEvent,
    error_event,
    stream_event,
)
from dynamiq_async.options import check_one_of
from dynamiq_async.sse import SSEDecoder
from dynamiq_async.streaming.event_reader import (
    EventReader,
    OnBadEvent,
    open_events,
    recovery,
)
from dynamiq_async.streaming.event_stream import Source
from dynamiq_async.streaming.output_stream import OutputStream, T_co

if TYPE_CHECKING:
    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async._http.response import ResponseInfo
    from dynamiq_async._http.sender import Sender
    from dynamiq_async._telemetry import Call

FinalEvent = Literal["auto", "required", "optional"]

log: logging.Logger = logging.getLogger("dynamiq_async")


class FinalEvents:
    """What a client and its views know about the final events of their App's streams.

    Args:
        option: the client's `final_event`.

    Raises:
        InvalidArgumentError: `option` is not one of the three.
    """

    def __init__(self, option: FinalEvent) -> None:
        self._option = checked_final_event(option)
        self._shown = False
        self._warned = False

    def note(self) -> None:
        """Note that a stream has shown the workflow's final event."""
        self._shown = True

    def are_required(self, option: FinalEvent | None) -> bool:
        """Whether a stream with `option`, or else the client's option, needs its final event."""
        option = option or self._option
        return option == "required" or (option == "auto" and self._shown)

    def warn(self, label: str, option: FinalEvent | None) -> None:
        """Log that a stream ended without a final event: once, and only with the option "auto"."""
        if (option or self._option) == "auto" and not self._warned:
            self._warned = True
            log.warning(
                "%s: the stream ended without the workflow's final event. It is taken as whole, "
                "since no stream of this client has shown one yet; final_event='required' makes "
                "that an error, and final_event='optional' is for an App whose streams have none",
                label,
                extra=extra(),
            )


def checked_final_event(option: FinalEvent) -> FinalEvent:
    """`option`. Raises InvalidArgumentError unless it is one of the three."""
    check_one_of(option, ("auto", "required", "optional"), "final_event")
    return option


class Batched(Source, Protocol):
    """A source of a workflow's events, which returns a list for each read."""

    async def batch(self) -> list[StreamEvent] | None:
        """The next events; None when no more come."""


class WorkflowStream(OutputStream[StreamEvent, T_co]):
    """The events of one run of a workflow, over any transport.

    Attributes:
        run_id: the workflow run's id, once an event has given it.
        final: the workflow's final event, once it has arrived.
    """

    run_id: str | None
    final: StreamEvent | None
    _reader: Batched | None = None
    _advice = ""  # what to do when the stream is interrupted

    def __init__(self, sender: Sender, label: str, output_type: Any, *, event: str | None) -> None:
        super().__init__(label, sender.key, output_type)
        self._sender = sender
        self._event = event

    # What a subclass defines.

    def _check_whole(self) -> None:
        """At the end of the events, without the final one: raise if some are missing."""
        raise NotImplementedError

    # What EventStream requires.

    def _begin_call(self) -> Call | None:
        return self._sender.telemetry.begin_stream(None)

    async def _next(self) -> list[StreamEvent] | None:
        reader = self._reader
        while self.final is None and reader is not None:
            try:
                batch = await reader.batch()
            except errors.DynamiqError as error:
                raise self._explained(error) from error.__cause__
            if batch is None:
                self._check_whole()
                return None
            if self.run_id is None:
                self.run_id = next((e.wf_run_id for e in batch if e.wf_run_id is not None), None)
            batch = self._up_to_final(batch)
            if self._event is not None:
                batch = [e for e in batch if e.event == self._event or e is self.final]
            if batch:
                return batch
        return None

    def _up_to_final(self, batch: list[StreamEvent]) -> list[StreamEvent]:
        # This runs for every event. An agent's events are skipped first: they are most of a
        # stream, are never final and carry no usage.
        for event in batch:
            source = event.source
            if source is not None and source.type == AGENT_TYPE:
                continue
            if event.is_final:
                self.final = event
                return batch[: batch.index(event) + 1]
            self._note_usage(event)
        return batch

    def _explained(self, error: errors.DynamiqError) -> errors.DynamiqError:
        """`error` with this stream's ids; a lost connection becomes a StreamInterruptedError."""
        if self._sender.closed and isinstance(error, errors.APIConnectionError):
            error = self._sender.closed_error(self._label)
        elif type(error) is errors.APIConnectionError:
            error = errors.StreamInterruptedError(f"{error.message}. {self._advice}")
        return error.add(**self._known())

    # What OutputStream requires.

    def _failed(self, final: StreamEvent) -> errors.DynamiqError:
        if final.source is None:
            failure = stream_error(
                final.data, run_id=self.run_id, request=self._label, key=self._key
            )
            failure.request_id = self._known()["request_id"]
            return failure
        return Failure(final.canceled, final.error or "").error(
            f"{self._label}: the workflow",
            self._key,
            body=beginning(bytes(final.raw_data), self._key),
            **self._known(),
        )

    async def _raw_output(self) -> Raw:
        if self.final is None:
            raise errors.OutputMissingError(
                f"{self._label}: the stream ended properly, but without the workflow's final "
                "event, so there is no output to return",
                **self._known(),
            )
        return self.final.raw_data


class AppStream(WorkflowStream[T_co]):
    """The events of one streamed call, from `AsyncApp.stream`.

    Iterate it, or enter it with `async with` to send the request at once and to be sure that the
    connection is free afterwards. The workflow's final event is returned like any other, and then
    the iteration stops. `text()` and `output()` raise if the final event reports a failure.

    Attributes:
        response: status, headers, request id and attempts, once the headers have arrived.
        run_id: the workflow run's id, once an event has given it.
        final: the workflow's final event, once it has arrived.
    """

    _reader: EventReader[StreamEvent] | None = None
    _advice = (
        "The App may have run to its end all the same, and a stream of the root endpoint cannot be "
        "resumed; the streams of app.runs can"
    )

    def __init__(
        self,
        sender: Sender,
        request: Request,
        options: SendOptions,
        *,
        event: str | None,
        on_bad_event: OnBadEvent,
        final_event: FinalEvent | None,
        final_events: FinalEvents,
        max_event_bytes: int,
        output_type: Any = Any,
    ) -> None:
        super().__init__(sender, str(request), output_type, event=event)
        self._final_event = None if final_event is None else checked_final_event(final_event)
        self._final_events = final_events
        self._heard = False
        self._request = request
        self._options = options
        self._decoder = SSEDecoder(
            StreamEvent,
            max_event_bytes=max_event_bytes,
            recover=recovery(stream_event, broken_event, on_bad_event, sender.key),
            read_error=error_event,
        )
        self.response: ResponseInfo | None = None

    async def answer(self, *_: Any, **__: Any) -> NoReturn:
        """Raise an error that names the alternatives: HTTP cannot answer a root stream's questions.

        Raises:
            QuestionError: always.
        """
        raise errors.QuestionError(
            f"{self._label}: a question on this stream cannot be answered over HTTP. Start the "
            "workflow as a run (app.runs), whose questions can be, or over the App's WebSocket "
            "(app.connect)",
            **self._known(),
        )

    def _known(self) -> dict[str, Any]:
        info = self.response
        return {
            "run_id": self.run_id,
            "request_id": info.request_id if info is not None else None,
            "status": info.status if info is not None else None,
            "attempts": info.attempts if info is not None else None,
        }

    # What EventStream requires.

    def _begin_call(self) -> Call | None:
        return self._sender.telemetry.begin_stream(self._request)

    async def _open(self) -> None:
        self._reader, self.response = await open_events(
            self._sender,
            self._request,
            self._options,
            self._decoder,
            label=self._label,
            deadline=deadline_in(self._options.timeout.total),
        )

    def _up_to_final(self, batch: list[StreamEvent]) -> list[StreamEvent]:
        self._heard = True
        batch = super()._up_to_final(batch)
        if self.final is not None and self.final.source is not None:
            self._final_events.note()
        return batch

    def _check_whole(self) -> None:
        reader = self._reader
        if reader is None:
            return  # pragma: no cover - it was closed meanwhile, and the read raises
        if reader.decoder.pending:
            what = "in the middle of an event"
        elif not reader.whole:
            what = "without the workflow's final event, and HTTP does not tell whether it was whole"
        elif not self._heard:
            what = "without any event"
        elif self._final_events.are_required(self._final_event):
            what = (
                "without the workflow's final event; final_event='optional' is for an App whose "
                "streams have none"
            )
        else:
            self._final_events.warn(self._label, self._final_event)
            return
        raise errors.StreamInterruptedError(
            f"{self._label}: the stream ended {what}. {self._advice}", **self._known()
        )


def broken_event(data: bytes) -> BrokenEvent:
    """The event that stands for a message that cannot be decoded."""
    return BrokenEvent(raw_data=Raw(data))
