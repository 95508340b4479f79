"""The messages on an App's WebSocket. All are our guesses, each in a method that you can override.

The vendor documents that there is a WebSocket at the App's host, but not its messages. The guesses
are based on the example servers of the vendor's library: a first message that starts the workflow,
then streaming events as JSON text, answers that repeat the origin of their question, and the next
run on the same socket. Where your App differs, override the method for it:

    class Mine(SocketProtocol):
        def start(self, request):
            return {"type": "run", "payload": request["input"]}

    async with app.connect(protocol=Mine()) as socket: ...

What `start`, `answer` and `decide` return is sent as JSON: any value that msgspec can encode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from dynamiq_async import _json
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.events.app_events import StreamEvent, stream_event

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from dynamiq_async.events import Question

_decode = msgspec.json.Decoder(StreamEvent).decode

# The HTTP status that matches a close code, by RFC 6455 and its registry for codes below 4000. The
# others are the application's own; 4400 to 4599 are widely used for the HTTP status plus 4000.
_STATUS = {
    1002: 400,
    1003: 400,
    1007: 400,
    1008: 403,
    1009: 413,
    1013: 503,
    3000: 401,
    3003: 403,
    3008: 408,
}
_OWN = 4000


class SocketProtocol:
    """The messages between client and App.

    Args:
        data: the `data` of the first message: "request" for the body that `POST /` takes, or
            "input" for its input alone. Both occur in the library's examples.
        entity_id: the workflow's id, if the server needs it; the App's host identifies it too.

    Raises:
        InvalidArgumentError: `data` is neither.
    """

    def __init__(
        self, *, data: Literal["request", "input"] = "request", entity_id: str | None = None
    ) -> None:
        if data not in ("request", "input"):
            raise InvalidArgumentError(
                f"data must be 'request' or 'input', not {data!r}", argument="data"
            )
        self.data = data
        self.entity_id = entity_id

    # What is sent.

    def start(self, request: dict[str, Any]) -> Any:
        """The first message of a run.

        Args:
            request: the body that `POST /` would take: `input` as it was given, `stream`, and the
                other fields that the caller set, such as `user_id`.
        """
        if self.data == "request":
            return {"entity_id": self.entity_id, "data": request}
        if unsaid := sorted(request.keys() - {"input", "stream"}):
            raise InvalidArgumentError(
                f"{', '.join(unsaid)} cannot be sent where a run starts with its input alone",
                argument=unsaid[0],
            )
        return {"entity_id": self.entity_id, "data": request["input"]}

    def answer(
        self, asked: StreamEvent, content: str, answers: Sequence[Mapping[str, Any]] | None
    ) -> Any:
        """The answer to a request for feedback."""
        data: dict[str, Any] = {"content": content}
        if answers is not None:
            data["answers"] = answers
        return self._reply(asked, data)

    def decide(
        self,
        asked: StreamEvent,
        question: Question,
        *,
        approved: bool,
        params: Mapping[str, Any] | None,
        feedback: str | None,
    ) -> Any:
        """The answer to a request for approval.

        Fields that are not given are left out: the library ignores an answer with `feedback: null`,
        and the node then waits in vain.
        """
        given = {"feedback": feedback, "data": params, "request_id": question.id or None}
        known = {name: value for name, value in given.items() if value is not None}
        return self._reply(asked, {"is_approved": approved, **known})

    def _reply(self, asked: StreamEvent, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "wf_run_id": asked.wf_run_id,
            "entity_id": asked.entity_id,
            "event": asked.event,
            "data": data,
        }

    @property
    def silence_advice(self) -> str:
        """Advice in the error for a server that did not reply to the first message.

        The library's example servers ignore a first message that is not for their workflow."""
        if self.entity_id is not None:
            return ""
        return (
            "Some servers answer only a first message that names their workflow: "
            "app.connect(protocol=SocketProtocol(entity_id=…)) sends its id"
        )

    # What is received.

    def read(self, message: bytes) -> StreamEvent | None:
        """The event in a message, of text or binary frames; None for a message to ignore.

        Raises:
            ValueError: the message is broken; `on_bad_event` decides what to do with it.
        """
        try:
            return _json.decode_with(_decode, message)
        except _json.DECODE_ERRORS:
            return stream_event(message)

    def belongs(self, event: StreamEvent, run_id: str | None, ended: Collection[str]) -> bool:
        """Whether an event is part of the run under way; others are ignored.

        Args:
            run_id: the run's id, once an event has given it.
            ended: the ids of earlier runs on the same socket, while their last messages may still
                arrive. Afterwards it is empty, because a server may use an id again.
        """
        if event.wf_run_id is None:
            return True
        return event.wf_run_id == run_id if run_id is not None else event.wf_run_id not in ended

    def ends_run(self, event: StreamEvent) -> bool:
        """Whether this is the last event of the run. The socket stays open."""
        return event.is_final

    # How it ends.

    def is_complete(self, code: int) -> bool:
        """Whether a close with this code means that the run is complete although its final event
        never came, since the vendor does not promise that event. The run must have sent an event,
        and wait for no answer. Only 1000 means a normal closure."""
        return code == 1000

    def status(self, code: int, reason: str) -> int | None:
        """The HTTP status that matches a close, which decides the class of the error; None if the
        close only means that the connection has ended."""
        return code - _OWN if 400 <= code - _OWN < 600 else _STATUS.get(code)
