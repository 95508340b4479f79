"""Where a browser stands in a run's stream, and how it gets from there to the end.

Each frame of a relayed run has an `id:` line, `<run id>:<sequence>`. A browser's `EventSource`
that loses its connection makes a new one by itself and sends the last of them as `Last-Event-ID`.
The id of the last frame of all ends in `:end`: a browser that comes back with that one has it all,
and a relay responds with 204, which is how an `EventSource` is told to come no more.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamiq_async import errors
from dynamiq_async.relay.problems import POSITION_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async.runs.runs import Runs
    from dynamiq_async.runs.stream import RunStream

NO_POSITION = "-"
"""The id of frames that nothing can be resumed behind. A browser that comes back with it would
have the App run a second time, so a relay responds with 204."""

_RUN_ID = re.compile(r"[\w.~-]{1,200}", re.ASCII)
_POSITION = re.compile(r"(?P<run>[\w.~-]{1,200}):(?P<sequence>[0-9]{1,18})(?P<end>:end)?", re.ASCII)


class Position(NamedTuple):
    """A place in a run's stream.

    Attributes:
        run_id: the run. It comes from the browser: see that it is the user's own.
        after_sequence: of the last event that arrived, 0 for none.
        finished: whether that was the end, so that nothing follows.
    """

    run_id: str
    after_sequence: int
    finished: bool = False

    def __str__(self) -> str:
        return f"{self.run_id}:{self.after_sequence}{':end' if self.finished else ''}"


def resume_position(headers: Mapping[str, str]) -> Position | None:
    """The place in a run's stream that a browser asks to go on behind; None if it asks for none.

    Whoever sends the request chooses the run in it: check that this user may read it, or use
    `resume`, which takes the run from you.

    Args:
        headers: those of the browser's request, in whatever mapping the framework has.

    Raises:
        InvalidArgumentError: the header holds something else; respond with 400. Its `argument` is
            "Last-Event-ID".
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


def resume(runs: Runs, run_id: str, headers: Mapping[str, str], **options: Any) -> RunStream[Any]:
    """The stream of a run, from where this browser stands: from its beginning, or behind the
    position in its `Last-Event-ID`.

    Args:
        runs: `app.runs`.
        run_id: the run, which you know to be this user's.
        headers: those of the browser's request.
        options: those of `Runs.follow`; its `after_sequence` is for browsers that send no position.

    Raises:
        InvalidArgumentError: the header holds no position, or one of another run; respond with
            400. Its `argument` is "Last-Event-ID".
    """
    position = resume_position(headers)
    if position is None:
        return runs.follow(run_id, **options)
    if position.run_id != run_id:
        raise errors.InvalidArgumentError(
            f"{POSITION_HEADER} is a position of another run than the one asked for",
            argument=POSITION_HEADER,
        )
    return runs.follow(run_id, **{**options, "after_sequence": position.after_sequence})


def last_event_id(headers: Mapping[str, str]) -> str:
    """The header's value, or `""`."""
    wanted = POSITION_HEADER.lower()
    return next((value for name, value in headers.items() if name.lower() == wanted), "").strip()


def parse(value: str) -> Position | None:
    """The position that `value` says, or None."""
    match = _POSITION.fullmatch(value)
    if match is None:
        return None
    return Position(match["run"], int(match["sequence"]), match["end"] is not None)


@lru_cache
def can_be_told(run_id: str) -> bool:
    """Whether a run of this id has positions that come back as they were sent."""
    return _RUN_ID.fullmatch(run_id) is not None
