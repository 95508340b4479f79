"""Measure the SDK side by side with a bound and with its peers.

python -m benchmarks [--quick] [--only NAME]… [--uvloop] [--json FILE] [--report]
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks import _report
from benchmarks._loops import runners
from benchmarks._measure import Settings
from benchmarks._results import Machine, Results
from benchmarks._server import serving

if TYPE_CHECKING:
    from collections.abc import Sequence

AREAS = (
    "decoder",
    "streams",
    "slow",
    "invoke",
    "batch",
    "jobs",
    "frames",
    "relay",
    "formats",
    "scaling",
    "memory",
    "imports",
    "emulator",
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(f"{name:9} {_about(name)}" for name in areas()))
        return
    if options.load:
        results = msgspec.json.decode(Path(options.load).read_bytes(), type=Results)
    else:
        results = measure(options.only, quick=options.quick, uvloop=options.uvloop)
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    print(_report.goals_text(results))
    if options.report:
        _report.write(results, Path(__file__).parent)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="only prove that everything works; no figures")
    add("--only", action="append", choices=AREAS, help="one area; may be given several times")
    add("--list", action="store_true", help="name the areas")
    add("--uvloop", action="store_true", help="on uvloop's event loop only; default is both")
    add("--json", metavar="FILE", help="write all samples")
    add("--load", metavar="FILE", help="take the results from such a file; measure nothing")
    add("--report", action="store_true", help="write RESULTS.md and results.svg, of a full run")
    return parser


def areas() -> list[str]:
    here = Path(__file__).parent
    return [name for name in AREAS if (here / f"{name}.py").exists()]


def _about(name: str) -> str:
    module = importlib.import_module(f"benchmarks.{name}")
    return " ".join((module.__doc__ or "").partition("\n\n")[0].split())


def measure(only: Sequence[str] | None, *, quick: bool, uvloop: bool) -> Results:
    chosen = [name for name in areas() if not only or name in only]
    results = Results(Machine.here(), complete=not (quick or only or uvloop))
    print(_report.machine_text(results.machine), end="\n\n")
    with serving() as url, runners(only_uvloop=uvloop) as loops:
        settings = Settings(quick, url, loops)
        for name in chosen:
            started = time.perf_counter()
            for comparison in importlib.import_module(f"benchmarks.{name}").run(settings):
                results.comparisons.append(comparison)
                print(_report.line(comparison), flush=True)
            print(f"-- {name}: {time.perf_counter() - started:.0f} s\n", flush=True)
    return results


if __name__ == "__main__":
    main()
