"""The options of `serve` that inject faults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from dynamiq_async.cli import inputs
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from dynamiq_async.emulator import Emulator, Fault

_HELP = """\
In a file, `seed = 7` comes first, of all probabilities (by default 0), and each fault begins with \
`[[fault]]`. A request meets the first that is due; `--fault` goes before the file. A page at \
`/_ui` switches those of a file.

| field | what it says |
|---|---|
| `route` | only requests like "POST /v1/runs" or "/v1/runs*", by the path within the App |
| `app` | only those for the App of this name |
| `nth` | which of them: 3 is the third; [1, 3] |
| `every` | each such one: 5 is the fifth, the tenth, … |
| `probability` | from 0 to 1: how likely each of them meets the fault |
| `times` | how many do at most |
| `name`, `enabled` | for people; false: it can be switched on later |
| `delay` | seconds before the response ("forever" is without end) |
| `status`, `headers`, `body` | a response in place of the service's own; headers alone are added |
| `executes` | true: the App runs before that; "begins": it only begins |
| `after_events`, `at_byte` | a position of the body, for the next three |
| `send` | text that is put in; `{hex = "ff"}` for bytes |
| `stall` | seconds of silence |
| `drop` | "reset", "close" or "truncate"; without a position, before the response |
| `terminator` | seconds before the end of the body; "missing": it has none |
| `framing`, `write_size` | "chunked", "length" or "close"; bytes of each write |
| `skip`, `duplicate`, `swap` | lists of events: left out, sent twice, later by one |
| `replay` | so many events before `after_sequence` come again |
| `ignore_after_sequence` | true: the stream begins with the first event |
"""

FAULTS = Group("Faults", help=_HELP, sort_key=20)


@Parameter(name="*", group=FAULTS)
@dataclass(frozen=True)
class Faults:
    """Faults to inject."""

    fault: Annotated[
        tuple[str, ...],
        Parameter(
            help="What happens to requests, as JSON with the fields of "
            "`dynamiq_async.emulator.Fault`; `{}` is nothing. Repeated: one request after "
            "another meets them, again and again."
        ),
    ] = ()
    fault_match: Annotated[
        str | None, Parameter(help='Only requests like "POST /" or "/v1/runs*" meet --fault.')
    ] = None
    faults: Annotated[
        Path | None, Parameter(help="A TOML file of faults, with the fields above.")
    ] = None

    def load(self, emulator: Emulator) -> None:
        """Give the emulator these faults. Raises `InvalidArgumentError` if one is wrong."""
        if self.fault:
            emulator.script(*map(_read_fault, self.fault), match=self.fault_match, times=None)
        if self.faults is not None:
            try:
                emulator.faults.load(self.faults)
            except (OSError, ValueError) as error:
                raise InvalidArgumentError(f"--faults: {error}", argument="faults") from error


NO_FAULTS = Faults()


def _read_fault(given: str) -> Fault:
    from dynamiq_async.emulator import read_fault

    value = inputs.read_json(given, "fault")
    try:
        return read_fault(value)
    except ValueError as error:
        raise InvalidArgumentError(f"{given} is not a fault: {error}", argument="fault") from error
