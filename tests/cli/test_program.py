"""The command line as a whole: its help, its start, and what it needs to be installed."""

from __future__ import annotations

import io
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

import dynamiq_async
from dynamiq_async import __version__
from dynamiq_async.__main__ import main
from dynamiq_async.cli.program import app
from dynamiq_async.emulator import BUILTIN

from .conftest import CLI, Process

COMMANDS = ["demo", "invoke", "stream", "submit", "serve"]
GROUPS = {
    "runs": ["answer", "cancel", "create", "events", "follow", "get", "list", "wait"],
    "files": ["upload"],
    "apps": ["get", "list"],
    "flowy": ["apps", "download", "get", "run"],
}


def help_of(*command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*command, "--help"]) == 0
    return capsys.readouterr().out


def test_the_help_names_the_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(capsys=capsys)
    assert all(f" {command} " in shown for command in (*COMMANDS, *GROUPS))
    assert all(f" {code} " in shown for code in (0, 1, 2, 130, 141))
    assert main([]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_shows_its_commands(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(group, capsys=capsys)
    assert all(f" {command} " in shown for command in GROUPS[group])
    assert "--version" not in shown
    assert main([group]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    "command", [*COMMANDS, *(f"{group} {name}" for group in GROUPS for name in GROUPS[group])]
)
def test_the_help_has_examples_that_are_right(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.sub(r"\\ *\n", "", help_of(*command.split(), capsys=capsys))
    examples = re.findall(rf"^.*dynamiq-async ({command}\b.*?) *$", shown, re.MULTILINE)[1:]
    assert examples
    for example in examples:
        tokens = shlex.split(re.split(r" [|>] |\)$", example)[0])
        tokens = [__file__ if token.endswith((".pdf", ".bin")) else token for token in tokens]
        function, *_ = app.parse_args(tokens)
        assert function.__name__.rstrip("_") == command.split()[-1]


def test_the_help_of_serve_names_every_app(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of("serve", capsys=capsys)
    assert all(re.search(rf"\b{name}\b", shown) for name in BUILTIN)


def test_python_m_runs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dynamiq-async", "--version"])
    program = Path(dynamiq_async.__file__).with_name("__main__.py")
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(program), run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out == f"dynamiq-async {__version__}\n"


async def test_python_m_runs_it_as_a_process(process: Process) -> None:
    child = await process("-m", "dynamiq_async", "--version")
    out, err = await child.communicate()
    assert (child.returncode, out, err) == (0, f"dynamiq-async {__version__}\n".encode(), b"")


def test_without_the_extra_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in list(sys.modules):
        if module.startswith("dynamiq_async.cli."):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "cyclopts", None)
    assert main(["--version"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "pip install 'dynamiq-async[cli]'" in err


def test_another_missing_module_is_not_mistaken_for_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "dynamiq_async.cli.program")
    monkeypatch.setitem(sys.modules, "dynamiq_async.cli.program", None)
    with pytest.raises(ModuleNotFoundError, match="program"):
        main([])


def test_it_runs_where_stdout_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["--version"]) == 0
    assert __version__ in stdout.getvalue()


async def test_without_the_extra_as_a_process(process: Process) -> None:
    script = (
        "import sys; sys.modules['cyclopts'] = None\n"
        "from dynamiq_async.__main__ import main; sys.exit(main(['demo']))"
    )
    child = await process("-c", script)
    _, err = await child.communicate()
    assert child.returncode == 2
    assert err.startswith(b"dynamiq-async: the command line needs an extra")
    assert b"Traceback" not in err


async def test_the_start_imports_nothing_slow(process: Process) -> None:
    script = (
        "import sys, dynamiq_async.cli.program\n"
        "slow = ('rich', 'aiohttp', 'anyio', 'dynamiq_async.emulator')\n"
        "sys.exit(', '.join(name for name in sys.modules if name.startswith(slow)) or 0)"
    )
    child = await process("-c", script)
    _, err = await child.communicate()
    assert (child.returncode, err) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--bogus", "{}"), "there is no option --bogus, or {} is one argument too many"),
        (("{}", "{}"), "{} is one argument too many"),
        (("{}", "--public", "{}"), "{} is one argument too many"),
        (("{}", "--public", "more"), "more is one argument too many"),
        (("{}", "--bogus"), "Unknown option: --bogus"),
    ],
)
async def test_an_argument_too_many_is_named(
    cli: CLI, arguments: tuple[str, ...], said: str
) -> None:
    result = await cli("invoke", *arguments)
    assert (result.code, f"error: {said}" in result.err) == (2, True)
