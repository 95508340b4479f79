"""`invoke` and `submit`: what is sent, and how the response is printed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from dynamiq_async.cli import output
from dynamiq_async.emulator import Emulator, Fault

from .conftest import CLI, KEY, Terminal

INPUT = '{"question": "Hi"}'
ANSWER = {"content": "Hello from the emulator. You said: Hi"}


async def test_a_pipe_gets_the_response_on_one_line(cli: CLI) -> None:
    result = await cli("invoke", INPUT, "--last-node-output")
    assert (result.code, result.err) == (0, "")
    assert result.out == json.dumps(ANSWER, separators=(",", ":")) + "\n"


async def test_a_person_gets_it_indented_and_coloured(terminal: Terminal) -> None:
    code, shown = await terminal.run("invoke", INPUT, "--last-node-output")
    assert code == 0
    assert '\n  \x1b[1;34m"content"' in shown


async def test_a_large_response_is_indented_without_colours(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_COLORFUL_BYTES", 10)
    _, shown = await terminal.run("invoke", INPUT, "--last-node-output")
    assert shown.endswith(json.dumps(ANSWER, indent=2) + "\n")


async def test_a_response_cannot_steer_the_terminal(terminal: Terminal) -> None:
    _, shown = await terminal.run("invoke", '{"question": "\\u009b31m\\u007f"}')
    assert "�31m�" in shown
    assert "\x9b" not in shown


async def test_the_options_reach_the_app(emulator: Emulator, cli: CLI) -> None:
    await cli(
        *("invoke", INPUT, "--user-id", "ann", "--session-id", "s-1"),
        *("--last-node-output", "--error-on-node-failure"),
    )
    assert emulator.requests[0].json == {
        "input": {"question": "Hi"},
        "user_id": "ann",
        "session_id": "s-1",
        "last_node_output": True,
        "error_on_node_failure": True,
    }


async def test_files_are_sent_along(emulator: Emulator, cli: CLI, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    files = [part for name in ("a.txt", "b.txt") for part in ("--file", str(tmp_path / name))]
    result = await cli("invoke", INPUT, *files)
    assert result.code == 0
    sent = [part.filename for part in emulator.requests[0].form if part.name == "files"]
    assert sent == ["a.txt", "b.txt"]


async def test_the_input_can_be_a_file(emulator: Emulator, cli: CLI, tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    path.write_bytes(b"\xef\xbb\xbf" + INPUT.encode())  # as some editors save it
    assert (await cli("invoke", f"@{path}")).code == 0
    assert emulator.requests[0].json["input"] == {"question": "Hi"}


async def test_the_input_can_come_from_stdin(
    emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(INPUT.encode())))
    assert (await cli("invoke", "-")).code == 0
    assert emulator.requests[0].json["input"] == {"question": "Hi"}


async def test_the_key_can_be_in_a_file(
    emulator: Emulator, cli: CLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", "another")
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    assert (await cli("invoke", INPUT, "--key-file", str(path))).code == 0


async def test_a_public_app_gets_no_key(emulator: Emulator, cli: CLI) -> None:
    assert (await cli("invoke", INPUT, "--public")).code == 1
    assert "Authorization" not in emulator.requests[0].headers


@pytest.mark.parametrize(("option", "attempts"), [("--retry", 2), ("--no-retry", 1)])
async def test_retry_decides_over_an_unknown_outcome(
    emulator: Emulator, cli: CLI, option: str, attempts: int
) -> None:
    emulator.script(Fault(drop="reset", executes=True))
    result = await cli("invoke", INPUT, option)
    assert emulator.requests.total == attempts
    assert result.code == (0 if attempts == 2 else 1)


async def test_submit_prints_the_accepted_id(emulator: Emulator, cli: CLI) -> None:
    result = await cli("submit", INPUT, "--callback", "https://example.com/done")
    assert (result.code, result.out) == (0, f"{emulator.executions[0].id}\n")


async def test_submit_sends_the_callbacks(
    emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLBACK_TOKEN", "t-1")
    result = await cli(
        *("submit", INPUT, "--json", "--callback", "https://a.example.com/"),
        *("--callback", "https://b.example.com/", "--callback-token-env", "CALLBACK_TOKEN"),
        *("--callback-metadata", '{"order": 7}'),
    )
    assert json.loads(result.out)["status"] == "accepted"
    sent = emulator.requests[0].json["callbacks"]
    assert sent == [
        {
            "url": f"https://{host}.example.com/",
            "auth": {"type": "bearer", "token": "t-1"},
            "metadata": {"order": 7},
        }
        for host in "ab"
    ]


async def test_submit_needs_the_variable_it_was_told_of(cli: CLI) -> None:
    result = await cli(
        *("submit", INPUT, "--callback", "https://example.com/", "--callback-token-env", "NOT_SET")
    )
    assert result.code == 2
    assert "the environment variable NOT_SET is not set" in result.err
