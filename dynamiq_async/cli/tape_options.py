"""The options of `serve` that record a real App, or replay a tape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from dynamiq_async.emulator import TapeServer

TAPES = Group("Tapes", sort_key=21)


@Parameter(name="*", group=TAPES)
@dataclass(frozen=True)
class Tapes:
    """A real App recorded, or replayed from a tape."""

    record: Annotated[
        str | None, Parameter(help="Pass requests on to the App with this URL, and record them.")
    ] = None
    to: Annotated[Path | None, Parameter(help="The tape to record to, a new file.")] = None
    mask: Annotated[
        tuple[str, ...],
        Parameter(help="A field whose values are kept off the tape, like keys are. Repeatable."),
    ] = ()
    replay: Annotated[
        Path | None, Parameter(help="Respond as this tape says, in place of the emulator.")
    ] = None
    speed: Annotated[
        float,
        Parameter(help="How much faster to replay; `inf`: without waiting. [default: 1]"),
    ] = 1.0

    def server(self, host: str, port: int) -> TapeServer | None:
        """What is asked for, if anything."""
        from dynamiq_async.emulator import Player, Recorder, TapeError

        if (self.record is None) != (self.to is None):
            raise InvalidArgumentError("--record and --to go together", argument="record")
        try:
            if self.record is not None and self.to is not None:
                return Recorder(self.record, self.to, mask=self.mask, host=host, port=port)
            if self.replay is not None:
                return Player(self.replay, speed=self.speed, host=host, port=port)
        except (ValueError, TapeError) as error:
            raise InvalidArgumentError(str(error), argument="tape") from error
        return None


NO_TAPES = Tapes()
