"""The two bodies by which Flowy's runs are started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.raw_http import RawClient, RawClients

ONE, TWO, THREE = (f"https://h.example/{number}.png" for number in (1, 2, 3))
TITLE = {"node_id": "title", "prompt": "Us"}
PHOTO = {"node_id": "your-photos", "asset_url": ONE}


class Starts:
    """Starts runs, and tells with which inputs."""

    def __init__(self, emulator: Emulator, client: RawClient) -> None:
        self.emulator = emulator
        self.client = client

    async def __call__(self, app: str, inputs: Any) -> Any:
        """The inputs of the run, or the text of the refusal."""
        key = self.emulator.flowy_key
        path, runs = f"/~flowy/apps/{app}/runs", self.emulator.flowy.runs
        before = len(runs)
        response = await self.client.call("POST", path, {"inputs": inputs}, key=key)
        if response.status == 202:
            return runs[response.json["data"]["runId"]].inputs
        assert (response.status, len(runs)) == (400, before)
        return response.json["error"]


@pytest.fixture
async def starts(connect: RawClients) -> AsyncIterator[Starts]:
    async with Emulator() as emulator:
        yield Starts(emulator, await connect(emulator))


@pytest.mark.parametrize(
    "photos",
    [
        [{"node_id": "your-photos", "asset_url": [ONE, TWO, THREE]}],
        [{"node_id": "your-photos", "asset_urls": [ONE, TWO, THREE]}],
        [PHOTO, {"node_id": "your-photos", "asset_urls": [TWO, THREE]}],
        [{"node_id": "your-photos", "asset_url": url} for url in (ONE, TWO, THREE)],
    ],
)
async def test_a_variable_input_has_its_values_in_any_of_the_forms(
    starts: Starts, photos: list[Any]
) -> None:
    expected = {"title-1": "Us", "photos-1": [ONE, TWO, THREE]}
    assert await starts("collage", [TITLE, *photos]) == expected


async def test_texts_are_prompts(starts: Starts) -> None:
    for field in ("prompt", "prompts"):
        captions = {"node_id": "captions", field: ["a", "b"]}
        found = await starts("collage", [TITLE, PHOTO, captions])
        assert found == {"title-1": "Us", "photos-1": ONE, "captions-1": ["a", "b"]}


async def test_inputs_without_a_name_go_by_their_node_id(starts: Starts) -> None:
    found = await starts("poster", [{"node_id": "text-1", "prompt": "Fresh"}])
    assert found == {"text-1": "Fresh"}


async def test_the_map_takes_lists_too(starts: Starts) -> None:
    inputs = {"title-1": "Us", "photos-1": [ONE, TWO]}
    assert await starts("collage", inputs) == inputs


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([TITLE], "Missing input: photos-1"),
        ([TITLE, {"node_id": "photos-1", "asset_url": ONE}], "Invalid input: photos-1"),
        ([TITLE, {"node_id": "your-photos"}], "Invalid input: your-photos"),
        ([TITLE, {**PHOTO, "prompt": "x"}], "Invalid input: your-photos"),
        ([TITLE, {"node_id": "your-photos", "prompt": ONE}], "your-photos takes no prompt"),
        ([{"node_id": "title", "asset_url": ONE}, PHOTO], "title takes no asset_url"),
        ([{"node_id": "title", "prompt": ["a", "b"]}, PHOTO], "title-1 takes one value"),
        ([TITLE, TITLE, PHOTO], "title-1 takes one value"),
        ([TITLE, {"node_id": "your-photos", "asset_url": [ONE] * 5}], "takes 1 to 4 values"),
        ([TITLE, {"node_id": "your-photos", "asset_url": []}], "takes 1 to 4 values"),
        ([TITLE, {"node_id": "your-photos", "asset_url": [3]}], "Invalid input: photos-1"),
        ([TITLE, PHOTO, "odd"], "Invalid input: None"),
        ([TITLE, PHOTO, {"node_id": 3, "prompt": "x"}], "Invalid input: 3"),
        ({"title": "Us", "photos-1": ONE}, "Invalid input: title"),
    ],
)
async def test_what_the_app_does_not_take_is_refused(
    starts: Starts, inputs: Any, said: str
) -> None:
    assert said in await starts("collage", inputs)


async def test_one_form_may_be_all_that_is_taken(starts: Starts) -> None:
    as_map = {"text-1": "Fresh"}
    as_array = [{"node_id": "text-1", "prompt": "Fresh"}]
    starts.emulator.flowy.inputs_form = "array"
    assert await starts("poster", as_map) == "inputs must be an array"
    assert await starts("poster", as_array) == as_map
    starts.emulator.flowy.inputs_form = "map"
    assert await starts("poster", as_array) == "inputs must be a map"
    assert await starts("poster", as_map) == as_map
    for form in ("array", "map"):
        starts.emulator.flowy.inputs_form = form
        assert await starts("broken", None) == {}  # nothing is in either form


async def test_names_and_numbers_of_values_are_shown(starts: Starts) -> None:
    key = starts.emulator.flowy_key
    shown = (await starts.client.call("GET", "/~flowy/apps/collage", key=key)).json["data"]
    assert [spec["name"] for spec in shown["inputs"]] == ["title", "your-photos", "captions"]
    assert [spec.get("arity") for spec in shown["inputs"]] == [
        None,
        {"min": 1, "max": 4},
        {"min": 0, "max": 3},
    ]
    assert [spec["name"] for spec in shown["outputs"]] == ["the-collage", "legend"]
    await starts("collage", [TITLE, PHOTO])
    (run_id,) = starts.emulator.flowy.runs
    run = (await starts.client.call("GET", f"/~flowy/runs/{run_id}", key=key)).json["data"]
    assert [output["name"] for output in run["outputs"]] == ["the-collage", "legend"]
