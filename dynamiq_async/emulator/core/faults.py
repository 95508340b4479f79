"""What may go wrong, as data: one `Fault` is what happens to one request.

A fault combines a few independent things: what happens before the answer (`delay`, `status`, a
`drop` without a position), what happens at one position of its body (`send`, `stall`, `drop` at
`after_events` or `at_byte`), how it ends (`terminator`), how it is cut up (`framing`,
`write_size`), and which events a stream holds (`skip`, `duplicate`, `swap`, `replay`,
`ignore_after_sequence`). `Script` hands out the faults, one for each matching request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from ..app.messages import encode

if TYPE_CHECKING:
    from .log import RequestRecord

_PHRASES = {status.value: status.phrase for status in HTTPStatus}

FOREVER = math.inf
"""For `stall`, `delay` and `terminator`: until the client leaves or the emulator is closed."""

HTML_PAGE = b"""<!DOCTYPE html>
<html><head><title>Bad Gateway</title></head>
<body><center><h1>Bad Gateway</h1></center><hr><center>proxy</center></body></html>
"""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request. Without arguments: nothing.

    Before the answer:
        delay: seconds before the first byte of the answer.
        status, headers, body: answered in place of the App. `body` is bytes, text, or anything
            that becomes JSON; without it an error envelope is made up. `headers` alone are added
            to (or replace) those of the App's own answer.
        executes: the App runs, to its end, before `status`, `body` or a `drop` takes its answer's
            place: the outcome that a client cannot know.

    At one position of the body, in this order (`after_events` counts whole SSE events, `at_byte`
    bytes of the body without its transfer coding; 0 is behind the headers):
        send: bytes that are put in there.
        stall: seconds without a byte.
        drop: the connection goes, and with it a run of the root endpoint (which may be ahead of
            its stream, or over). "close": the clean end of the TCP connection, without the end
            that HTTP asks for. "reset": RST. "truncate": like close, in the middle of a chunk
            that announced more. Without a position: before the first byte of the answer.

    At the end:
        terminator: seconds by which the end of the body (its last chunk) comes after its last
            byte; "missing": the connection is closed in its place.

    How the bytes travel:
        framing: "chunked" (what streams do by themselves), "length" (the whole body is made
            before it is sent, with a Content-Length), "close" (the body ends with the connection).
        write_size: the body is re-cut into writes of so many bytes, whatever the events. Each
            write is a chunk of its own where chunks are used.

    Which events a stream holds, by sequence number (on the root endpoint: 1 for the first):
        skip: they are left out of this answer (also out of a page of `/events`).
        duplicate: they are sent twice.
        swap: they change places with the event after them.
        replay: so many events before `after_sequence` are sent again.
        ignore_after_sequence: the stream starts with the first event.
    """

    delay: float = 0.0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    executes: bool = False

    after_events: int | None = None
    at_byte: int | None = None
    send: bytes = b""
    stall: float = 0.0
    drop: Literal["reset", "close", "truncate"] | None = None

    terminator: float | Literal["missing"] = 0.0
    framing: Literal["chunked", "length", "close"] | None = None
    write_size: int | None = None

    skip: Collection[int] = ()
    duplicate: Collection[int] = ()
    swap: Collection[int] = ()
    replay: int = 0
    ignore_after_sequence: bool = False

    def __post_init__(self) -> None:
        acts = bool(self.send or self.stall or self.drop)
        if self.after_events is not None and self.at_byte is not None:
            raise ValueError("a fault has one position: after_events or at_byte")
        if self.positioned and not acts:
            raise ValueError("nothing happens at the position: give send, stall or drop")
        if not self.positioned and (self.send or self.stall):
            raise ValueError("send and stall need a position (before the answer: delay)")
        if not self.positioned and self.drop == "truncate":
            raise ValueError("truncate cuts a body: give after_events or at_byte")
        if self.write_size is not None and self.write_size < 1:
            raise ValueError("write_size is a number of bytes, at least 1")

    @classmethod
    def html_page(cls, status: int = 502, **more: Any) -> Fault:
        """A proxy's page in HTML instead of the App's answer."""
        headers = {"Content-Type": "text/html; charset=utf-8"}
        return cls(status=status, headers=headers, body=HTML_PAGE, **more)

    @property
    def positioned(self) -> bool:
        """Whether something happens within the body."""
        return self.after_events is not None or self.at_byte is not None

    @property
    def replaces_answer(self) -> bool:
        """Whether the client sees nothing of the App's own answer."""
        dropped = self.drop is not None and not self.positioned
        return dropped or self.status is not None or self.body is not None

    def answer(self) -> tuple[int, str, bytes]:
        """The status, content type and body that replace the App's answer."""
        status = self.status or 200
        if isinstance(self.body, bytes):
            return status, "application/octet-stream", self.body
        if isinstance(self.body, str):
            return status, "text/plain; charset=utf-8", self.body.encode()
        body = self.body
        if body is None:
            code = _PHRASES.get(status, "error").lower().replace(" ", "_")
            body = {"error": {"code": code, "message": f"the emulator was told to answer {status}"}}
        return status, "application/json", encode(body)


NO_FAULT = Fault()

Match = str | Callable[["RequestRecord"], bool] | None


def matches(match: Match, record: RequestRecord) -> bool:
    """Whether `record` is meant by `match`, as described at `Emulator.script`."""
    if match is None:
        return True
    if callable(match):
        return match(record)
    method, _, pattern = match.rpartition(" ")
    return method in ("", record.method) and fnmatchcase(record.endpoint, pattern)


@dataclass(eq=False)
class _Act:
    match: Match
    faults: list[Fault]
    rounds: float  # that are still to be played, this one included
    position: int = 0

    def advance(self) -> Fault:
        fault = self.faults[self.position]
        self.position += 1
        if self.position == len(self.faults):
            self.position = 0
            self.rounds -= 1
        return fault


class Script:
    """The faults to come, in the order in which they were scripted."""

    def __init__(self) -> None:
        self._acts: list[_Act] = []

    def add(self, faults: Collection[Fault], match: Match, times: int | None) -> None:
        """Play `faults` `times` times (None: for ever) for the requests that match."""
        if not faults or (times is not None and times < 1):
            raise ValueError("a script needs at least one fault, played at least once")
        self._acts.append(_Act(match, list(faults), math.inf if times is None else times))

    def take(self, record: RequestRecord) -> Fault:
        """The fault for this request: from the oldest script that matches it."""
        for act in self._acts:
            if matches(act.match, record):
                fault = act.advance()
                if not act.rounds:
                    self._acts.remove(act)
                return fault
        return NO_FAULT

    @property
    def pending(self) -> int:
        """How many scripted faults are still to happen; those without an end do not count."""
        finite = [act for act in self._acts if act.rounds != math.inf]
        return sum(int(act.rounds) * len(act.faults) - act.position for act in finite)

    def clear(self) -> None:
        """Forget all of it."""
        self._acts.clear()
