"""Inputs are compared with what the app takes, before anything is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import FlowyApp, FlowyInput, errors
from dynamiq_async.emulator import Fault
from dynamiq_async.flowy import requests

if TYPE_CHECKING:
    from .conftest import Serve, Served

LISTED = "It takes 'Slogan' (text-1, text, required), 'Photo' (image-1, image_url)"


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "'Slogan' (text-1, text, required) is missing"),
        ({"text-1": None}, "'Slogan' (text-1, text, required) is missing"),
        ({"Slogan": "a", "nope": "b"}, "'nope' is none of its inputs"),
        ({"Slogan": "a", "text-1": "b"}, "'Slogan' (text-1, text, required) is given twice"),
        ({"Slogan": 3}, "'Slogan' (text-1, text, required) must be a string, not int"),
        ({"Slogan": "a", "Photo": "a cat"}, "must be the URL of an image, not 'a cat'"),
        ({"Slogan": "a", "Photo": "/tmp/cat.png"}, "must be the URL of an image"),
        ({"Slogan": "a", "Photo": b"\x89PNG" * 99}, "must be the URL of an image, not b'"),
    ],
)
async def test_what_does_not_fit_is_refused_with_what_the_app_takes(
    flowy: Served, inputs: dict[str, Any], said: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await flowy.client.run("poster", inputs)
    assert said in str(caught.value)
    assert LISTED in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.argument == "inputs"
    assert not flowy.requests("POST")


async def test_all_that_is_wrong_is_said_at_once(flowy: Served) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"none of its.*; .*URL.*; .*missing"):
        await flowy.client.run("poster", {"x": "y", "Photo": "z"})


@pytest.mark.parametrize(
    "url",
    ["https://example.com/cat.png", "http://h/c?x=1#y", "data:image/png;base64,AA", "gs://b/c"],
)
async def test_labels_stand_for_nodes_and_urls_for_media(flowy: Served, url: str) -> None:
    await flowy.client.run("poster", {" slogan": "Fresh", "PHOTO": url})
    (post,) = flowy.requests("POST")
    assert post.json == {"inputs": {"text-1": "Fresh", "image-1": url}}


def test_a_label_of_several_inputs_is_no_name() -> None:
    app = FlowyApp(
        id="a",
        inputs=[FlowyInput(node_id=f"n{i}", label="Text", kind="text") for i in (1, 2)],
    )
    with pytest.raises(errors.InvalidArgumentError, match="label of several inputs: use one of n1"):
        app.fit({"Text": "x"})
    assert app.fit({"n2": "x"}) == {"n2": "x"}


def test_a_node_id_wins_over_a_label() -> None:
    app = FlowyApp(inputs=[FlowyInput(node_id="n1", label="n2"), FlowyInput(node_id="n2")])
    assert app.fit({"n2": "x"}) == {"n2": "x"}


def test_an_app_without_inputs_takes_none() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="It takes no inputs") as caught:
        FlowyApp(inputs=[]).fit({"x": "y"})
    assert "an app without a name" in str(caught.value)


def test_kinds_that_are_new_take_anything() -> None:
    app = FlowyApp(title="T", inputs=[FlowyInput(node_id="n", kind="number")])
    assert app.fit({"n": 3}) == {"n": 3}


async def test_where_nothing_is_known_everything_is_sent(flowy: Served) -> None:
    shown = {"data": {"id": "haiku", "title": "Haiku"}}
    flowy.emulator.script(Fault(body=shown), match="GET /apps/*")
    assert (await flowy.client.run("haiku", {"topic-1": "x"})).is_terminal


async def test_unchecked_inputs_are_sent_as_they_are(flowy: Served) -> None:
    with pytest.raises(errors.BadRequestError, match="Invalid input: nope"):
        await flowy.client.run("haiku", {"nope": "x"}, check=False)
    with pytest.raises(errors.BadRequestError, match="Missing input: topic-1"):
        await flowy.client.runs.start("haiku", None, check=False)
    assert not flowy.requests("GET")


@pytest.mark.parametrize("inputs", ["text", ["x"], 3])
async def test_inputs_are_a_mapping(flowy: Served, inputs: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="inputs must be a mapping"):
        await flowy.client.run("haiku", inputs)
    assert not flowy.emulator.requests.total


async def test_more_can_be_sent_than_is_foreseen(flowy: Served) -> None:
    await flowy.client.run("haiku", {"Topic": "x"}, extra_body={"priority": "low"})
    (post,) = flowy.requests("POST")
    assert post.json == {"inputs": {"topic-1": "x"}, "priority": "low"}


async def test_what_an_app_takes_is_asked_once_for_all(flowy: Served) -> None:
    runs = [flowy.client.run("haiku", {"Topic": "x"}) for _ in range(8)]
    await asyncio.gather(*runs)
    await flowy.client.runs.start("haiku", {"Topic": "x"})
    assert len(flowy.requests("GET", "/apps")) == 1


async def test_it_is_known_by_id_and_slug(flowy: Served) -> None:
    await flowy.client.apps.get("product-poster")
    await flowy.client.runs.start("poster", {"Slogan": "x"})
    assert len(flowy.requests("GET", "/apps")) == 1


async def test_an_app_at_hand_costs_no_request(flowy: Served) -> None:
    app = await flowy.client.apps.get("haiku")
    async with flowy.client.with_options():
        flowy.client._shared.schemas.clear()
        await flowy.client.run(app, {"Topic": "x"})
    assert len(flowy.requests("GET", "/apps")) == 1
    listed = (await flowy.client.apps.list()).data[0]
    await flowy.client.run(listed, {"Topic": "x"})
    assert [seen.endpoint for seen in flowy.requests("GET", "/apps")][1:] == [
        "/apps",
        "/apps/haiku",
    ]


async def test_an_app_that_changed_is_looked_at_again_before_inputs_are_refused(
    flowy: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {"id": "haiku", "inputs": []}
    flowy.emulator.script(Fault(body={"data": shown}), match="GET /apps/*")
    await flowy.client.apps.get("haiku")
    with pytest.raises(errors.InvalidArgumentError):
        await flowy.client.run("haiku", {"Topic": "x"})
    monkeypatch.setattr(requests, "SCHEMA_RECHECK_SECONDS", 0.0)
    await flowy.client.run("haiku", {"Topic": "x"})
    assert len(flowy.requests("GET", "/apps")) == 2


async def test_what_was_learned_long_ago_is_learned_again(
    flowy: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await flowy.client.runs.start("haiku", {"Topic": "x"})
    monkeypatch.setattr(requests, "SCHEMA_SECONDS", 0.0)
    await flowy.client.runs.start("haiku", {"Topic": "x"})
    assert len(flowy.requests("GET", "/apps")) == 2


async def test_only_so_many_apps_are_remembered(
    flowy: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MAX_SCHEMAS", 2)
    for app in ("haiku", "clip", "broken"):
        await flowy.client.apps.get(app)
    assert list(flowy.client._shared.schemas) == ["clip", "broken"]


async def test_an_app_that_is_not_there_is_reported_by_the_start(flowy: Served) -> None:
    with pytest.raises(errors.NotFoundError, match="App not found") as caught:
        await flowy.client.run("nope", {})
    assert caught.value.method == "POST"


@pytest.mark.parametrize("status", [403, 404])
async def test_a_key_may_run_an_app_that_it_may_not_see(flowy: Served, status: int) -> None:
    hidden = Fault(status=status, body={"error": "not for publishable keys"})
    flowy.emulator.script(hidden, match="GET /apps/*", times=None)
    for _ in range(2):
        run = await flowy.client.run("haiku", {"topic-1": "x"})
        assert run.status == "completed"
    assert len(flowy.requests("GET", "/apps")) == 1


@pytest.mark.parametrize("fault", [Fault(status=500), Fault.html_page(200)])
async def test_where_the_service_is_ill_nothing_is_started_unchecked(
    serve: Serve, fault: Fault
) -> None:
    flowy = await serve(max_retries=0)
    flowy.emulator.script(fault, match="GET /apps/*")
    with pytest.raises((errors.InternalServerError, errors.ContentTypeError)):
        await flowy.client.run("haiku", {"Topic": "x"})
    assert not flowy.requests("POST")


async def test_a_deadline_holds_for_learning_too(flowy: Served) -> None:
    flowy.emulator.script(Fault(delay=60), match="GET /apps/*")
    first = asyncio.create_task(flowy.client.run("haiku", {"Topic": "x"}))
    await flowy.emulator.wait_for_requests(1)
    with pytest.raises(errors.APITimeoutError, match="'haiku' takes was not told in time"):
        await flowy.client.run("haiku", {"Topic": "x"}, timeout=0.02)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await flowy.client.run("haiku", {"Topic": "x"})).is_terminal
