"""The base class of formats, and what a format may know about its relay."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from dynamiq_async import errors
from dynamiq_async._json import KeepsRaw, encode, is_sound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async.relay.problems import EndKind, Problem
    from dynamiq_async.relay.upstream import Upstream

_LINE_END = re.compile(rb"\r\n|\r|\n")
_LF, _CR = b"\n\r"

OnShutdown = Literal["frame", "abort"]


class Context:
    """What a format may know about its relay. The values are current at each access.

    Attributes:
        event: the event that is being formatted, or the last one. With a `map`, the format gets
            the result of `map`, and this is its argument. None before the first event.
        ended: whether the stream has reached its end.
        heartbeat: seconds of silence after which the format's `heartbeat` is sent; None for never.
        retry: seconds after which a reader that lost its connection should reconnect; None leaves
            it to the reader.
        restarts: whether a reader that reconnects would start the stream again, not resume it. This
            is true for all streams except those that follow a run.
        of_run: whether it is the stream of a run, which can be canceled and answered by its id.
        answered: the sequence numbers of questions that are known to be answered. It is kept up to
            date before `event` for formats whose `asks` is True.
        stopping: whether the server that sends the response has to stop.
    """

    __slots__ = (
        "_start",
        "_upstream",
        "answered",
        "ended",
        "event",
        "heartbeat",
        "of_run",
        "restarts",
        "retry",
        "stopping",
    )

    def __init__(self, upstream: Upstream, *, heartbeat: float | None, retry: float | None) -> None:
        self._upstream = upstream
        self._start = upstream.start  # read this now, because it advances with each read
        self.event: Any = None
        self.ended: bool = False
        self.answered: set[int] = set()
        self.stopping: bool = False
        self.heartbeat: float | None = heartbeat
        self.retry: float | None = retry
        self.restarts: bool = upstream.restarts
        self.of_run: bool = upstream.of_run

    @property
    def run_id(self) -> str | None:
        """The run's id, once it is known. So ids made from it and an event's position are the same
        whenever the run is relayed again."""
        return self._upstream.run_id

    @property
    def position(self) -> str | None:
        """The position that a reader sends to resume after `event`. At the end, it says that the
        reader has received the whole stream. None if the stream cannot be resumed."""
        if self.ended:
            return self._upstream.end
        if self.event is None:
            return self._start
        return self._upstream.position_of(self.event)


class Format(ABC):
    """Encodes a stream as the bytes of a response.

    A format does no I/O. The relay calls `opening`, then `event` for each event, then `end` or
    `failure`, and sends the results in this order. The calls may be ahead of the reader. If the
    reader disconnects, neither `end` nor `failure` is called. Each object belongs to one relay,
    because its state is for one reader.

    If a method raises an exception, that counts as a mistake in the backend.

    Attributes:
        media_type: the response's content type.
        headers: additional headers of the response.
        heartbeat: bytes without meaning that may be sent between any two frames; `b""` if the
            format has none.
        on_shutdown: how a response ends when the server that sends it has to stop (see
            `Relay.shut_down`). "frame" sends what `failure` returns and ends the body properly.
            "abort" breaks the connection, for readers that reconnect only then.
        asks: whether the format lets a person answer a run's questions, so that it has to know
            which ones are still open.
        complete: the format sets this when the response is complete although the stream goes on,
            such as when a run waits for an answer. Then nothing more is read or sent, `end` and
            `failure` are not called, and the run is not canceled.
    """

    media_type: str
    headers: Mapping[str, str] = MappingProxyType({})
    heartbeat: bytes = b""
    on_shutdown: OnShutdown = "frame"
    asks = False
    complete = False
    _taken = False

    def opening(self, context: Context) -> bytes:
        """The bytes to send before the first event.

        Args:
            context: what is known about the relay. Keep it: its values change later.
        """
        return b""

    def run_known(self) -> bytes:
        """The bytes to send before the next event, such as a frame with the run's id.

        Called before each group of events, even if `map` shows none of them. The context's `run_id`
        has the id as soon as it is known.
        """
        return b""

    @abstractmethod
    def event(self, event: Any) -> bytes:
        """The frame of an event.

        Args:
            event: an event of the stream or, with a `map`, the result of `map`, which may be
                anything except None.

        Returns:
            The frame, or `b""` to send nothing.

        Raises:
            InvalidArgumentError: this format cannot express it.
        """

    def end(self, kind: EndKind) -> bytes:
        """The bytes to send at the stream's end.

        Args:
            kind: how the run ended: "completed", "failed" or "canceled".

        Returns:
            The last frame. If a run did not complete, `b""` means that this format cannot say so.
            The connection is then broken, so that the response does not look complete.
        """
        return b""

    def failure(self, problem: Problem, position: str | None) -> bytes:
        """The bytes to send when the stream failed before its end.

        Args:
            problem: what a reader may know about the error. It names no host, no key and no details
                of the run.
            position: the position to resume after; None if reconnecting would not help.

        Returns:
            The last frame. `b""` means that this format cannot express errors; the connection is
            then broken.
        """
        return b""

    def take(self) -> Self:
        """Claim this object for a relay. Raises InvalidArgumentError if another relay has it."""
        if self._taken:
            raise errors.InvalidArgumentError(
                "a format belongs to one relay; make one for each", argument="format"
            )
        self._taken = True
        return self


def as_bytes(shown: Any) -> bytes:
    """The bytes to send: an event's as they arrived, text as UTF-8, anything else as JSON.

    Raises:
        InvalidArgumentError: it cannot be encoded as JSON.
    """
    if isinstance(shown, KeepsRaw):
        return shown.raw if is_sound(shown) else named(shown.raw)
    if isinstance(shown, str):
        return shown.encode("utf-8", "replace")
    if isinstance(shown, bytes | bytearray | memoryview):
        return bytes(shown)
    return encode(shown, "map")


# A string, even without an end, or Python's text for a number that JSON cannot express.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|-?(?:NaN|Infinity)', re.DOTALL)


def named(data: bytes) -> bytes:
    """`data`, with null for NaN and the infinities, which browsers refuse."""
    if b"NaN" not in data and b"Infinity" not in data:
        return data
    return _TOKEN.sub(lambda found: found[0] if found[0][:1] == b'"' else b"null", data)


def breaks(data: bytes) -> bool:
    """Whether `data` contains a line break."""
    return _LF in data or _CR in data


def with_breaks_as(by: bytes, data: bytes) -> bytes:
    """`data` with each line break replaced by `by`."""
    return _LINE_END.sub(by, data) if breaks(data) else data


def unfit(shown: Any, format: str, wanted: str) -> errors.InvalidArgumentError:
    """The error for a value that a format cannot express."""
    return errors.InvalidArgumentError(
        f"with format={format!r}, what is shown of an event must be {wanted}, not "
        f"{type(shown).__name__}",
        argument="map",
    )
