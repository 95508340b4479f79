"""The stream of an endpoint that has no method here. Only its framing is known.

Nothing says which event is the last. So the stream ends without an error if its body is complete by
HTTP's framing, holds at least one event and ends after a whole event; or at an event whose
`is_final` is true, if the type of events has this attribute. Any other end raises
`StreamInterruptedError`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from dynamiq_async import _json, errors
from dynamiq_async._http.timers import deadline_in
from dynamiq_async.sse import SSEDecoder
from dynamiq_async.streaming.event_reader import EventReader, open_events, read_event
from dynamiq_async.streaming.event_stream import EventStream

if TYPE_CHECKING:
    from dynamiq_async._http.api import Api
    from dynamiq_async._http.request import Request
    from dynamiq_async._http.response import ResponseInfo
    from dynamiq_async._telemetry import Call

E = TypeVar("E")


class EndpointStream(EventStream[E]):
    """The events of one response, from `AsyncManagement.events`.

    Iterate it, or enter it with `async with` to send the request at once and to be sure that the
    connection is free afterwards. The stream cannot be resumed.

    Attributes:
        response: status, headers, request id and attempts, once the headers have arrived.
    """

    _reader: EventReader[E] | None = None

    def __init__(self, api: Api, request: Request, event_type: Any) -> None:
        super().__init__(str(request))
        self._api = api
        self._request = request
        self._decoder: SSEDecoder[E] = _decoder(api, event_type)
        self._heard = self._final = False
        self._known: dict[str, Any] = {}  # attributes of its errors
        self.response: ResponseInfo | None = None

    def _begin_call(self) -> Call | None:
        return self._api.sender.telemetry.begin_stream(self._request)

    def _facts(self) -> dict[str, Any]:
        return {}

    def _outcome(self) -> BaseException | None:
        return None

    @property
    def _complete(self) -> bool:
        return self._final or self._ended

    async def _open(self) -> None:
        self._reader, self.response = await open_events(
            self._api.sender,
            self._request,
            self._api.options,
            self._decoder,
            label=self._label,
            deadline=deadline_in(self._api.options.timeout.total),
        )
        info = self.response
        self._known = {
            "request_id": info.request_id,
            "status": info.status,
            "attempts": info.attempts,
        }

    async def _next(self) -> list[E] | None:
        reader = self._reader
        if reader is None or self._final:
            return None
        try:
            batch = await reader.batch()
        except errors.DynamiqError as error:
            raise self._explained(error) from error.__cause__
        if batch is None:
            self._check_whole(reader)
            return None
        self._heard = True
        for number, event in enumerate(batch, 1):
            if getattr(event, "is_final", False):
                self._final = True
                return batch[:number]
        return batch

    def _check_whole(self, reader: EventReader[E]) -> None:
        if reader.decoder.pending:
            what = "in the middle of an event"
        elif not reader.whole:
            what = "and HTTP does not tell whether it was whole"
        elif not self._heard:
            what = "without any event"
        else:
            return
        raise self._interrupted(f"{self._label}: the stream ended {what}")

    def _explained(self, error: errors.DynamiqError) -> errors.DynamiqError:
        sender = self._api.sender
        if sender.closed and isinstance(error, errors.APIConnectionError):
            error = sender.closed_error(self._label)
        elif type(error) is errors.APIConnectionError:
            error = self._interrupted(error.message)
        return error.add(**self._known)

    def _interrupted(self, message: str) -> errors.DynamiqError:
        advice = "What it was asked for may have been done all the same, and it cannot be resumed"
        return errors.StreamInterruptedError(f"{message}. {advice}", **self._known)


def _decoder(api: Api, event_type: Any) -> SSEDecoder[Any]:
    limit = api.max_event_bytes
    if event_type is None:
        return SSEDecoder(max_event_bytes=limit)
    _json.check_type(event_type, "event_type")
    read = partial(_json.decode, type=event_type)
    tolerant = partial(read_event, read, api.sender.key)
    return SSEDecoder(event_type, max_event_bytes=limit, recover=tolerant)
