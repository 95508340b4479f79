"""A browser's position in a run's stream, and how to resume the stream after it.

Each frame of a relayed run has an `id:` line, `<run id>:<sequence>`. A browser's `EventSource`
that loses its connection reconnects by itself and sends the last id as `Last-Event-ID`. The id of
the final frame ends in `:end`: a browser that reconnects with it has received the whole stream, so
the relay responds with 204, which tells an `EventSource` not to reconnect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from dynamiq_async import errors
from dynamiq_async.options import check_id
from dynamiq_async.relay.problems import POSITION_HEADER

if TYPE_CHECKING:
    from dynamiq_async.runs.runs import Runs
    from dynamiq_async.runs.stream import RunStream

NO_POSITION = "-"
"""The id of frames of a stream that cannot be resumed. A browser that reconnects with it would make
the App run a second time, so a relay responds with 204."""

_RUN_ID = re.compile(r"[\w.~-]{1,200}", re.ASCII)
_POSITION = re.compile(r"(?P<run>[\w.~-]{1,200}):(?P<sequence>[0-9]{1,18})(?P<end>:end)?", re.ASCII)


@runtime_checkable
class _HasItems(Protocol):
    """Headers of any framework, even if they are not a `Mapping`."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Names with their values."""


Headers = _HasItems | Iterable[tuple[str | bytes, str | bytes]]
"""The headers of a request: those of any framework, or the pairs of an ASGI scope."""


class Position(NamedTuple):
    """A place in a run's stream.

    Attributes:
        run_id: the run. It comes from the browser: check that this user may read it.
        after_sequence: the sequence number of the last event that arrived; 0 for none.
        finished: whether that was the stream's end.
    """

    run_id: str
    after_sequence: int
    finished: bool = False

    def __str__(self) -> str:
        return f"{self.run_id}:{self.after_sequence}{':end' if self.finished else ''}"


def resume_position(headers: Headers) -> Position | None:
    """The position in a run's stream that a browser wants to resume after; None if it sends none.

    The browser chooses the run id in it: check that this user may read that run, or use `resume`,
    which takes the run id from you.

    Args:
        headers: the headers of the browser's request, as the framework has them: an object with
            `items()`, or pairs of names and values.

    Raises:
        InvalidArgumentError: the header is not a position; respond with 400. The error's `argument`
            is "Last-Event-ID".
    """
    value = last_event_id(headers)
    if not value:
        return None
    position = parse(value)
    if position is None:
        raise errors.InvalidArgumentError(
            f"{POSITION_HEADER} is no position in a run's stream, which looks like 'run-id:12'",
            argument=POSITION_HEADER,
        )
    return position


def resume(runs: Runs, run_id: str, headers: Headers, **options: Any) -> RunStream[Any]:
    """The stream of a run after the position in the browser's `Last-Event-ID`, or from the run's
    beginning if the browser sends none.

    Args:
        runs: `app.runs`.
        run_id: the run; check first that this user may read it.
        headers: the headers of the browser's request.
        options: the options of `Runs.follow`. `after_sequence` is used only if the browser sends no
            position.

    Raises:
        InvalidArgumentError: the header is not a position, or is a position of another run; the
            error's `argument` is "Last-Event-ID". Or the run id is not valid; the `argument` is
            "run_id". Respond with 400 in both cases.
    """
    check_id(run_id, "run_id")
    position = resume_position(headers)
    if position is None:
        return runs.follow(run_id, **options)
    if position.run_id != run_id:
        raise errors.InvalidArgumentError(
            f"{POSITION_HEADER} is a position of another run than the one asked for",
            argument=POSITION_HEADER,
        )
    return runs.follow(run_id, **{**options, "after_sequence": position.after_sequence})


def last_event_id(headers: Headers) -> str:
    """The value of the `Last-Event-ID` header, or `""`."""
    wanted = POSITION_HEADER.lower()
    pairs = headers.items() if isinstance(headers, _HasItems) else headers
    return next(
        (_text(value) for name, value in pairs if _text(name).lower() == wanted), ""
    ).strip()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def parse(value: str) -> Position | None:
    """`value` as a position; None if it is not one."""
    match = _POSITION.fullmatch(value)
    if match is None:
        return None
    return Position(match["run"], int(match["sequence"]), match["end"] is not None)


@lru_cache
def can_be_told(run_id: str) -> bool:
    """Whether positions of this run can be sent in a header and parsed again."""
    return _RUN_ID.fullmatch(run_id) is not None
