"""`serve`: the emulator as a command, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter
from cyclopts.validators import Number

from dynamiq_async.cli import app_sources, output, tapes
from dynamiq_async.cli.fault_options import NO_FAULTS, Faults
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from dynamiq_async.emulator import Emulator, Player, Recorder, RequestRecord

_ONLY_A_TAPE = "a tape has no App, faults, database, projects or inspector of its own"
_SHORTEST_PATH = 16
_INPUT = '{"question": "What can you do?"}'


def serve(
    app: Annotated[
        tuple[str, ...],
        Parameter(
            help="The App at the root: a built-in one; `module:function`, your own; "
            "`module:workflow` or a YAML file, a workflow of the vendor's library. With a name, "
            "like `support=module:function`, an App beside it, at /support and at "
            "support.localhost. Repeatable. [default: llm]"
        ),
    ] = (),
    *,
    host: Annotated[str, Parameter(help="The address to listen at.")] = "127.0.0.1",
    allow_host: Annotated[
        tuple[str, ...],
        Parameter(
            help="A hostname by which other machines reach it. Without one, any hostname is "
            "served if --host is not a loopback address. Repeatable."
        ),
    ] = (),
    allow_origin: Annotated[
        tuple[str, ...],
        Parameter(
            help="Web pages that may call it, like `https://shop.example`, or `*` for any. Those "
            "of this machine always may. Repeatable."
        ),
    ] = (),
    port: Annotated[
        int,
        Parameter(
            validator=Number(gte=0, lte=65535), help="The port; 0 is any free one. [default: 8787]"
        ),
    ] = 8787,
    access_key: Annotated[
        str | None,
        Parameter(help="The key that clients must send. Make one up: do not use a real key."),
    ] = None,
    public: Annotated[bool, Parameter(help="Take requests without a key.")] = False,
    pace: Annotated[
        float,
        Parameter(
            validator=Number(gte=0), help="Seconds between the events of a run. [default: 0.05]"
        ),
    ] = 0.05,
    allow_loopback_callbacks: Annotated[
        bool, Parameter(help="Post callbacks to this machine too, over http.")
    ] = False,
    quiet: Annotated[bool, Parameter(help="Do not show the requests.")] = False,
    db: Annotated[
        Path | None,
        Parameter(
            help="A file that keeps runs, their events, files and history over restarts; made if "
            "it is not there. Runs that were at work go on."
        ),
    ] = None,
    project: Annotated[
        tuple[str, ...],
        Parameter(
            help="A project beside the default one, with the names of its Apps, like "
            "`Finance=billing,ledger`. They want its own access key. Repeatable."
        ),
    ] = (),
    faults: Faults = NO_FAULTS,
    tape: tapes.Tapes = tapes.NO_TAPES,
    inspector: Annotated[
        bool | None,
        Parameter(
            negative="--no-inspector",
            help="Have a page at `/_ui` that shows what happens, answers questions, cancels runs "
            "and switches faults. By default where only this machine can reach the emulator; "
            "asked for, whoever can call it may use the page.",
        ),
    ] = None,
) -> None:
    """Emulate the whole service on this machine, until Ctrl-C.

    The built-in Apps are `echo`, `llm`, `agent`, `parallel`, `failing`, `canceled`, `approval`
    and `feedback`. Each is also at a path with its name, whatever App is at the root.

    A workflow of the vendor's library is served with the whole API: streams, runs, questions,
    files, the WebSocket. That needs the extra `dynamiq`, in a separate environment.

    ```
    dynamiq-async serve
    dynamiq-async serve my_package.apps:support --port 0 --public
    dynamiq-async serve my_package.flows:workflow
    dynamiq-async serve support=my_package.apps:support billing=my_package.apps:billing
    dynamiq-async serve agent --fault '{"after_events": 3, "drop": "reset"}'
    dynamiq-async serve agent --db emulator.db
    dynamiq-async serve --record https://my-app.example --to tape.jsonl --mask email
    dynamiq-async serve --replay tape.jsonl --speed 10
    dynamiq-async serve agent --faults faults.toml
    ```
    """
    from dynamiq_async.emulator import DEFAULT_KEY

    console = output.console()
    taped = tape.server(
        {"host": host, "port": port, "allow_hosts": allow_host, "allow_origins": allow_origin}
    )
    if taped is not None:
        if app or faults != NO_FAULTS or db or project or inspector is not None:
            raise InvalidArgumentError(_ONLY_A_TAPE, argument="app")
        _serve_tape(taped, console, quiet=quiet)
        return
    key = None if public else access_key or DEFAULT_KEY
    found = app_sources.find_apps(app, "llm")
    emulator = app_sources.made(
        found,
        access_key=key,
        host=host,
        allow_hosts=allow_host,
        allow_origins=allow_origin,
        port=port,
        pace=pace,
        allow_loopback_callbacks=allow_loopback_callbacks,
        db=db,
        inspector=inspector,
        projects=app_sources.find_projects(project),
    )
    faults.load(emulator)

    async def run() -> None:
        _stop_on_sigterm()
        async with emulator:
            _introduce(emulator, found, console)
            if quiet:
                await asyncio.Event().wait()
            await _log_requests(emulator, console)

    try:
        asyncio.run(run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("stopped")
    if found.has_workflow:
        _leave()


def _serve_tape(tape: Recorder | Player, console: Console, *, quiet: bool) -> None:
    async def run() -> None:
        _stop_on_sigterm()
        async with tape:
            tapes.introduce(tape, console)
            if quiet:
                await asyncio.Event().wait()
            await _log_requests(tape, console, tapes.remarks(tape))

    try:
        asyncio.run(run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print(tapes.conclude(tape), soft_wrap=True)


def _leave() -> None:
    """Exit at once. Otherwise the interpreter would wait for the library's threads: some seconds
    for idle ones, and longer for a node that is running."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _stop_on_sigterm() -> None:
    """Let SIGTERM end the emulator cleanly, as Ctrl-C does."""
    if sys.platform != "win32":  # pragma: no branch - its event loops take no signals
        task = cast("asyncio.Task[None]", asyncio.current_task())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _introduce(emulator: Emulator, found: app_sources.FoundApps, console: Console) -> None:
    """Print the addresses and keys of the services, and a first command to try."""
    from dynamiq_async.emulator import BUILTIN

    def say(text: str = "", style: str = "") -> None:
        console.print(text, style=style, soft_wrap=True)

    say(f"The emulator runs at {emulator.url}", "bold")
    say(f"  access key  {emulator.access_key or 'none: the Apps are public'}")
    if emulator.inspector_url is not None:
        say(f"  inspector   {emulator.inspector_url}")
    say(f"  {'/':<10}  the App {found.source}")
    for name, source in found.sources.items():
        say(f"  /{name:<9}  the App {source}{_elsewhere(emulator, name)}")
    for path, app in BUILTIN.items():
        if path not in found.named:
            say(f"  /{path:<9}  {(app.__doc__ or '').partition('.')[0].lower()}", "dim")
    say("The other services, with keys of their own:")
    say(f"  export {_settings(emulator, 'management')}", "dim")
    say(f"  export {_settings(emulator, 'flowy')}", "dim")
    say("\nTry it:", "bold")
    key, settings = emulator.access_key, f"DYNAMIQ_APP_URL={emulator.url}"
    say(
        f"  curl -N {emulator.url} -H 'Content-Type: application/json' \\\n"
        + (f"    -H 'Authorization: Bearer {key}' \\\n" if key else "")
        + f'    -d \'{{"stream": true, "input": {_INPUT}}}\'\n'
    )
    say(f"  export {settings}{f' DYNAMIQ_ACCESS_KEY={key}' if key else ''}")
    say(f"  dynamiq-async stream '{_INPUT}'{'' if key else ' --public'}")
    say("\nCtrl-C stops it.\n", "dim")


def _elsewhere(emulator: Emulator, name: str) -> str:
    """Where an App is besides its path, and its key if that differs from the default."""
    told = ""
    with contextlib.suppress(ValueError):
        told += f", also at {emulator.url_for(name, hostname=True)}"
    key = emulator.key_for(name)
    return told if key == emulator.access_key else f"{told}, with the key {key}"


def _settings(emulator: Emulator, service: str) -> str:
    """The environment variables from which clients read a service's address and key."""
    from dynamiq_async.emulator import DEFAULT_ORG, DEFAULT_PROJECT

    settings = (
        {"FLOWY_API": emulator.flowy_url, "FLOWY_KEY": emulator.flowy_key}
        if service == "flowy"
        else {
            # The vendor's command line joins URLs as browsers do: it drops what is after the last
            # slash.
            "DYNAMIQ_API_BASE_URL": f"{emulator.management_url}/",
            "DYNAMIQ_API_TOKEN": emulator.management.token,
            "DYNAMIQ_ORG_ID": DEFAULT_ORG,
            "DYNAMIQ_PROJECT_ID": DEFAULT_PROJECT,
        }
    )
    return " ".join(f"{name}={value}" for name, value in settings.items())


async def _log_requests(
    emulator: Emulator | Recorder | Player, console: Console, remarks: Sequence[str] = ()
) -> None:
    """Print each request when it is over, with the remarks about it."""
    log = emulator.requests
    seen = remarked = 0
    running: list[RequestRecord] = []

    def news() -> bool:
        return log.total > seen or any(record.finished for record in running)

    while True:
        await emulator.wait_until(news, timeout=None)
        new, seen = min(log.total - seen, len(log)), log.total
        running += log[len(log) - new :]
        for record in running:
            if record.finished:
                console.print(_summary(record, console), soft_wrap=True)
        for remark in remarks[remarked:]:
            console.print(output.visible(remark), style="yellow", soft_wrap=True)
        remarked = len(remarks)
        running = [record for record in running if not record.finished]


def _summary(record: RequestRecord, console: Console) -> str:
    """A request in one line: its time, method and path, and how it ended. On a terminal, a path
    that is too long for the line is shortened."""
    begin = f"{record.received_at.astimezone():%H:%M:%S}  {output.visible(record.method)}"
    parts = [str(record.status or "no answer")]
    if record.events_sent:
        parts.append(f"{record.events_sent} event{'s' * (record.events_sent > 1)}")
    if record.disconnected:
        parts.append("the client left")
    end = "  ".join(parts)
    path = output.visible(" ".join(record.path.split()))
    room = max(console.width - len(f"{begin}    {end}"), _SHORTEST_PATH)
    if console.is_terminal and len(path) > room:
        path = f"{path[: room - 1]}…"
    return f"{begin}  {path}  {end}"
