"""`serve --record` and `--replay`, from their first line to Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from dynamiq_async.__main__ import main
from dynamiq_async.emulator.tape.models import read_tape
from tests.support.emulator_threads import emulator_in_a_thread

from .test_serve import Visitor, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "dynamiq_acc_of-the-real-app"


@contextmanager
def real_app(app: str = "llm") -> Iterator[str]:
    with emulator_in_a_thread(app, access_key=KEY) as emulator:
        yield emulator.url


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return tmp_path / "tape.jsonl"


def ask(visitor: Visitor) -> list[tuple[int, bytes]]:
    found = [visitor.post(key=KEY), visitor.post(key=KEY, stream=True)]
    visitor.until("events\n")  # the line of a request comes when it is over
    return found


def test_what_was_recorded_is_replayed(tape: Path) -> None:
    with real_app() as url:
        code, seen, live = serve("--record", url, "--to", str(tape), visit=ask)
    assert code == 0
    assert re.search(r"^The recorder runs at http://127\.0\.0\.1:\d+\n", seen)
    assert f"  {url} is recorded to {tape}\n" in seen
    assert "kept off the tape: keys, cookies, signatures of links\n" in seen
    assert re.search(r"export DYNAMIQ_APP_URL=http://127\.0\.0\.1:\d+\n", seen)
    assert seen.endswith(f"stopped; 2 requests on {tape}\n")
    assert KEY not in tape.read_text()

    code, seen, taped = serve("--replay", str(tape), "--speed", "inf", visit=ask)
    assert (code, taped) == (0, live)
    assert re.search(r"^The tape plays at http://127\.0\.0\.1:\d+\n", seen)
    assert f"  2 requests of {url}, recorded 20" in seen
    assert "    1  POST  /  200\n    2  POST  /  200\n" in seen
    assert "DYNAMIQ_ACCESS_KEY=dynamiq_acc_tape\n" in seen
    assert re.search(r"\d\d:\d\d:\d\d  POST  /  200  10 events\n", seen)
    assert seen.endswith("\nstopped\n")


def test_masked_fields_are_not_on_the_tape_and_ignored_ones_may_be_others(tape: Path) -> None:
    def record(visitor: Visitor) -> tuple[int, bytes]:
        found = visitor.post(key=KEY, user_id="user-1")
        visitor.until("200\n")
        return found

    def replay(visitor: Visitor) -> int:
        try:
            return visitor.post(key=None, user_id="user-2", input={"question": "Who are you?"})[0]
        except HTTPError as error:
            with error:
                return error.code

    with real_app("echo") as url:
        masked = ("--mask", "question", "--mask", "email")
        _, seen, live = serve("--record", url, "--to", str(tape), *masked, visit=record)
    assert (live[0], json.loads(live[1])) == (200, {"question": "Hi"})
    assert "kept off the tape: keys, cookies, signatures of links, email, question\n" in seen
    assert "Hi" not in tape.read_text()
    assert serve("--replay", str(tape), "--quiet", visit=replay)[2] == 404
    assert serve("--replay", str(tape), "--ignore", "user_id", visit=replay)[2] == 200


def test_what_went_wrong_is_told(tape: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]

    def record(visitor: Visitor) -> str:
        with pytest.raises(OSError, match=r"Remote end closed|reset"):
            visitor.post()
        return visitor.until(")\n") or visitor.seen

    gone = f"http://127.0.0.1:{port}"
    _, seen, line = serve("--record", gone, "--to", str(tape), visit=record)
    assert "ConnectionRefusedError: " in seen
    assert f"stopped; 1 request on {tape}\n" in seen

    def replay(visitor: Visitor) -> str:
        assert visitor.status("/nothing?a=%07") == 404
        return visitor.until("'/'\n")

    _, seen, line = serve("--replay", str(tape), visit=replay)
    assert "    1  POST  /  no response  error\n" in seen
    assert line.startswith("the tape does not know POST /nothing")
    assert "\x07" not in seen
    assert seen.endswith("stopped; the tape did not know 1 request\n")


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_tape_that_is_stopped_in_the_middle_can_be_read(
    quiet: tuple[str, ...], stop: int, tape: Path
) -> None:
    def leave_open(visitor: Visitor) -> socket.socket:
        visitor.post(key=KEY, path="/echo")
        if not quiet:
            visitor.until("200\n")
        host, port = visitor.url.removeprefix("http://").split(":")
        body = b'{"input": {}, "stream": true}'
        client = socket.create_connection((host, int(port)), timeout=20)
        client.sendall(
            b"POST /approval HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
            % (KEY.encode(), len(body), body)
        )
        seen = b""
        while b"data: " not in seen:
            seen += client.recv(9999)
        return client

    with real_app() as url:
        code, seen, client = serve(
            "--record", url, "--to", str(tape), *quiet, visit=leave_open, stop=stop
        )
    client.close()
    assert (code, seen.splitlines()[-1]) == (0, f"stopped; 2 requests on {tape}")
    header, [whole, left] = read_tape(tape)
    assert header.app.startswith(url)
    assert whole.end.how == "whole" or quiet
    assert (left.end.how, left.end.message) == ("left", "the recording was stopped")
    assert any("data: " in (piece.content.text or "") for piece in left.pieces)


def test_a_long_tape_is_listed_in_part(tape: Path) -> None:
    line = {"request": {"method": "GET", "path": "/"}, "end": {"at": 0, "how": "cut"}}
    first = {"tape": 1, "app": "https://app.example", "recorded_at": "2026-01-01"}
    lines = [first, *({"number": number, **line} for number in range(1, 31))]
    tape.write_text("".join(json.dumps(one) + "\n" for one in lines))
    _, seen, _ = serve("--replay", str(tape), visit=lambda _: None)
    assert "   20  GET  /  no response  cut\n  and 10 more\n" in seen


def test_only_pages_and_names_that_are_allowed_may_use_a_tape(tape: Path) -> None:
    tape.write_text('{"tape": 1, "app": "https://app.example", "recorded_at": "2026-01-01"}\n')

    def visit(visitor: Visitor) -> list[int]:
        origins = ("http://localhost:3000", "https://shop.example", "https://evil.example")
        return [visitor.status("/", origin) for origin in origins]

    assert serve("--replay", str(tape), visit=visit)[2] == [404, 403, 403]
    allowed = ("--allow-origin", "https://shop.example")
    assert serve("--replay", str(tape), *allowed, visit=visit)[2] == [404, 404, 403]


REAL = "https://my-app.example"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--record", REAL], "--record and --to go together"),
        (["--to", "new.jsonl"], "--record and --to go together"),
        (["--record", REAL, "--to", "a", "--replay", "b"], "--record and --replay exclude"),
        (["--record", "my-app.example", "--to", "new.jsonl"], "is not the URL of an App"),
        (["--record", REAL, "--to", "there.txt"], "there.txt is there already"),
        (["--record", REAL, "--to", "no/folder/new.jsonl"], "no/folder/new.jsonl"),
        (["--mask", "email"], "--mask goes with --record"),
        (["--speed", "2"], "--speed goes with --replay"),
        (["--ignore", "id", "--record", REAL, "--to", "new.jsonl"], "--ignore goes with --replay"),
        (["--replay", "nothing.jsonl"], "nothing.jsonl"),
        (["--replay", "."], "."),
        (["--replay", "there.txt"], "there.txt is not a tape"),
        (["--replay", "newer.jsonl"], "a tape of version 2"),
        (["--replay", "tape.jsonl", "--speed", "0"], "--speed"),
        (["--replay", "tape.jsonl", "--speed", "nan"], "speed"),
        (["agent", "--replay", "tape.jsonl"], "no App, faults, database"),
        (["--replay", "tape.jsonl", "--fault", "{}"], "no App, faults, database"),
    ],
)
def test_tapes_that_cannot_be(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = {"tape": 1, "app": REAL, "recorded_at": "2026-01-01"}
    (tmp_path / "tape.jsonl").write_text(json.dumps(first) + "\n")
    (tmp_path / "newer.jsonl").write_text(json.dumps({**first, "tape": 2}) + "\n")
    (tmp_path / "there.txt").write_text("a text")
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--port", "0", *arguments]) in (1, 2)
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "new.jsonl").exists()
    assert (tmp_path / "there.txt").read_text() == "a text"
