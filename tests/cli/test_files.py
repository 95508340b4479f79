"""`files upload`: what is sent, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynamiq_async import files
from dynamiq_async.emulator import Emulator

from .conftest import CLI, Terminal
from .test_runs import INPUT


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF" * 1000)
    return path


async def test_it_prints_the_id_that_a_run_takes(
    emulator: Emulator, cli: CLI, report: Path
) -> None:
    uploaded = await cli("files", "upload", str(report))
    assert (uploaded.code, uploaded.err) == (0, "")
    result = await cli("runs", "create", INPUT, "--file-id", uploaded.out.strip())
    assert result.code == 0
    (sent,) = emulator.requests[0].form
    assert (sent.name, sent.filename, sent.size) == ("file", "report.pdf", 4000)


async def test_the_name_and_the_type_can_be_given(cli: CLI, report: Path) -> None:
    options = ("--name", "a.txt", "--mime-type", "text/x-a", "--json")
    result = await cli("files", "upload", str(report), *options)
    file = json.loads(result.out)
    assert file.pop("id")
    assert file == {"name": "a.txt", "size": 4000, "mime_type": "text/x-a"}


async def test_a_person_sees_how_far_it_is(
    terminal: Terminal, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal.stdout)
    code, shown = await terminal.run("files", "upload", str(report))
    assert code == 0
    assert "report.pdf" in shown
    assert "4.0/4.0 kB" in shown


async def test_what_is_no_file_is_not_sent(emulator: Emulator, cli: CLI, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nope"):
        result = await cli("files", "upload", str(path))
        assert (result.code, result.out) == (2, "")
        assert str(path) in result.err
    assert emulator.requests.total == 0


async def test_what_is_too_large_is_not_sent(
    emulator: Emulator, cli: CLI, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 3999)
    result = await cli("files", "upload", str(report))
    assert (result.code, emulator.requests.total) == (2, 0)
    assert "  argument  PATH\n" in result.err
