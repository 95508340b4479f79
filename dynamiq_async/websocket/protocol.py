"""What is said on an App's WebSocket: our guesses, all of them, each in a method to override.

The vendor documents that there is a WebSocket at the App's host, and not its messages. What the
guesses rest on are the example servers of the vendor's library: a first message that starts the
workflow, then streaming events as JSON text, answers that repeat where their question came from,
and the next run on the same socket. Where your App differs, override the method that says so:

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

# What close codes mean over HTTP: RFC 6455 and its registry for those below 4000. The others are
# the application's own, and 4400 to 4599 are widely used for the HTTP status without the 4000.
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
    """What client and App say to each other.

    Args:
        data: what the first message holds as `data`: the "request" that `POST /` takes as its
            body, or only its "input". Both occur in the library's examples.
        entity_id: the workflow's id, where the server wants it; the App's host says it too.

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
            request: what `POST /` would take: `input` as it was given, `stream`, and what else the
                caller set, such as `user_id`.
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

        What is not given is left out: the library ignores an answer with `feedback: null`, and the
        node then waits in vain.
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
        """What the error says of a server that has said nothing to the first message.

        The library's example servers pass over a first message that is not for their workflow."""
        if self.entity_id is not None:
            return ""
        return (
            "Some servers answer only a first message that names their workflow: "
            "app.connect(protocol=SocketProtocol(entity_id=…)) sends its id"
        )

    # What is received.

    def read(self, message: bytes) -> StreamEvent | None:
        """The event in a message, of text or binary frames; None for a message to pass over.

        Raises:
            ValueError: the message is broken; `on_bad_event` says what becomes of it.
        """
        try:
            return _json.decode_with(_decode, message)
        except _json.DECODE_ERRORS:
            return stream_event(message)

    def belongs(self, event: StreamEvent, run_id: str | None, ended: Collection[str]) -> bool:
        """Whether an event is part of the run under way; others are passed over.

        Args:
            run_id: the run's id, once an event has told it.
            ended: the ids of earlier runs on the same socket, as long as last words of theirs may
                be on their way. Then it is empty: a server may use an id again.
        """
        if event.wf_run_id is None:
            return True
        return event.wf_run_id == run_id if run_id is not None else event.wf_run_id not in ended

    def ends_run(self, event: StreamEvent) -> bool:
        """Whether nothing of the run comes behind this event. The socket stays open."""
        return event.is_final

    # How it ends.

    def is_complete(self, code: int) -> bool:
        """Whether a close with this code says that a run which has said something, and waits for
        no answer, is complete although its final event never came: the vendor does not promise
        that one. Only 1000 says that the socket has served its purpose."""
        return code == 1000

    def status(self, code: int, reason: str) -> int | None:
        """The HTTP status that a close means as much as, which gives the error its class; None
        where it means only that the connection is gone."""
        return code - _OWN if 400 <= code - _OWN < 600 else _STATUS.get(code)
