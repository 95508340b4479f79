"""`serve --record` and `serve --replay`: record a real App on a tape, and replay the tape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from dynamiq_async.cli import output
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from dynamiq_async.emulator import Player, Recorder
    from dynamiq_async.emulator.tape import Serving

TAPES = Group("Tapes", sort_key=21)

_SHOWN = 20  # how many requests of a tape are listed


@Parameter(name="*", group=TAPES)
@dataclass(frozen=True)
class Tapes:
    """Records a real App, or replays a tape of it."""

    record: Annotated[
        str | None,
        Parameter(help="Pass requests on to the App with this URL, and record what passes."),
    ] = None
    to: Annotated[Path | None, Parameter(help="The tape to record to: a new file.")] = None
    mask: Annotated[
        tuple[str, ...],
        Parameter(help="A field to mask on the tape, as keys and cookies are. Repeatable."),
    ] = ()
    replay: Annotated[Path | None, Parameter(help="Replay this tape instead of emulating.")] = None
    speed: Annotated[
        float | None,
        Parameter(
            validator=Number(gt=0),
            help="How much faster to replay than it was recorded; `inf`: without waiting. "
            "[default: 1]",
        ),
    ] = None
    ignore: Annotated[
        tuple[str, ...],
        Parameter(help="A field that may differ from the replayed tape. Repeatable."),
    ] = ()

    def server(self, serving: Serving) -> Recorder | Player | None:
        """The recorder or player that the options ask for, if any."""
        from dynamiq_async.emulator import Player, Recorder, TapeError

        self._check()
        try:
            if self.record is not None and self.to is not None:
                return Recorder(self.record, self.to, mask=self.mask, **serving)
            if self.replay is not None:
                speed = 1.0 if self.speed is None else self.speed
                return Player(self.replay, speed=speed, ignore=self.ignore, **serving)
        except (ValueError, TapeError) as error:
            argument = "record" if self.record else "replay"
            raise InvalidArgumentError(str(error), argument=argument) from error
        return None

    def _check(self) -> None:
        """Refuse options that exclude each other, and a tape that already exists."""
        recorded, replayed = self.record is not None, self.replay is not None
        for said, argument, message in (
            (recorded and replayed, "replay", "--record and --replay exclude each other"),
            (recorded and self.to is None, "record", "--record and --to go together"),
            (self.to is not None and not recorded, "to", "--record and --to go together"),
            (bool(self.mask) and not recorded, "mask", "--mask goes with --record"),
            (self.speed is not None and not replayed, "speed", "--speed goes with --replay"),
            (bool(self.ignore) and not replayed, "ignore", "--ignore goes with --replay"),
        ):
            if said:
                raise InvalidArgumentError(message, argument=argument)
        if self.to is not None and self.to.exists():
            message = f"{self.to} is there already, and no tape is written over"
            raise InvalidArgumentError(message, argument="to")


NO_TAPES = Tapes()


def introduce(tape: Recorder | Player, console: Console) -> None:
    """Print the address, what the tape holds or will hold, and how to use it."""
    from dynamiq_async.emulator import Player

    def say(text: str, style: str = "") -> None:
        console.print(output.visible(text), style=style, soft_wrap=True)

    if isinstance(tape, Player):
        count = len(tape.exchanges)
        say(f"The tape plays at {tape.url}", "bold")
        say(f"  {_requests(count)} of {tape.header.app}, recorded {tape.header.recorded_at}")
        for line in _listing(tape):
            say(f"  {line}", "dim")
        key = f" DYNAMIQ_ACCESS_KEY={tape.access_key}"
    else:
        say(f"The recorder runs at {tape.url}", "bold")
        say(f"  {tape.app} is recorded to {tape.path}")
        masked = ", ".join(("keys, cookies, signatures of links", *tape.masked))
        say(f"  kept off the tape: {masked}")
        key = ""
        say("Use it in the App's place, with the App's own key:")
    say(f"  export DYNAMIQ_APP_URL={tape.url}{key}")
    console.print("\nCtrl-C stops it.\n", style="dim")


def conclude(tape: Recorder | Player) -> str:
    """The last message."""
    from dynamiq_async.emulator import Player

    if isinstance(tape, Player):
        unknown = len(tape.unknown)
        return f"stopped; the tape did not know {_requests(unknown)}" if unknown else "stopped"
    return f"stopped; {_requests(tape.recorded)} on {tape.path}"


def remarks(tape: Recorder | Player) -> Sequence[str]:
    """What went wrong with each request, in the order of the requests."""
    from dynamiq_async.emulator import Player

    return tape.unknown if isinstance(tape, Player) else tape.problems


def _requests(count: int) -> str:
    return f"{count} request{'s' * (count != 1)}"


def _listing(tape: Player) -> Iterator[str]:
    for exchange in tape.exchanges[:_SHOWN]:
        status = exchange.response.status if exchange.response else "no response"
        how = "" if exchange.end.how == "whole" else f"  {exchange.end.how}"
        request = exchange.request
        yield f"{exchange.number:>3}  {request.method}  {request.path}  {status}{how}"
    if len(tape.exchanges) > _SHOWN:
        yield f"and {len(tape.exchanges) - _SHOWN} more"
