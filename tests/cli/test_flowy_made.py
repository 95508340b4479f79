"""`flowy`: what inputs and outputs are called, and what is made without an app."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dynamiq_async import AsyncFlowy
from dynamiq_async.emulator import Fault
from dynamiq_async.emulator.flowy.apps import node_output
from dynamiq_async.flowy import poller

if TYPE_CHECKING:
    from pathlib import Path

    from dynamiq_async.emulator import Emulator

    from .conftest import CLI, Terminal

ONE, TWO = "https://h.example/1.png", "https://h.example/2.png"


@pytest.fixture(autouse=True)
def flowy(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "POLL_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(poller, "POLL_SHARE", 1e6)
    monkeypatch.setenv("FLOWY_KEY", emulator.flowy_key)
    monkeypatch.setenv("FLOWY_API", emulator.flowy_url)


# --- names and forms -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs",
    [
        {"title": "Us", "your-photos": [ONE, TWO]},
        {"Title": "Us", "Your photos": [ONE, TWO]},
        {"title-1": "Us", "photos-1": [ONE, TWO]},
    ],
)
async def test_inputs_go_by_any_name(
    cli: CLI, emulator: Emulator, inputs: dict[str, object]
) -> None:
    emulator.flowy.inputs_form = "array"
    result = await cli("flowy", "run", "collage", json.dumps(inputs))
    assert (result.code, result.err) == (0, "")
    names = [output["name"] for output in json.loads(result.out)["outputs"]]
    assert names == ["the-collage", "legend"]


async def test_too_many_values_are_found_before_a_run(cli: CLI, emulator: Emulator) -> None:
    inputs = json.dumps({"title": "Us", "your-photos": [ONE] * 5})
    result = await cli("flowy", "run", "collage", inputs)
    assert result.code == 2
    assert "takes 1 to 4 values, not 5" in result.err
    assert not emulator.flowy.runs


async def test_the_body_of_a_start_is_an_option(cli: CLI, emulator: Emulator) -> None:
    emulator.flowy.inputs_form = "array"
    result = await cli("flowy", "run", "haiku", '{"Topic": "x"}', "--inputs-form", "array")
    assert result.code == 0
    refused = await cli("flowy", "run", "haiku", '{"Topic": "x"}', "--inputs-form", "map")
    assert refused.code == 1
    assert "inputs must be an array" in refused.err


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("the-collage", "x"),
        ("The Collage", "x"),
        ("collage-1", "x"),
        ("  my PICTURE", "My picture"),
    ],
)
async def test_an_output_is_downloaded_by_any_name(
    cli: CLI, emulator: Emulator, tmp_path: Path, name: str, label: str
) -> None:
    shown = [node_output("collage-1", label, "image", name="the-collage")]
    emulator.flowy.apps["collage"] = replace(emulator.flowy.apps["collage"], outputs=shown)
    inputs = json.dumps({"title": "Us", "your-photos": ONE})
    await cli("flowy", "run", "collage", inputs)
    (run_id,) = emulator.flowy.runs
    result = await cli("flowy", "download", run_id, str(tmp_path), "--node", name)
    assert (result.code, result.out) == (0, f"{tmp_path / 'collage.png'}\n")


@pytest.mark.parametrize("app", ["poster", None])
async def test_a_name_that_stands_for_none_is_told_with_those_there_are(
    cli: CLI, emulator: Emulator, tmp_path: Path, app: str | None
) -> None:
    told = {"runId": "r", "appId": app, "status": "completed", "outputs": [{"nodeId": "out-1"}]}
    emulator.script(Fault(body={"data": told}), match="GET /runs/*")
    result = await cli("flowy", "download", "r", str(tmp_path), "--node", "nope")
    assert result.code == 1
    assert "has not one output of node nope; its outputs are of: out-1" in result.err


# --- what is made without an app -------------------------------------------------------------


async def test_something_is_generated_and_printed(cli: CLI, emulator: Emulator) -> None:
    options = ["--model", "m", "--aspect-ratio", "16:9", "--resolution", "1080p"]
    more = ["--input-media", ONE, "--input-media", TWO, "--duration-seconds", "8"]
    result = await cli("flowy", "generate", "image", "a cat", *options, *more)
    made = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert (made["status"], made["creditsCharged"]) == ("completed", 10)
    (asked,) = emulator.flowy.generations.values()
    assert asked.wanted == {
        "type": "image",
        "prompt": "a cat",
        "model": "m",
        "input_media": [ONE, TWO],
        "aspect_ratio": "16:9",
        "resolution": "1080p",
        "duration_seconds": 8,
    }


async def test_it_is_saved(cli: CLI, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    result = await cli("flowy", "generate", "image", "a cat", "--save", str(folder))
    assert (result.code, result.out) == (0, f"{folder / 'image.png'}\n")
    assert (folder / "image.png").read_bytes().endswith(b"a cat")


async def test_one_that_failed_is_printed_and_saved_nowhere(cli: CLI, tmp_path: Path) -> None:
    result = await cli("flowy", "generate", "image", "fail")
    assert result.code == 1
    assert json.loads(result.out)["status"] == "failed"
    assert "out of ideas" in result.err
    saved = await cli("flowy", "generate", "image", "fail", "--save", str(tmp_path))
    assert (saved.code, saved.out) == (1, "")


async def test_a_generation_can_be_left_alone_and_gone_on_with(
    cli: CLI, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.flowy.generation_seconds = 3600
    left = await cli("flowy", "generate", "image", "a cat", "--no-wait")
    (id,) = emulator.flowy.generations
    assert json.loads(left.out)["generationId"] == id
    assert json.loads((await cli("flowy", "generation", id)).out)["status"] == "processing"
    late = await cli("flowy", "generation", id, "--wait", "--timeout", "0.1")
    assert late.code == 1
    assert late.err.endswith(f"→ go on with: dynamiq-async flowy generation {id} --wait\n")
    emulator.flowy.generations[id].ends_at = 0
    result = await cli("flowy", "generation", id, "--wait", "--save", str(tmp_path))
    assert (result.code, result.out) == (0, f"{tmp_path / 'image.png'}\n")


async def test_what_was_made_is_not_lost_with_its_download(
    cli: CLI, emulator: Emulator, tmp_path: Path
) -> None:
    save = "--save", str(tmp_path), "--max-bytes", "3"
    result = await cli("flowy", "generate", "image", "a cat", *save)
    (id,) = emulator.flowy.generations
    assert result.code == 1
    again = f"go on with: dynamiq-async flowy generation {id} --save {tmp_path}\n"
    assert result.err.startswith(again)


async def test_a_person_sees_what_was_generated(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal.stdout)
    code, shown = await terminal.run("flowy", "generate", "image", "a cat")
    assert code == 0
    assert re.search(r"[0-9a-f]{32}-1 ", shown)
    assert "is completed" in shown


async def test_assets_are_listed_one_a_line(cli: CLI, emulator: Emulator) -> None:
    for prompt in ("one", "two", "three"):
        await cli("flowy", "generate", "image", prompt)
    result = await cli("flowy", "assets", "--limit", "2")
    listed = [json.loads(line) for line in result.out.splitlines()]
    ids = list(emulator.flowy.generations)
    assert [asset["assetId"] for asset in listed] == [f"{ids[2]}-1", f"{ids[1]}-1"]
    assert "there are more than 2" in result.err
    one = json.loads((await cli("flowy", "assets", f"{ids[0]}-1")).out)
    assert (one["assetId"], one["kind"]) == (f"{ids[0]}-1", "image")


async def test_assets_are_saved(cli: CLI, emulator: Emulator, tmp_path: Path) -> None:
    for prompt in ("one", "two"):
        await cli("flowy", "generate", "image", prompt)
    result = await cli("flowy", "assets", "--save", str(tmp_path), "--limit", "1")
    assert result.out == f"{tmp_path / 'image.png'}\n"
    first = f"{next(iter(emulator.flowy.generations))}-1"
    await cli("flowy", "assets", first, "--save", str(tmp_path))
    assert (tmp_path / "image-2.png").read_bytes().endswith(b"one")


async def test_a_person_is_told_that_there_are_no_assets(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal.stdout)
    assert "no assets" in (await terminal.run("flowy", "assets"))[1]


async def test_a_person_sees_assets_in_rows(
    terminal: Terminal, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal.stdout)
    async with AsyncFlowy(emulator.flowy_key, emulator.flowy_url) as client:
        await client.generations.run("image", "a cat")
    assert re.search(r"image +image\.png", (await terminal.run("flowy", "assets"))[1])


async def test_credits_are_printed(cli: CLI, emulator: Emulator) -> None:
    emulator.flowy.credits = 30
    await cli("flowy", "generate", "image", "a cat")
    assert json.loads((await cli("flowy", "credits")).out) == {
        "workspaceId": "workspace-1",
        "credits": 20,
        "blockedCredits": 0,
        "available": 20,
    }
    emulator.flowy.credits = 0
    refused = await cli("flowy", "generate", "image", "a cat")
    assert refused.code == 1
    assert "or the workspace is out of credits" in refused.err
    assert "dynamiq-async flowy credits" in refused.err
