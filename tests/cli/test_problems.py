"""Errors: one block on stderr, the right exit code, no traceback and never the key."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from dynamiq_async import errors
from dynamiq_async.__main__ import main
from dynamiq_async.cli import problems
from dynamiq_async.emulator import Emulator, Fault

from .conftest import CLI, KEY

INPUT = '{"question": "Hi"}'


async def test_a_refusal_is_told_field_by_field(emulator: Emulator, cli: CLI) -> None:
    details = {"input.topic": "cannot be blank", "session_id": "must be a UUID"}
    envelope = {"error": {"code": "bad_request", "message": "invalid", "details": details}}
    emulator.script(Fault(status=400, body=envelope))
    result = await cli("invoke", INPUT)
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == [
        f"error: POST {emulator.url}/ was answered 400: bad_request: invalid",
        "  status               400",
        "  code                 bad_request",
        "  details.input.topic  cannot be blank",
        "  details.session_id   must be a UUID",
        f"  request id           {emulator.requests[0].request_id}",
    ]


async def test_a_wrong_key_is_told_with_what_to_do(
    cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", f"{KEY}-old")
    result = await cli("invoke", INPUT)
    assert result.code == 1
    assert "401" in result.err
    advice = "  → the key of DYNAMIQ_ACCESS_KEY or --key-file has to be one of this App"
    assert result.err.splitlines()[-1] == advice


async def test_a_stream_of_the_root_endpoint_is_not_said_to_go_on(
    emulator: Emulator, cli: CLI
) -> None:
    emulator.script(Fault(after_events=3, drop="reset"))
    result = await cli("stream", INPUT)
    assert result.code == 1
    assert "go on with" not in result.err


async def test_advice_speaks_of_options(emulator: Emulator, cli: CLI) -> None:
    emulator.script(Fault(drop="reset", executes=True))
    result = await cli("invoke", INPUT)
    assert result.code == 1
    assert "pass --retry for calls that are safe to repeat" in result.err


async def test_attempts_and_waits_are_shown(emulator: Emulator, cli: CLI) -> None:
    headers = {"Retry-After": "0.01"}
    emulator.script(Fault(status=429, headers=headers), times=2)
    result = await cli("invoke", INPUT, "--max-retries", "1")
    assert result.code == 1
    assert "  attempts     2\n  retry after  0.01 s\n" in result.err


def test_what_is_known_of_a_run_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    advice = "Go on with runs.follow('r-1', after_sequence=12)"
    error = errors.StreamInterruptedError(f"it ended. {advice}", run_id="r-1", sequence=12)
    assert problems.report(error) == 1
    assert capsys.readouterr().err == (
        "error: it ended\n  run id         r-1\n  last sequence  12\n"
        "  → go on with: dynamiq-async runs follow r-1 --after 12\n"
    )


def test_what_a_server_says_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    problems.report(errors.APIStatusError("\x1b[2J", details={"a": "\x1b]0;x\x07"}))
    assert capsys.readouterr().err == "error: ␛[2J\n  details.a  ␛]0;x␇\n"


async def test_no_connection(cli: CLI) -> None:
    result = await cli("invoke", INPUT, "--app", "http://127.0.0.1:1", "--max-retries", "0")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("  → check --app, the network")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["invoke"], "requires an argument"),
        (["inoke", INPUT], 'Did you mean "invoke"?'),
        (["invoke", INPUT, "--lats-node-output"], "--last-node-output"),
        (["invoke", "Hi"], "INPUT is not JSON: JSON is malformed: invalid character (byte 0)"),
        (["invoke", "[1]"], "argument  INPUT"),
        (["invoke", "\udcff"], "INPUT is not JSON"),
        (["invoke", "@/does/not/exist"], "/does/not/exist cannot be read"),
        (["invoke", INPUT, "--app", "http://1.2.3.4"], "--app is plain http"),
        (["invoke", INPUT, "--app", "http://1.2.3.4"], "pass --allow-http"),
        (["invoke", INPUT, "--timeout", "0"], "--timeout must be a positive number"),
        (["invoke", INPUT, "--file", "/does/not/exist"], "argument  --file"),
        (["stream", INPUT, "--text", "--json"], "{--text, --json}"),
        (["submit", INPUT], "--callback"),
        (["submit", INPUT, "--callback", "http://10.0.0.1"], "argument  --callback"),
        (
            ["submit", INPUT, "--callback", "https://a.io", "--callback-metadata", "x"],
            "--callback-metadata is not JSON",
        ),
        (["invoke", INPUT, "--debug=often"], "--debug"),
    ],
)
async def test_wrong_usage_sends_nothing(
    emulator: Emulator, cli: CLI, arguments: list[str], said: str
) -> None:
    result = await cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert said in result.err
    assert emulator.requests.total == 0


def test_without_a_key_it_says_how_to_give_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    app = ("--app", "example.com")
    assert main(["invoke", INPUT, *app]) == 2
    error = capsys.readouterr().err
    assert all(way in error for way in ("DYNAMIQ_ACCESS_KEY", "--key-file", "--public"))
    (tmp_path / "key").touch()
    assert main(["invoke", INPUT, *app, "--key-file", str(tmp_path / "key")]) == 2
    assert "is empty" in capsys.readouterr().err


def test_without_an_app_it_says_how_to_name_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", KEY)
    assert main(["invoke", INPUT]) == 2
    error = capsys.readouterr().err
    assert "DYNAMIQ_APP_URL" in error
    assert "--app" in error


async def test_debug_shows_the_traceback(cli: CLI) -> None:
    result = await cli("--debug", "invoke", "{}", "--app", "http://127.0.0.1:1", "--no-retry")
    assert result.code == 1
    assert "Traceback" in result.err
    assert "ConnectError" in result.err


async def test_a_full_disk_is_reported(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.suppress(OSError), os.fdopen(os.open("/dev/full", os.O_WRONLY), "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        result = await cli("invoke", INPUT)
        assert (result.code, result.err) == (1, "error: stdout: No space left on device\n")
