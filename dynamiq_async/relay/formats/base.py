"""What a format is, and what it may know of the relay that it works for."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from dynamiq_async import errors
from dynamiq_async._json import KeepsRaw, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async.relay.problems import EndKind, Problem
    from dynamiq_async.relay.upstream import Upstream

_LINE_END = re.compile(rb"\r\n|\r|\n")
_LF, _CR = b"\n\r"

OnShutdown = Literal["frame", "abort"]


class Context:
    """What a format may know of the relay that it works for, as of the moment it asks.

    Attributes:
        event: the event that is being shown, or was last. With a `map`, the format is given what
            that returned, and this is what it was called with. None before the first event.
        ended: whether the stream has come to its end, so that nothing follows.
        heartbeat: seconds of silence after which the format's `heartbeat` is sent; None for never.
        retry: seconds after which a reader that lost its connection is to come back; None leaves
            it to the reader.
        restarts: whether a reader that comes back would start it all again, rather than go on
            where it was: true but for streams that follow a run.
    """

    __slots__ = ("_start", "_upstream", "ended", "event", "heartbeat", "restarts", "retry")

    def __init__(self, upstream: Upstream, *, heartbeat: float | None, retry: float | None) -> None:
        self._upstream = upstream
        self._start = upstream.start  # now, because it moves with what is read
        self.event: Any = None
        self.ended = False
        self.heartbeat = heartbeat
        self.retry = retry
        self.restarts = upstream.restarts

    @property
    def run_id(self) -> str | None:
        """The id of the run whose events these are, once it is known. Each relay of the same run
        has the same, so that ids made of it and of an event's place are the same in a replay."""
        return self._upstream.run_id

    @property
    def position(self) -> str | None:
        """What a reader that has `event`, and all before it, sends to get what follows; at the
        end, what says that it has it all. None where there is nothing to go on with."""
        if self.ended:
            return self._upstream.end
        if self.event is None:
            return self._start
        return self._upstream.position_of(self.event)


class Format(ABC):
    """How a stream becomes the bytes of a response.

    A format does no I/O. The relay calls `opening`, then `event` for one event after the other,
    then `end` or `failure`, and sends what they return in this order. It may be ahead of the
    reader, and when that leaves, the last call never comes. An object belongs to one relay, since
    what it remembers is of one reader.

    What any of the methods raises is a mistake of the backend's own.

    Attributes:
        media_type: the response's content type.
        headers: more headers for it.
        heartbeat: what may be sent between any two frames and means nothing; `b""` if the format
            has no such thing.
        on_shutdown: how a response ends when the server that sends it has to stop (see
            `Relay.shut_down`): "frame" for what `failure` returns and a proper end of the body,
            "abort" for a broken connection, where that makes readers come back.
    """

    media_type: str
    headers: Mapping[str, str] = MappingProxyType({})
    heartbeat: bytes = b""
    on_shutdown: OnShutdown = "frame"
    _taken = False

    def opening(self, context: Context) -> bytes:
        """What is sent before the first event comes.

        Args:
            context: what may be known. Keep it: it says more later.
        """
        return b""

    @abstractmethod
    def event(self, event: Any) -> bytes:
        """The frame of an event.

        Args:
            event: an event of the stream or, with a `map`, what that returned for it, which may
                be anything but None.

        Returns:
            The frame, or `b""` if there is nothing to show.

        Raises:
            InvalidArgumentError: it cannot be shown in this format.
        """

    def end(self, kind: EndKind) -> bytes:
        """What is sent at the stream's end.

        Args:
            kind: how the run ended: "completed", "failed" or "canceled".

        Returns:
            The last frame. When a run did not complete, `b""` says that this format cannot tell:
            then the connection is broken, so that nobody takes what was sent for whole.
        """
        return b""

    def failure(self, problem: Problem, position: str | None) -> bytes:
        """What is sent in place of the end, when the stream broke before it.

        Args:
            problem: what a reader may know of it. It names no host, no key and nothing of the run.
            position: what to go on behind; None where coming back would be no use.

        Returns:
            The last frame. `b""` says that this format cannot tell: the connection is broken.
        """
        return b""

    def take(self) -> Self:
        """Have it for a relay. Raises InvalidArgumentError if another relay has it."""
        if self._taken:
            raise errors.InvalidArgumentError(
                "a format belongs to one relay; make one for each", argument="format"
            )
        self._taken = True
        return self


def as_bytes(shown: Any) -> bytes:
    """An event as it came, text as UTF-8, bytes as they are, and anything else as JSON.

    Raises:
        InvalidArgumentError: it cannot be encoded as JSON.
    """
    if isinstance(shown, KeepsRaw):
        return shown.raw
    if isinstance(shown, str):
        return shown.encode("utf-8", "replace")
    if isinstance(shown, bytes | bytearray | memoryview):
        return bytes(shown)
    return encode(shown, "map")


def breaks(data: bytes) -> bool:
    """Whether there is a line break in it."""
    return _LF in data or _CR in data


def with_breaks_as(by: bytes, data: bytes) -> bytes:
    """`data` with `by` in place of each line break."""
    return _LINE_END.sub(by, data) if breaks(data) else data


def unfit(shown: Any, format: str, wanted: str) -> errors.InvalidArgumentError:
    """The error for what a format cannot show."""
    return errors.InvalidArgumentError(
        f"with format={format!r}, what is shown of an event must be {wanted}, not "
        f"{type(shown).__name__}",
        argument="map",
    )
