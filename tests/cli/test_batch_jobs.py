"""`batch --job` and `--shard`, and several journals that are looked at together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.batch import job_session
from dynamiq_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from .conftest import CLI, Terminal


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"question": f"q{n}"}) for n in range(1, 31)]
    Path("in.jsonl").write_text("\n".join([*lines, "no input"]) + "\n")


def lines(text: str | Path) -> list[dict[str, Any]]:
    text = text.read_text() if isinstance(text, Path) else text
    return [json.loads(line) for line in text.splitlines()]


COMMAND = ("batch", "in.jsonl", "--no-check")


async def test_each_line_is_in_one_shard_also_what_is_no_input(
    emulator: Emulator, cli: CLI
) -> None:
    found = []
    for n in (1, 2, 3):
        result = await cli(*COMMAND, "--shard", f"{n}/3")
        shard = lines(result.out)
        assert len(shard) < 31
        found += shard
    assert sorted(line["key"] for line in found) == list(range(1, 32))
    assert [line["key"] for line in found if "error" in line] == [31]


async def test_a_shard_knows_how_many_inputs_it_has(emulator: Emulator, cli: CLI) -> None:
    result = await cli("batch", "in.jsonl", "--limit", "30", "--shard", "2/3")
    count = len(lines(result.out))
    assert result.err.startswith(f"{count} of {count} done")
    result = await cli("batch", "in.jsonl", "--shard", "4/3")
    assert result.code != 0
    assert "shard" in result.err


async def test_a_job_is_found_again_without_a_file(emulator: Emulator, cli: CLI) -> None:
    given = ("batch", "in.jsonl", "--limit", "5", "--job", "nightly")
    first = await cli(*given, "-o", "one.jsonl")
    assert first.code == 0
    assert first.err.startswith("5 of 5 done, in ")
    second = await cli(*given, "-o", "one.jsonl")
    assert second.err.startswith("5 of 5 done, 5 found, in ")
    assert all(line["found"] for line in lines(Path("one.jsonl")))
    assert emulator.execution_counts == {job_session("nightly", n): 1 for n in range(1, 6)}
    conflict = await cli(*given, "--settle", "0.5", "--mode", "invoke")
    assert "with job" in conflict.err


async def test_a_job_that_stops_says_how_it_goes_on(emulator: Emulator, cli: CLI) -> None:
    emulator.script(*[Fault()] * 6, Fault(status=401), match=lambda r: "/v1/runs" in r.path)
    given = ("batch", "in.jsonl", "--limit", "9", "--concurrency", "1", "--job", "j")
    result = await cli(*given)
    assert result.code != 0
    assert "the same command finds the runs of the job again" in result.err


async def test_what_runs_consume_is_told(emulator: Emulator, cli: CLI) -> None:
    async def app(input: Any, run: Any) -> Any:
        await run.event("custom.usage", {"usage": {"total_tokens": 1000, "cost": 0.5}})
        return input

    async with Emulator(app, access_key=emulator.access_key) as other:
        given = ("batch", "in.jsonl", "--limit", "2", "--mode", "run", "--app", other.url)
        result = await cli(*given)
    assert [line["usage"]["cost"] for line in lines(result.out)] == [0.5, 0.5]
    assert "2 of 2 done, 2,000 tokens, $1.00" in result.err


async def test_a_failed_input_of_a_job_can_be_called_again(emulator: Emulator, cli: CLI) -> None:
    url = emulator.url_for("failing")
    given = ("batch", "in.jsonl", "--limit", "1", "--job", "j", "--app", url)
    result = await cli(*given)
    assert "the same command with --retry-failed calls them again" in result.err
    await cli(*given, "--retry-failed")
    assert emulator.execution_counts == {job_session("j", 1): 1, job_session("j", 1, retry=1): 1}


async def test_the_first_requests_of_a_job_are_shown_with_their_sessions(cli: CLI) -> None:
    result = await cli("batch", "in.jsonl", "--dry-run", "--job", "nightly")
    assert job_session("nightly", 1) in result.out
    result = await cli("batch", "in.jsonl", "--dry-run", "--mode", "run")
    assert "(one for each run)" in result.out


async def test_several_journals_are_taken_together(
    emulator: Emulator, cli: CLI, terminal: Terminal
) -> None:
    for n in (1, 2):
        await cli("batch", "in.jsonl", "--limit", "30", "--shard", f"{n}/2", "--journal", f"{n}.db")
    code, shown = await terminal.run("journal", "1.db", "2.db")
    assert code == 0
    assert shown.count("mode invoke at") == 2
    assert "done             30" in shown
    written = await cli("journal", "1.db", "2.db", "-o", "all.jsonl", "--state", "done")
    assert written.err == "30 written to all.jsonl\n"
    keys = [int(line["key"]) for line in lines(Path("all.jsonl"))]
    assert sorted(keys) == list(range(1, 31))
    missing = await cli("journal", "1.db", "3.db")
    assert missing.code != 0
