"""The two bodies of a start, and inputs and outputs by whatever they are called."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import FlowyApp, FlowyArity, FlowyInput, FlowyOutput, FlowyRun, errors
from dynamiq_async.emulator import Fault

if TYPE_CHECKING:
    from .conftest import Serve, Served

ONE, TWO = "https://h.example/1.png", "https://h.example/2.png"
ENTRIES = [
    {"node_id": "title", "prompt": "Us"},
    {"node_id": "your-photos", "asset_url": [ONE, TWO]},
]
BY_NAME = {"title": "Us", "your-photos": [ONE, TWO]}


def sent(flowy: Served) -> Any:
    """The body of the last start."""
    return flowy.requests("POST")[-1].json


# --- the two bodies --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs",
    [
        BY_NAME,
        {"Title": "Us", "Your photos": [ONE, TWO]},
        {" TITLE ": "Us", "YOUR PHOTOS": (ONE, TWO)},
        {"title-1": "Us", "photos-1": [ONE, TWO]},
        {"title": "Us", "Your-Photos": [ONE, TWO], "captions": None},
    ],
)
async def test_an_app_with_names_gets_the_array(flowy: Served, inputs: dict[str, Any]) -> None:
    flowy.service.inputs_form = "array"
    run = await flowy.client.run("collage", inputs)
    assert sent(flowy) == {"inputs": ENTRIES}
    assert (await run.output("the-collage").read()).endswith(f"Us|{ONE}|{TWO}".encode())


async def test_an_app_without_names_gets_the_map(flowy: Served) -> None:
    flowy.service.inputs_form = "map"
    await flowy.client.run("poster", {"Slogan": "Fresh", "image-1": ONE})
    assert sent(flowy) == {"inputs": {"text-1": "Fresh", "image-1": ONE}}


async def test_the_caller_decides_for_a_call(flowy: Served) -> None:
    flowy.service.inputs_form = "array"
    poster = {"Slogan": "Fresh", "Photo": ONE}
    await flowy.client.run("poster", poster, inputs_form="array")
    await flowy.client.runs.start("poster", poster, inputs_form="array")
    assert sent(flowy) == {
        "inputs": [
            {"node_id": "text-1", "prompt": "Fresh"},
            {"node_id": "image-1", "asset_url": ONE},
        ]
    }
    flowy.service.inputs_form = "map"
    as_map = {"inputs": {"title-1": "Us", "photos-1": [ONE, TWO]}}
    await flowy.client.run("collage", BY_NAME, inputs_form="map")
    assert sent(flowy) == as_map
    [result] = await flowy.client.batch("collage", [BY_NAME], inputs_form="map")
    assert result.unwrap().status == "completed"
    assert sent(flowy) == as_map


async def test_the_caller_decides_for_a_client_and_its_views_and_copies(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowy = await serve(inputs_form="map")
    flowy.service.inputs_form = "map"
    await flowy.client.run("collage", BY_NAME)
    await flowy.client.with_options(max_retries=0).runs.start("collage", BY_NAME)
    monkeypatch.setenv("FLOWY_KEY", flowy.emulator.flowy_key)
    async with pickle.loads(pickle.dumps(flowy.client)) as copy:
        await copy.runs.start("collage", BY_NAME)
    assert [list(seen.json["inputs"]) for seen in flowy.requests("POST")] == [
        ["title-1", "photos-1"]
    ] * 3
    with pytest.raises(errors.BadRequestError, match="inputs must be a map"):
        await flowy.client.runs.start("collage", BY_NAME, inputs_form="auto")


async def test_a_form_that_is_none_is_refused(flowy: Served) -> None:
    wrong: Any = "list"
    for call in (
        flowy.client.run("haiku", {}, inputs_form=wrong),
        flowy.client.runs.start("haiku", {}, inputs_form=wrong),
    ):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await call
        assert caught.value.argument == "inputs_form"
    with pytest.raises(errors.InvalidArgumentError):
        flowy.client.map("haiku", [], inputs_form=wrong)
    assert not flowy.emulator.requests.total


@pytest.mark.parametrize("form", ["map", "array"])
async def test_an_app_without_inputs_needs_neither(flowy: Served, form: Any) -> None:
    bare = {"data": {"id": "broken", "inputs": []}}
    flowy.emulator.script(Fault(body=bare), match="GET /apps/*")
    flowy.service.inputs_form = form
    await flowy.client.runs.start("broken")
    assert sent(flowy) == {}


async def test_an_app_some_of_whose_inputs_have_names(flowy: Served) -> None:
    """The others are named by their node ids."""
    app = FlowyApp(
        id="a",
        inputs=[FlowyInput(node_id="n1", name="one", kind="text"), FlowyInput(node_id="n2")],
    )
    fitting = app.fit({"one": "a", "n2": ONE})
    assert app.body(fitting)["inputs"] == [
        {"node_id": "one", "prompt": "a"},
        {"node_id": "n2", "asset_url": ONE},
    ]


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [
        ("text", ONE, "prompt"),
        ("text", [ONE, TWO], "prompt"),
        ("image_url", ONE, "asset_url"),
        ("document_url", "s3", "asset_url"),
        (None, ONE, "asset_url"),
        (None, "data:image/png;base64,AA", "asset_url"),
        (None, "A cat", "prompt"),
        (None, ["A cat", ONE], "prompt"),
        (None, [ONE, TWO], "asset_url"),
        ("number", 3, "prompt"),
    ],
)
def test_an_entry_is_a_prompt_or_an_asset(kind: str | None, value: Any, field: str) -> None:
    app = FlowyApp(inputs=[FlowyInput(node_id="n", name="x", kind=kind, arity=FlowyArity())])
    assert app.body(app.fit({"x": value})) == {"inputs": [{"node_id": "x", field: value}]}


async def test_unchecked_inputs_go_by_the_callers_names(flowy: Served) -> None:
    await flowy.client.runs.start("collage", BY_NAME, check=False, inputs_form="array")
    assert sent(flowy) == {"inputs": ENTRIES}
    assert not flowy.requests("GET")
    with pytest.raises(errors.BadRequestError):
        await flowy.client.runs.start("collage", BY_NAME, check=False)
    assert sent(flowy) == {"inputs": BY_NAME}


async def test_an_app_at_hand_tells_the_form_of_unchecked_inputs_too(flowy: Served) -> None:
    app = await flowy.client.apps.get("collage")
    await flowy.client.runs.start(app, {"Title": "Us", "photos-1": [ONE, TWO]}, check=False)
    assert sent(flowy) == {"inputs": ENTRIES}


async def test_more_can_be_sent_in_place_of_either(flowy: Served) -> None:
    more = {"inputs": [{"node_id": "title", "prompts": ["Us"]}], "priority": "low"}
    with pytest.raises(errors.BadRequestError):
        await flowy.client.runs.start("collage", BY_NAME, extra_body=more)
    assert sent(flowy) == more


# --- how many values -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (
            {"your-photos": [ONE] * 5},
            "'Your photos' (your-photos, image_url, 1 to 4 values, required) takes 1 to 4 values, "
            "not 5",
        ),
        ({"your-photos": []}, "takes 1 to 4 values, not 0"),
        ({"your-photos": ONE, "captions": ["a"] * 4}, "takes 0 to 3 values, not 4"),
        ({"your-photos": [ONE, "no url"]}, "must be the URL of an image, not 'no url'"),
        ({"your-photos": [ONE, [TWO]]}, "must be the URL of an image, not ["),
        ({"your-photos": ONE, "captions": ["a", 3]}, "must be a string, not int"),
        ({"title": ["Us", "Them"], "your-photos": ONE}, "takes one value, not a list"),
        ({"title": [], "your-photos": ONE}, "takes one value, not a list"),
        ({"title": ("Us",), "your-photos": ONE}, "takes one value, not a list"),
        ({"captions": "x"}, "'Your photos' (your-photos, image_url, 1 to 4 values, required) is m"),
    ],
)
async def test_values_are_counted_before_anything_is_sent(
    flowy: Served, inputs: dict[str, Any], said: str
) -> None:
    for call in (
        flowy.client.run("collage", {"title": "Us", **inputs}),
        flowy.client.runs.start("collage", {"title": "Us", **inputs}),
    ):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await call
        assert said in str(caught.value)
        assert caught.value.argument == "inputs"
    [result] = await flowy.client.batch(
        "collage", [{"title": "Us", **inputs}], on_error="return", max_failures=1
    )
    assert said in str(result.error)
    assert not flowy.requests("POST")


@pytest.mark.parametrize("photos", [ONE, [ONE], [ONE, TWO], [ONE, TWO, ONE, TWO]])
async def test_one_value_counts_as_one(flowy: Served, photos: Any) -> None:
    run = await flowy.client.run("collage", {"title": "Us", "your-photos": photos})
    assert run.status == "completed"
    assert sent(flowy)["inputs"][1] == {"node_id": "your-photos", "asset_url": photos}


async def test_an_empty_list_is_nothing_where_nothing_is_enough(flowy: Served) -> None:
    await flowy.client.run("collage", {**BY_NAME, "captions": []})
    assert sent(flowy) == {"inputs": ENTRIES}
    spec = FlowyInput(node_id="n", kind="text", required=True, arity=FlowyArity(max=3))
    with pytest.raises(errors.InvalidArgumentError, match="is missing"):
        FlowyApp(inputs=[spec]).fit({"n": []})


@pytest.mark.parametrize(
    ("arity", "few", "many"),
    [
        ({"min": 2, "max": 3}, 1, 4),
        ({"min": 2}, 1, None),
        ({"max": 3}, None, 4),
        ({"min": 2, "max": None}, 1, None),
        ({"min": "two", "max": 3}, None, 4),
        ({}, None, None),
        (True, None, None),
        ("2..3", None, None),
    ],
)
async def test_limits_are_those_that_are_told(
    flowy: Served, arity: Any, few: int | None, many: int | None
) -> None:
    spec = {"nodeId": "n", "name": "x", "label": "X", "kind": "text", "arity": arity}
    flowy.emulator.script(Fault(body={"data": {"id": "a", "inputs": [spec]}}))
    app = await flowy.client.apps.get("a")
    for count in (few, many):
        if count is not None:
            with pytest.raises(errors.InvalidArgumentError, match=f"values, not {count}"):
                app.fit({"x": ["a"] * count})
    assert app.fit({"x": ["a"] * 2}) == {"n": ["a"] * 2}
    assert app.fit({"x": ["a"] * 3}) == {"n": ["a"] * 3}


def test_limits_are_told_in_words() -> None:
    for arity, said in (
        (FlowyArity(min=1, max=4), "1 to 4 values"),
        (FlowyArity(max=4), "0 to 4 values"),
        (FlowyArity(min=2), "2 or more values"),
        (FlowyArity(), "0 or more values"),
    ):
        assert str(arity) == said


def test_a_kind_that_is_new_takes_a_list_as_it_takes_anything() -> None:
    app = FlowyApp(inputs=[FlowyInput(node_id="n", kind="number")])
    assert app.fit({"n": [1, 2]}) == {"n": [1, 2]}
    assert app.body({"n": [1, 2]}) == {"inputs": {"n": [1, 2]}}


# --- what inputs and outputs are called ------------------------------------------------------


def test_a_name_may_not_stand_for_several_inputs() -> None:
    app = FlowyApp(
        inputs=[
            FlowyInput(node_id="n1", name="a-text", label="Text"),
            FlowyInput(node_id="n2", name="text", label="Other"),
            FlowyInput(node_id="n3", name="b-text", label="Text"),
            FlowyInput(node_id="text-1", label="b-text"),
        ]
    )
    assert app.fit({"text": "x"}) == {"n2": "x"}
    assert app.fit({"b-text": "x"}) == {"n3": "x"}
    with pytest.raises(errors.InvalidArgumentError, match="use one of a-text, b-text"):
        app.fit({"Text": "x"})
    with pytest.raises(errors.InvalidArgumentError, match="given twice"):
        app.fit({"text": "x", "n2": "y"})
    with pytest.raises(errors.InvalidArgumentError, match="none of its inputs"):
        app.fit({"  ": "x"})


@pytest.mark.parametrize("name", ["the-collage", "The collage", "THE COLLAGE ", "collage-1"])
async def test_an_output_is_found_by_its_name_label_or_node(flowy: Served, name: str) -> None:
    run = await flowy.client.run("collage", BY_NAME)
    found = run.output(name)
    assert (found.node_id, found.name, found.label) == ("collage-1", "the-collage", "The collage")
    assert "name='the-collage'" in repr(found)
    async with flowy.client.map("collage", [BY_NAME]) as results:
        async for result in results:
            assert result.unwrap().output(name).kind == "image"


@pytest.mark.parametrize("check", [True, False])
async def test_an_app_at_hand_tells_the_labels_of_what_it_makes(
    serve: Serve, flowy: Served, check: bool
) -> None:
    app = await flowy.client.apps.get("collage")
    other = await serve()
    run = await other.client.run(app, BY_NAME, check=check)
    assert run.output("the collage").label == "The collage"
    assert not other.requests("GET", "/apps")
    await other.client.runs.start("collage", BY_NAME)  # what is at hand may be old
    assert len(other.requests("GET", "/apps")) == 1


async def test_a_node_that_the_app_does_not_tell_of_has_no_label(flowy: Served) -> None:
    await flowy.client.apps.get("haiku")
    outputs = [{"nodeId": "text-1", "name": "own", "label": "Own"}, {"nodeId": "text-2"}]
    told = {"runId": "r", "appId": "haiku", "status": "completed", "outputs": outputs}
    flowy.emulator.script(Fault(body={"data": told}))
    run = await flowy.client.runs.get("r")
    assert [(one.name, one.label) for one in run.outputs] == [("own", "Own"), (None, None)]


async def test_an_app_without_names_has_labels(flowy: Served) -> None:
    run = await flowy.client.run("poster", {"Slogan": "Fresh"})
    assert run.output("text").text == "FRESH"
    assert run.output("Poster").name is None
    kept = msgspec.json.decode(msgspec.json.encode(run), type=FlowyRun)
    assert kept.output("Text").text == "FRESH"


async def test_without_the_app_names_and_node_ids_are_known(serve: Serve, flowy: Served) -> None:
    started = await flowy.client.run("collage", BY_NAME)
    flowy.client._shared.schemas.clear()
    run = await flowy.client.runs.get(started.run_id)
    assert run.output("the-collage").label is None
    assert run.output("The Collage").node_id == "collage-1"  # its name is the label in kebab case
    poster = await flowy.client.run("poster", {"text-1": "Fresh"}, check=False)
    with pytest.raises(errors.OutputMissingError, match=r"out-1, out-2; labels .*apps\.get\(\)"):
        poster.output("Poster")
    await flowy.client.apps.get("poster")
    again = await flowy.client.runs.wait(poster.run_id)
    assert again.output("Poster").node_id == "out-1"


def test_an_output_that_is_not_there_is_told_with_those_that_are() -> None:
    outputs = [FlowyOutput(node_id="n1", name="one", label="One"), FlowyOutput(node_id="n2")]
    run = FlowyRun(run_id="r", status="completed", outputs=outputs)
    with pytest.raises(errors.OutputMissingError) as caught:
        run.output("nope")
    assert str(caught.value) == (
        "run r has not one output of node nope; its outputs are of: one, n2"
    )
    assert (caught.value.run_id, caught.value.run) == ("r", run)
    with pytest.raises(errors.OutputMissingError, match="are of: none"):
        FlowyRun(run_id="r", status="completed").output()
