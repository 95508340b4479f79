"""What is read of a tape, and what is none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async.emulator import TapeError
from dynamiq_async.emulator.tape.models import (
    Content,
    Ending,
    Exchange,
    Header,
    Piece,
    Request,
    Response,
    read_tape,
)

if TYPE_CHECKING:
    from pathlib import Path

FIRST: dict[str, Any] = {"tape": 1, "app": "https://app.example", "recorded_at": "2026-01-01"}
RESPONSE: dict[str, Any] = {"at": 0.1, "status": 200, "headers": [["A", "b"]], "framing": "close"}
LINE: dict[str, Any] = {
    "number": 1,
    "request": {"method": "GET", "path": "/"},
    "response": RESPONSE,
    "pieces": [{"at": 0.2, "content": {"text": "ü"}}],
    "end": {"at": 0.3, "how": "whole"},
}


def write(path: Path, *lines: Any, end: str = "\n") -> Path:
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(written) + end, encoding="utf-8")
    return path


def test_what_is_written_is_read_in_the_order_of_the_requests(tmp_path: Path) -> None:
    header = Header(tape=1, app="https://app.example", recorded_at="2026-01-01", masked=("email",))
    exchanges = [
        Exchange(
            number=number,
            request=Request(method="POST", path="/?a=1", body=Content.of(b"\xff")),
            response=Response(at=0.0, status=200, headers=(("A", "ü"),), framing="socket"),
            pieces=(Piece(at=1.5, content=Content.of("ü".encode()), op=0x81, client=True),),
            end=Ending(at=2.0, how="cut", missing=3, message="?"),
        )
        for number in (2, 1)
    ]
    lines = [msgspec.json.encode(line).decode() for line in (header, *exchanges)]
    found, read = read_tape(write(tmp_path / "a.jsonl", *lines))
    assert (found, read) == (header, exchanges[::-1])
    assert read[0].request.body.data == b"\xff"
    assert read[0].pieces[0].content.data == "ü".encode()
    assert read[0].request.header("b") == ""


def test_a_last_line_that_was_not_written_to_its_end_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", FIRST, LINE, json.dumps(LINE)[:40], end="")
    assert len(read_tape(path)[1]) == 1
    assert read_tape(write(path, FIRST))[1] == []
    assert len(read_tape(write(path, FIRST, "", LINE, ""))[1]) == 1


BAD_LINES: dict[str, Any] = {
    "no JSON": "{",
    "nothing": {},
    "base64": {**LINE, "pieces": [{"at": 0, "content": {"base64": "?"}}]},
    "a surrogate": {**LINE, "pieces": [{"at": 0, "content": {"text": "\ud800"}}]},
    "a time before": {**LINE, "pieces": [{"at": -1, "content": {"text": ""}}]},
    "a frame": {**LINE, "pieces": [{"at": 0, "content": {"text": ""}, "op": 256}]},
    "a status": {**LINE, "response": {**RESPONSE, "status": 99}},
    "a framing": {**LINE, "response": {**RESPONSE, "framing": "?"}},
    "a header": {**LINE, "response": {**RESPONSE, "headers": [["A", "b\r\nC: d"]]}},
    "a header's name": {**LINE, "response": {**RESPONSE, "headers": [["A:", "b"]]}},
    "an end": {**LINE, "end": {"at": 0, "how": "?"}},
    "missing": {**LINE, "end": {"at": 0, "how": "cut", "missing": -1}},
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_a_line_that_makes_no_sense_is_an_error(tmp_path: Path, line: Any) -> None:
    path = write(tmp_path / "a.jsonl", FIRST, LINE, line)
    with pytest.raises(TapeError, match=r"a\.jsonl is not a tape: "):
        read_tape(path)


@pytest.mark.parametrize("text", ["", "\n", "[]", "{}", "x" * 100_000, '{"tape": 1}'])
def test_a_file_that_is_no_tape_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(TapeError, match="is not a tape"):
        read_tape(write(tmp_path / "a.jsonl", text))


def test_a_tape_of_another_version_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"tape": 2, "other": "fields"}, {"other": "lines"})
    with pytest.raises(TapeError, match="is a tape of version 2; this is for 1"):
        read_tape(path)


def test_no_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tape(tmp_path / "nothing.jsonl")
    with pytest.raises(IsADirectoryError):
        read_tape(tmp_path)


def test_of_a_long_body_its_size_and_hash_are_kept() -> None:
    digest = Content.digest(b"abc", 5)
    assert (digest.size, digest.text, len(digest.data)) == (5, None, 64)
    assert digest.data != Content.digest(b"abd", 5).data


def test_a_last_line_without_its_end_is_read_if_it_is_whole(tmp_path: Path) -> None:
    _, whole = read_tape(write(tmp_path / "a.jsonl", FIRST, LINE, end=""))
    _, cut = read_tape(write(tmp_path / "b.jsonl", FIRST, LINE, json.dumps(LINE)[:-5], end=""))
    assert [len(whole), len(cut)] == [1, 1]
