"""`apps list`, `apps get`, and Apps by name wherever a command takes a host."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from dynamiq_async.cli.options import _HOST
from dynamiq_async.emulator import BUILTIN, DEFAULT_PROJECT, DEFAULT_TOKEN, Emulator

from .conftest import CLI, KEY, Terminal

if TYPE_CHECKING:
    from pathlib import Path

INPUT = '{"question": "Hi"}'


@pytest.fixture(autouse=True)
def management(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configured, as for the vendor's command line."""
    monkeypatch.setenv("DYNAMIQ_API_BASE_URL", emulator.management_url)
    monkeypatch.setenv("DYNAMIQ_API_TOKEN", DEFAULT_TOKEN)
    monkeypatch.setenv("DYNAMIQ_PROJECT_ID", DEFAULT_PROJECT)


# --- list ----------------------------------------------------------------------------------------


async def test_list_prints_one_app_a_line(cli: CLI) -> None:
    result = await cli("apps", "list")
    assert (result.code, result.err) == (0, "")
    assert [json.loads(line)["name"] for line in result.out.splitlines()] == sorted(BUILTIN)
    assert DEFAULT_TOKEN not in result.out


async def test_list_says_that_there_are_more(cli: CLI) -> None:
    result = await cli("apps", "list", "--limit", "2", "--sort", "-name")
    names = [json.loads(line)["name"] for line in result.out.splitlines()]
    assert names == sorted(BUILTIN)[::-1][:2]
    assert result.err == "there are more than 2; --limit shows them\n"


async def test_more_than_a_page_can_be_listed(emulator: Emulator, cli: CLI) -> None:
    for number in range(600):
        emulator.management.add(f"app {number:03}")
    result = await cli("apps", "list", "--limit", "1000")
    assert result.out.count("\n") == 608
    assert [seen.query["page_size"] for seen in emulator.requests] == ["500", "500"]


async def test_the_options_reach_the_service(emulator: Emulator, cli: CLI) -> None:
    gone = datetime(2026, 1, 2, tzinfo=UTC)
    old = emulator.management.add("old", archived_at=gone)
    result = await cli("apps", "list", "--include-archived", "--workflow-id", old.workflow_id)
    assert json.loads(result.out)["archived_at"] == "2026-01-02T00:00:00Z"
    result = await cli("apps", "list", "--archived")
    assert json.loads(result.out)["name"] == "old"
    other = "00000000-0000-4000-8000-000000000002"
    emulator.management.add("there", project_id=other)
    result = await cli("apps", "list", "--project-id", other)
    assert json.loads(result.out)["name"] == "there"
    assert result.err == ""


async def test_a_person_gets_a_table(
    emulator: Emulator, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    emulator.management.apps.clear()
    bot = emulator.management.add("Support\x1b bot", access_type="public")
    old = emulator.management.add("Told", archived_at=datetime.now(UTC))
    odd = emulator.management.add("Zed", fields={"hostname": None, "access_control": None})
    code, shown = await terminal.run("apps", "list", "--include-archived")
    header, *rows = re.sub(r"\x1b\[\d*m", "", shown).splitlines()
    assert (code, header.split()) == (0, ["name", "id", "access", "hostname"])
    assert [row.split() for row in rows] == [
        ["Support␛", "bot", bot.id, "public", emulator.url],
        ["Told", old.id, "archived", emulator.url],
        ["Zed", odd.id],
    ]


async def test_a_person_is_told_that_there_are_none(
    emulator: Emulator, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.management.apps.clear()
    assert await terminal.run("apps", "list") == (0, "")
    assert capsys.readouterr().err == "no Apps\n"


# --- get -----------------------------------------------------------------------------------------


async def test_get_prints_an_app_by_its_name_or_id(emulator: Emulator, cli: CLI) -> None:
    app = emulator.management.add("Support bot 1.2", app="echo")
    for name in ("Support bot 1.2", "support BOT 1.2", app.id):
        result = await cli("apps", "get", name)
        assert (result.code, json.loads(result.out)["id"]) == (0, app.id)


async def test_a_person_gets_the_app_indented(terminal: Terminal) -> None:
    code, shown = await terminal.run("apps", "get", "echo")
    assert code == 0
    assert '\n  \x1b[1;34m"hostname"' in shown


async def test_a_name_that_is_not_there(cli: CLI) -> None:
    result = await cli("apps", "get", "agnet")
    assert (result.code, result.out) == (2, "")
    assert "no App called 'agnet': there are 'agent'," in result.err
    assert "  argument  APP\n" in result.err


async def test_an_id_that_is_not_there(cli: CLI) -> None:
    result = await cli("apps", "get", DEFAULT_PROJECT)
    assert (result.code, result.out) == (1, "")
    assert "  → dynamiq-async apps list shows the Apps there are" in result.err


# --- what is wrong -------------------------------------------------------------------------------


async def test_a_wrong_token_is_told_with_what_to_do(
    cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNAMIQ_API_TOKEN", "dyn_pat_not-to-be-shown")
    result = await cli("apps", "list")
    assert result.code == 1
    assert "dyn_pat_not-to-be-shown" not in result.err
    assert result.err.splitlines()[-1].startswith("  → set DYNAMIQ_API_TOKEN: the management API")


async def test_no_connection(cli: CLI) -> None:
    result = await cli("apps", "list", "--base-url", "http://127.0.0.1:1")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("  → check --base-url, the network")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--limit", "0"], "--limit"),
        (["list", "--base-url", "http://1.2.3.4"], "--base-url is plain http"),
        (["list", "--project-id", ""], "--project-id must be a non-empty string"),
        (["get"], "requires an argument"),
        (["get", ""], "APP must be a non-empty string"),
        (["lst"], 'Did you mean "list"?'),
    ],
)
async def test_wrong_usage_sends_nothing(
    emulator: Emulator, cli: CLI, arguments: list[str], said: str
) -> None:
    result = await cli("apps", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert emulator.requests.total == 0


async def test_without_a_token_it_says_how_to_give_one(
    cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DYNAMIQ_API_TOKEN")
    result = await cli("apps", "list")
    assert result.code == 2
    assert result.err.startswith("error: no token for the management API")
    assert "  argument  DYNAMIQ_API_TOKEN\n" in result.err


# --- by name -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["name", "id"])
async def test_a_command_takes_an_apps_name_or_id(emulator: Emulator, cli: CLI, by: str) -> None:
    app = emulator.management.add("Support bot", app="echo")
    given = getattr(app, by)
    result = await cli("invoke", INPUT, "--app", given)
    assert (result.code, result.err) == (0, "")
    assert emulator.executions[0].app == "echo"
    result = await cli("runs", "create", INPUT, "--background", "--app", given)
    assert (result.code, json.loads(result.out)["status"]) == (0, "created")
    keys = {(seen.service, seen.headers["Authorization"]) for seen in emulator.requests}
    assert keys == {("management", f"Bearer {DEFAULT_TOKEN}"), ("", f"Bearer {KEY}")}


async def test_the_environment_may_hold_a_name(
    emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNAMIQ_APP_URL", "agent")
    result = await cli("stream", INPUT, "--text")
    assert result.code == 0
    assert emulator.executions[0].app == "agent"


async def test_an_unknown_name_is_told_before_the_key_is_asked_for(
    cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DYNAMIQ_ACCESS_KEY")
    result = await cli("invoke", INPUT, "--app", "agnet")
    assert (result.code, result.out) == (2, "")
    assert "there are 'agent'," in result.err


async def test_a_named_app_that_is_public_needs_no_key(
    emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DYNAMIQ_ACCESS_KEY")
    result = await cli("invoke", INPUT, "--app", "echo")
    assert result.code == 2
    assert "set DYNAMIQ_ACCESS_KEY, name a file with --key-file" in result.err
    emulator.settings.access_key = None
    emulator.management.find("echo").access_type = "public"
    assert (await cli("invoke", INPUT, "--app", "echo")).code == 0


async def test_a_personal_token_is_not_sent_to_a_named_app(
    emulator: Emulator, cli: CLI, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("dyn_pat_mine")
    key_file = ("--key-file", str(tmp_path / "key"))
    result = await cli("invoke", INPUT, "--app", "echo", *key_file)
    assert (result.code, result.out) == (2, "")
    assert "looks like a Personal Access Token" in result.err
    assert {seen.service for seen in emulator.requests} == {"management"}


async def test_a_name_may_hold_what_a_host_does(emulator: Emulator, cli: CLI) -> None:
    for name in ("bot-1.2", "sales/eu"):
        emulator.management.add(name, app="echo")
        assert (await cli("invoke", INPUT, "--app", name)).code == 0


async def test_an_app_that_cannot_be_called_is_what_was_given_as_app(
    emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.management.add("old", archived_at=datetime.now(UTC))
    for name, said in (("old", "was archived at"), ("agnet", "no App called 'agnet'")):
        result = await cli("invoke", INPUT, "--app", name)
        assert (result.code, result.out) == (2, "")
        assert said in result.err
        assert "  argument  --app\n" in result.err
    monkeypatch.delenv("DYNAMIQ_PROJECT_ID")
    result = await cli("invoke", INPUT, "--app", "echo")
    assert "set DYNAMIQ_PROJECT_ID\n  argument  --app\n" in result.err


async def test_a_name_without_management_says_what_is_missing(
    cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DYNAMIQ_API_TOKEN")
    result = await cli("invoke", INPUT, "--app", "Support bot")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(
        "error: 'Support bot' is no host; to call an App by its name, set DYNAMIQ_API_TOKEN\n"
    )


async def test_a_host_needs_no_management(
    emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNAMIQ_API_TOKEN", "")
    host = emulator.url.replace("127.0.0.1", "localhost")
    assert (await cli("invoke", INPUT, "--app", host)).code == 0
    nowhere = ("--proxy", "http://127.0.0.1:1", "--max-retries", "0")
    result = await cli("invoke", INPUT, "--app", "intranet", *nowhere)
    assert result.code == 1
    assert "https://intranet/" in result.err


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("localhost", True),
        ("localhost:8787", True),
        ("x.apps.example", True),
        ("http://intranet", True),
        ("x.apps.example/prefix", True),
        ("X.example.", True),
        ("10.1.2.3", True),
        ("10.1.2.3/prefix", True),
        ("[::1]:80", True),
        ("support-bot", False),
        ("Support bot v1.2", False),
        ("bot-1.2", False),
        ("sales/eu", False),
        ("v1.2/eu.west", False),
        ("0f0e52c2-9c1d-4f0b-8a30-5d6f4a7c1c11", False),
    ],
)
def test_what_can_be_a_host(given: str, host: bool) -> None:
    assert bool(_HOST.fullmatch(given)) is host
