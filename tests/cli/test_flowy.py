"""`flowy apps`, `run`, `get` and `download`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path

import pytest

from dynamiq_async.emulator import Emulator, Fault
from dynamiq_async.flowy import poller

from .conftest import CLI, Process, Terminal
from .test_program import help_of

SLOGAN = '{"Slogan": "Fresh every day"}'


@pytest.fixture(autouse=True)
def flowy(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "POLL_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(poller, "POLL_SHARE", 1e6)
    monkeypatch.setenv("FLOWY_KEY", emulator.flowy_key)
    monkeypatch.setenv("FLOWY_API", emulator.flowy_url)


def the_run(emulator: Emulator) -> str:
    (run_id,) = emulator.flowy.runs
    return run_id


# --- apps ------------------------------------------------------------------------------------


async def test_apps_are_listed_one_a_line(cli: CLI) -> None:
    result = await cli("flowy", "apps")
    assert (result.code, result.err) == (0, "")
    found = [json.loads(line) for line in result.out.splitlines()]
    assert [app["id"] for app in found] == ["haiku", "poster", "clip", "broken"]
    assert found[1]["slug"] == "product-poster"


async def test_a_person_sees_a_table_of_them(terminal: Terminal) -> None:
    code, shown = await terminal.run("flowy", "apps")
    assert code == 0
    assert re.search(r"poster +product-poster +Product poster", shown)


async def test_a_person_is_told_that_there_are_none(
    terminal: Terminal, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal.stdout)
    emulator.flowy.apps.clear()
    assert "no apps" in (await terminal.run("flowy", "apps"))[1]


async def test_one_app_is_shown_with_what_it_takes(cli: CLI) -> None:
    app = json.loads((await cli("flowy", "apps", "product-poster")).out)
    assert [spec["nodeId"] for spec in app["inputs"]] == ["text-1", "image-1"]


# --- run -------------------------------------------------------------------------------------


async def test_a_run_is_waited_for_and_printed(cli: CLI) -> None:
    result = await cli("flowy", "run", "product-poster", SLOGAN)
    run = json.loads(result.out)
    assert (result.code, run["status"]) == (0, "completed")
    assert run["outputs"][1]["text"] == "FRESH EVERY DAY"


async def test_a_person_sees_what_it_made(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal.stdout)
    code, shown = await terminal.run("flowy", "run", "haiku", '{"Topic": "a \\u001b frog"}')
    assert code == 0
    assert re.search(r"text-1 +text +An old silent pond, / a ␛ frog", shown)
    assert "is completed" in shown
    assert "waiting for haiku" in shown


async def test_it_can_be_left_alone(cli: CLI, emulator: Emulator) -> None:
    result = await cli("flowy", "run", "clip", '{"Scene": "Rain"}', "--no-wait")
    assert json.loads(result.out)["runId"] == the_run(emulator)


async def test_its_outputs_are_saved(cli: CLI, tmp_path: Path) -> None:
    result = await cli("flowy", "run", "poster", SLOGAN, "--save", str(tmp_path), "--no-wait")
    assert (result.code, result.err) == (0, "")
    image, text = map(Path, result.out.splitlines())
    assert image == tmp_path / "poster.png"
    assert image.read_bytes().endswith(b"Fresh every day")
    assert text.read_text() == "FRESH EVERY DAY"


async def test_the_folder_for_them_is_made(cli: CLI, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "posters"
    result = await cli("flowy", "run", "poster", SLOGAN, "--save", str(folder))
    assert result.code == 0
    assert sorted(files_in(folder)) == ["out-2.txt", "poster.png"]


async def test_a_folder_that_cannot_be_made_is_found_before_a_run(
    cli: CLI, emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = await cli("flowy", "run", "poster", SLOGAN, "--save", str(tmp_path / "file"))
    assert result.code == 2
    assert result.err.startswith("error: --save cannot be used: ")
    assert not emulator.flowy.runs


async def test_what_a_run_made_is_not_lost_with_its_download(
    cli: CLI, emulator: Emulator, tmp_path: Path
) -> None:
    save = "--save", str(tmp_path), "--max-bytes", "3"
    result = await cli("flowy", "run", "poster", SLOGAN, *save)
    assert result.code == 1
    again = f"go on with: dynamiq-async flowy download {the_run(emulator)} {tmp_path}\n"
    assert result.err.startswith(again)
    emulator.script(Fault(status=403), match=lambda seen: seen.service == "flowy-files")
    refused = await cli("flowy", "run", "poster", SLOGAN, "--save", str(tmp_path))
    assert refused.code == 1
    assert re.search(r"\n  run id +\w{32}\n", refused.err)
    assert "go on with" not in refused.err


async def test_a_run_is_not_lost_with_ctrl_c(emulator: Emulator, process: Process) -> None:
    child = await process("-m", "dynamiq_async", "flowy", "run", "clip", '{"Scene": "Rain"}')
    await emulator.wait_for_requests(3)  # the app, the start, a poll
    child.send_signal(signal.SIGINT)
    _, err = await child.communicate()
    assert child.returncode == 130
    assert f"go on with: dynamiq-async flowy get {the_run(emulator)} --wait" in err.decode()


async def test_a_run_that_failed_is_printed_and_an_error(cli: CLI) -> None:
    result = await cli("flowy", "run", "broken")
    assert (result.code, json.loads(result.out)["status"]) == (1, "failed")
    assert "out of paint" in result.err


async def test_inputs_that_do_not_fit_are_wrong_usage(cli: CLI, emulator: Emulator) -> None:
    result = await cli("flowy", "run", "poster", '{"Photo": "cat"}')
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: INPUTS do not fit 'Product poster'")
    assert "It takes 'Slogan' (text-1, text, required)" in result.err
    assert not emulator.flowy.runs
    unchecked = await cli("flowy", "run", "poster", '{"Photo": "cat"}', "--no-check")
    assert unchecked.code == 1
    assert "Invalid input: Photo" in unchecked.err


async def test_inputs_come_from_a_file(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "inputs.json").write_text(SLOGAN)
    result = await cli("flowy", "run", "poster", f"@{tmp_path / 'inputs.json'}")
    assert result.code == 0


async def test_a_run_that_takes_too_long_can_be_gone_on_with(cli: CLI) -> None:
    run_id = await started(cli, "clip")
    result = await cli("flowy", "get", run_id, "--wait", "--timeout", "0.1")
    assert result.code == 1
    assert result.err.endswith(f"→ go on with: dynamiq-async flowy get {run_id} --wait\n")


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "set FLOWY_KEY"), (404, "flowy apps shows"), (402, "next UTC day"), (400, "")],
)
async def test_a_refusal_comes_with_advice(
    cli: CLI, emulator: Emulator, status: int, advice: str
) -> None:
    emulator.script(Fault(status=status, body={"error": "no"}))
    result = await cli("flowy", "apps")
    assert result.code == 1
    assert advice in result.err
    assert "DYNAMIQ" not in result.err
    assert ("→" in result.err) == bool(advice)


async def test_without_a_key_it_says_which(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWY_KEY")
    result = await cli("flowy", "apps")
    assert result.code == 2
    assert "set FLOWY_KEY" in result.err


async def test_the_url_is_an_option(
    cli: CLI, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWY_API", "https://nowhere.invalid")
    assert (await cli("flowy", "apps", "--base-url", emulator.flowy_url)).code == 0


# --- get -------------------------------------------------------------------------------------


async def started(cli: CLI, app: str = "poster") -> str:
    result = await cli("flowy", "run", app, SLOGAN.replace("Slogan", "text-1"), "--no-wait")
    run_id: str = json.loads(result.out)["runId"]
    return run_id


async def test_a_run_is_shown_as_it_is(cli: CLI) -> None:
    run_id = await started(cli, "clip")
    assert json.loads((await cli("flowy", "get", run_id)).out)["status"] == "running"


async def test_or_once_it_is_over(cli: CLI, emulator: Emulator) -> None:
    run_id = await started(cli, "clip")
    waiting = asyncio.ensure_future(cli("flowy", "get", run_id, "--wait", "--timeout", "60"))
    await emulator.wait_until(lambda: emulator.requests[-1].method == "GET")
    emulator.flowy.runs[run_id].ends_at = 0
    assert json.loads((await waiting).out)["status"] == "completed"


async def test_a_run_that_is_not_there_is_no_matter_of_apps(cli: CLI) -> None:
    result = await cli("flowy", "get", "nope")
    assert result.code == 1
    assert "Run not found" in result.err
    assert "→" not in result.err


# --- download --------------------------------------------------------------------------------


async def test_outputs_are_downloaded_to_a_folder(cli: CLI, tmp_path: Path) -> None:
    result = await cli("flowy", "download", await started(cli), str(tmp_path))
    assert result.out.splitlines() == [str(tmp_path / "poster.png"), str(tmp_path / "out-2.txt")]


async def test_or_one_of_them_to_a_file(cli: CLI, tmp_path: Path) -> None:
    run_id, path = await started(cli), tmp_path / "made.png"
    result = await cli("flowy", "download", run_id, str(path), "--node", "out-1")
    assert (result.code, result.out) == (0, f"{path}\n")
    assert path.read_bytes().startswith(b"\x89PNG")
    several = await cli("flowy", "download", run_id, str(path))
    assert several.code == 1
    assert "its outputs are of: out-1, out-2" in several.err


async def test_a_person_sees_how_far_it_is(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal.stdout)
    code, shown = await terminal.run("flowy", "run", "poster", SLOGAN, "--save", str(tmp_path))
    assert code == 0
    assert "out-1 (image)" in shown
    assert "bytes" in shown


async def test_ctrl_c_leaves_nothing_of_a_download(
    cli: CLI, emulator: Emulator, process: Process, tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    run_id = await started(cli)
    emulator.script(Fault(at_byte=4, stall=60), match=lambda seen: seen.service == "flowy-files")
    child = await process("-m", "dynamiq_async", "flowy", "download", run_id, str(folder))
    while emulator.requests[-1].bytes_sent != 4:
        await asyncio.sleep(0.01)
    if sys.platform == "linux":  # it has no name yet, so a kill would leave nothing either
        assert files_in(folder) == []
    child.send_signal(signal.SIGINT)
    out, _ = await child.communicate()
    assert (child.returncode, out) == (130, b"")
    assert files_in(folder) == []


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_there_is_a_limit_of_size(cli: CLI, tmp_path: Path) -> None:
    run_id = await started(cli)
    result = await cli("flowy", "download", run_id, str(tmp_path), "--max-bytes", "3")
    assert result.code == 1
    assert "larger than max_bytes (3)" in result.err
    assert not (tmp_path / "poster.png").exists()


async def test_a_folder_that_is_not_there_is_wrong_usage(cli: CLI, tmp_path: Path) -> None:
    run_id = await started(cli)
    path = str(tmp_path / "no" / "where.png")
    result = await cli("flowy", "download", run_id, path, "--node", "out-1")
    assert result.code == 2
    assert "  argument  PATH\n" in result.err


# --- help ------------------------------------------------------------------------------------


def test_the_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of("flowy", capsys=capsys)
    assert all(f" {command} " in shown for command in ("apps", "download", "get", "run"))
