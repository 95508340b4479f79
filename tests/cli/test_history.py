"""`traces`, `sessions`, `runs artifacts` and `whoami`."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from dynamiq_async import AsyncApp
from dynamiq_async.emulator import (
    DEFAULT_ORG,
    DEFAULT_PROJECT,
    DEFAULT_TOKEN,
    DEFAULT_USER,
    Emulator,
    Fault,
)

from .conftest import CLI, KEY, Terminal

if TYPE_CHECKING:
    from pathlib import Path

SESSION = str(uuid4())
ORG = {"id": DEFAULT_ORG, "name": "Emulator"}
PROJECT = {"id": DEFAULT_PROJECT, "name": "Default", "org_id": DEFAULT_ORG}


@pytest.fixture(autouse=True)
def management(cli: CLI, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configured, as for the vendor's command line, and for the App `echo`."""
    monkeypatch.setenv("DYNAMIQ_API_BASE_URL", emulator.management_url)
    monkeypatch.setenv("DYNAMIQ_API_TOKEN", DEFAULT_TOKEN)
    monkeypatch.setenv("DYNAMIQ_PROJECT_ID", DEFAULT_PROJECT)
    monkeypatch.setenv("DYNAMIQ_APP_URL", emulator.url_for("echo"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")


def lines(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


def plain(shown: str) -> list[str]:
    return re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()


async def run_of(emulator: Emulator, name: str = "echo", **options: Any) -> Any:
    async with AsyncApp(emulator.url_for(name), access_key=KEY) as app:
        return await app.runs.create({"question": "Hi"}, **options)


# --- traces --------------------------------------------------------------------------------------


async def test_traces_are_listed_and_one_is_printed(emulator: Emulator, cli: CLI) -> None:
    runs = [await run_of(emulator) for _ in range(3)]
    result = await cli("traces", "list", "--limit", "2")
    assert [trace["id"] for trace in lines(result.out)] == [runs[2].id, runs[1].id]
    assert (result.code, result.err) == (0, "there are more than 2; --limit shows them\n")
    result = await cli("traces", "get", runs[0].id)
    (trace,) = lines(result.out)
    assert (trace["id"], trace["status"], trace["input"]) == (
        runs[0].id,
        "succeeded",
        {"question": "Hi"},
    )
    assert "output" in trace
    assert result.err == ""
    assert DEFAULT_TOKEN not in result.out


async def test_the_app_is_named_by_a_host_a_name_or_an_id(
    emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await run_of(emulator, "llm")
    id = emulator.management.find("llm").id
    for name in ("llm", id, emulator.url_for("llm")):
        result = await cli("traces", "get", run.id, "--app", name)
        assert (result.code, json.loads(result.out)["source_id"]) == (0, id)
    result = await cli("traces", "get", run.id, "--app", "lllm")
    assert (result.code, result.out) == (2, "")
    assert "no App called 'lllm'" in result.err
    assert "  argument  --app\n" in result.err
    monkeypatch.delenv("DYNAMIQ_APP_URL")
    result = await cli("traces", "get", run.id)
    assert result.code == 2
    assert result.err.startswith("error: no App: name it with --app, or set DYNAMIQ_APP_URL\n")
    monkeypatch.delenv("DYNAMIQ_PROJECT_ID")
    result = await cli("traces", "get", run.id, "--app", "llm")
    assert result.code == 2
    assert f"there are 'Default' ({DEFAULT_PROJECT})" in result.err
    assert "  argument  --project-id\n" in result.err


async def test_traces_by_time_and_status(emulator: Emulator, cli: CLI) -> None:
    run = await run_of(emulator)
    soon = f"{datetime.now() + timedelta(hours=1):%Y-%m-%dT%H:%M}"
    for options, found in (
        (("--since", "1.5h", "--status", "succeeded", "--status", "failed"), [run.id]),
        (("--status", "failed"), []),
        (("--until", "10m"), []),
        (("--since", "7d", "--until", soon), [run.id]),
        (("--since", soon), []),
        (("--since", "2020-01-01T00:00:00Z"), [run.id]),
    ):
        result = await cli("traces", "list", *options)
        assert (result.code, [trace["id"] for trace in lines(result.out)]) == (0, found)
    asked = emulator.requests[-1].query["started_at:gte"]
    assert datetime.fromisoformat(asked) == datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("time", ["yesterday", "5", "5w", "-2h", ""])
async def test_what_is_no_time(time: str, emulator: Emulator, cli: CLI) -> None:
    result = await cli("traces", "list", f"--since={time}")
    assert (result.code, result.out) == (2, "")
    assert "--since must be a time" in result.err
    assert emulator.requests.total == 0


async def test_a_person_gets_a_table_of_traces(emulator: Emulator, terminal: Terminal) -> None:
    await run_of(emulator, "llm")
    code, shown = await terminal.run("traces", "list", "--app", "llm")
    header, row = plain(shown)
    assert (code, header.split()) == (0, ["id", "status", "started", "ended", "tokens", "US$"])
    assert "succeeded" in row
    tokens, cost = row.split()[-2:]
    assert float(cost) == pytest.approx(int(tokens) * 0.000002)


async def test_a_trace_without_usage_and_status_is_shown_too(
    emulator: Emulator, terminal: Terminal
) -> None:
    emulator.script(
        Fault(status=200, body={"data": [{"id": "t-1"}]}), match="GET /v1/apps/*/traces"
    )
    code, shown = await terminal.run("traces", "list")
    assert (code, plain(shown)[1].strip()) == (0, "t-1")


async def test_a_trace_that_is_not_there(cli: CLI) -> None:
    result = await cli("traces", "get", "nope")
    assert (result.code, result.out) == (1, "")
    assert "  status      404\n" in result.err
    assert "dynamiq-async apps list shows the Apps there are" in result.err


# --- sessions ------------------------------------------------------------------------------------


async def test_sessions_and_their_messages(emulator: Emulator, cli: CLI) -> None:
    runs = [await run_of(emulator, session_id=SESSION, user_id="ann") for _ in range(2)]
    result = await cli("sessions", "list")
    assert [session["id"] for session in lines(result.out)] == [SESSION]
    result = await cli("sessions", "messages", SESSION)
    assert [message["trace_id"] for message in lines(result.out)] == [run.id for run in runs]
    result = await cli("sessions", "messages", SESSION, "--limit", "1")
    assert len(lines(result.out)) == 1
    assert "there are more than 1" in result.err


async def test_a_person_gets_tables_of_them(emulator: Emulator, terminal: Terminal) -> None:
    await run_of(emulator, session_id=SESSION, user_id="ann")
    _, shown = await terminal.run("sessions", "list")
    header, row = plain(shown)
    assert header.split() == ["id", "user", "created", "updated"]
    assert row.split()[:2] == [SESSION, "ann"]


async def test_long_messages_are_cut_in_a_table(emulator: Emulator, terminal: Terminal) -> None:
    told = [{"id": "m", "input": "x" * 300, "output": None}, {"id": "n", "input": {"a": 1}}]
    emulator.script(Fault(status=200, body={"data": told}), match="GET /v1/apps/*/messages")
    _, shown = await terminal.run("sessions", "messages", SESSION)
    assert shown.count("x") == 199
    assert "…" in shown
    assert '{"a":1}' in shown


# --- artifacts -----------------------------------------------------------------------------------


async def test_artifacts_are_listed(emulator: Emulator, cli: CLI) -> None:
    run = await run_of(emulator, files=[("a.txt", b"one"), ("b.png", b"three")])
    result = await cli("runs", "artifacts", run.id)
    assert (result.code, result.err) == (0, "")
    listed = lines(result.out)
    assert [(one["name"], one["size"]) for one in listed] == [("a.txt", 3), ("b.png", 5)]
    assert "signature=" in listed[0]["download_url"]


async def test_artifacts_are_downloaded(emulator: Emulator, cli: CLI, tmp_path: Path) -> None:
    run = await run_of(emulator, files=[("a.txt", b"one"), ("../a.txt", b"three")])
    folder = tmp_path / "new" / "folder"
    result = await cli("runs", "artifacts", run.id, "--save", str(folder))
    assert (result.code, result.err) == (0, "")
    saved = result.out.splitlines()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.rpartition("/")[2] for path in saved
    )
    assert [(folder / path).read_bytes() for path in saved] == [b"one", b"three"]
    downloads = [seen for seen in emulator.requests if seen.service == "artifact-files"]
    assert [seen.headers.get("Authorization") for seen in downloads] == [None, None]
    result = await cli("runs", "artifacts", run.id, "--save", str(folder), "--max-bytes", "3")
    assert result.code == 1
    assert "larger than max_bytes" in result.err


async def test_a_person_gets_a_table_of_artifacts(
    emulator: Emulator,
    terminal: Terminal,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = await run_of(emulator, files=[("a.txt", b"one")])
    _, shown = await terminal.run("runs", "artifacts", run.id)
    header, row = plain(shown)
    assert header.split() == ["name", "bytes", "type", "saved", "id"]
    assert row.split()[:3] == ["a.txt", "3", "text/plain"]
    terminal.shown = ""
    emulator.script(Fault(status=200, body={"data": [{}]}), match="GET /v1/apps/*/artifacts")
    assert (await terminal.run("runs", "artifacts", run.id))[0] == 0
    capsys.readouterr()
    without = await run_of(emulator)
    for save in ((), ("--save", str(tmp_path / "x"))):
        terminal.shown = ""
        assert (await terminal.run("runs", "artifacts", without.id, *save))[0] == 0
        assert capsys.readouterr().err == "no artifacts\n"


async def test_a_folder_that_cannot_be_made_is_found_before_anything_is_sent(
    emulator: Emulator, cli: CLI, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = await cli("runs", "artifacts", "r", "--save", str(tmp_path / "file" / "x"))
    assert (result.code, result.out) == (2, "")
    assert "--save cannot be used" in result.err
    assert emulator.requests.total == 0


# --- whoami --------------------------------------------------------------------------------------


async def test_whoami(emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIQ_ORG_ID", DEFAULT_ORG)
    result = await cli("whoami")
    assert (result.code, result.err) == (0, "")
    said = json.loads(result.out)
    assert said == {
        "url": emulator.management_url,
        "user": DEFAULT_USER,
        "org": ORG,
        "project": PROJECT,
    }


async def test_whoami_for_a_person(
    emulator: Emulator, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    _, shown = await terminal.run("whoami")
    said = [line.strip().split(maxsplit=1) for line in plain(shown) if line.strip()]
    assert said == [
        ["url", emulator.management_url],
        ["user", "Ann Emulator <ann@emulator.example>"],
        ["org", "none"],
        ["project", f"Default ({DEFAULT_PROJECT})"],
    ]
    terminal.shown = ""
    emulator.management.user = {"email": "bob@emulator.example"}
    _, shown = await terminal.run("whoami")
    assert "user     bob@emulator.example" in shown
    terminal.shown = ""
    emulator.management.user = None
    code, shown = await terminal.run("whoami")
    assert (code, "user     none" in shown) == (0, True)
    assert "the token belongs to no user" in capsys.readouterr().err


async def test_whoami_without_a_project_says_which_there_are(
    cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DYNAMIQ_PROJECT_ID")
    result = await cli("whoami")
    assert (result.code, json.loads(result.out)["project"]) == (0, None)
    assert result.err.startswith(f"no project: there are 'Default' ({DEFAULT_PROJECT}); ")


async def test_whoami_where_something_is_out_of_reach(
    cli: CLI, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNAMIQ_ORG_ID", "another")
    result = await cli("whoami")
    assert result.code == 1
    assert json.loads(result.out) | {"url": "", "user": 0} == {
        "url": "",
        "user": 0,
        "org": None,
        "project": PROJECT,
    }
    assert "/v1/orgs/another" in result.err
    assert "  status      404\n" in result.err
    monkeypatch.setenv("DYNAMIQ_API_TOKEN", "dyn_pat_wrong")
    result = await cli("whoami")
    assert (result.code, result.out) == (1, "")
    assert "set DYNAMIQ_API_TOKEN: the management API has a token of its own" in result.err
