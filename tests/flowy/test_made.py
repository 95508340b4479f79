"""Generations, credits and assets, and links that are renewed by assets."""

from __future__ import annotations

import asyncio
import itertools
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncFlowy, FlowyCredits, FlowyGeneration, errors
from dynamiq_async.emulator import Fault, FlowyApp, FlowyContent, RequestRecord
from dynamiq_async.flowy import requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Serve, Served

POSTER = {"text-1": "Fresh"}


# --- generations -----------------------------------------------------------------------------


async def test_a_generation_is_started_and_waited_for(flowy: Served, tmp_path: Path) -> None:
    made = await flowy.client.generations.run("image", "a cat")
    assert (made.status, made.is_terminal, made.credits_charged) == ("completed", True, 10)
    [output] = made.unwrap()
    assert made.output() is output
    assert (output.kind, output.node_id, output.asset_id) == (
        "image",
        "",
        f"{made.generation_id}-1",
    )
    assert (await output.read()).endswith(b"a cat")
    assert (await output.save(tmp_path)).name == "image.png"
    assert output.url is not None
    assert "signature" not in repr(made)
    (post,) = flowy.requests("POST")
    assert (post.endpoint, post.json) == ("/generations", {"type": "image", "prompt": "a cat"})


async def test_it_is_told_what_is_documented_and_more(flowy: Served) -> None:
    options: dict[str, Any] = {
        "model": "m",
        "input_media": ["https://h/1.png"],
        "aspect_ratio": "16:9",
        "resolution": "1080p",
        "duration_seconds": 8,
    }
    extra = {"seed": 7}
    await flowy.client.generations.start("video", "rain", **options, extra_body=extra)
    (post,) = flowy.requests("POST")
    assert post.json == {"type": "video", "prompt": "rain", **options, **extra}
    await flowy.client.generations.start("video", "rain", model=None)
    assert flowy.requests("POST")[-1].json == {"type": "video", "prompt": "rain"}


async def test_a_generation_can_be_started_and_left_alone(flowy: Served) -> None:
    flowy.service.generation_seconds = 5
    made = await flowy.client.generations.start("image", "a cat")
    assert made == FlowyGeneration(generation_id=made.generation_id, estimated_credits=10)
    with pytest.raises(errors.RunError, match=r"generation .* is not over, it is processing"):
        made.unwrap()
    assert (await flowy.client.generations.get(made.generation_id)).status == "processing"
    assert (await flowy.client.credits()).blocked_credits == 10
    waiting = asyncio.create_task(flowy.client.generations.wait(made.generation_id))
    await flowy.emulator.wait_until(lambda: len(flowy.requests("GET", "/generations")) >= 3)
    flowy.clock.time += 5
    assert (await waiting).status == "completed"


async def test_a_generation_that_failed_is_a_value_and_says_why(flowy: Served) -> None:
    made = await flowy.client.generations.run("image", "fail")
    assert made.status == "failed"
    with pytest.raises(errors.RunFailedError, match=r"generation .* failed: .*out of id") as caught:
        made.unwrap()
    assert caught.value.run is made
    assert caught.value.run_id == made.generation_id
    assert (await flowy.client.credits()).credits == flowy.service.credits  # they came back


async def test_one_that_does_not_end_is_given_up_with_its_id(flowy: Served) -> None:
    flowy.service.generation_seconds = 60
    with pytest.raises(errors.APITimeoutError) as caught:
        await flowy.client.generations.run("image", "a cat", timeout=2)
    (id,) = flowy.service.generations
    assert caught.value.run_id == id
    assert f"generation {id} was not over within 2 s; its status is processing" in str(caught.value)
    assert f"flowy.generations.wait('{id}')" in str(caught.value)


async def test_a_run_and_a_generation_of_one_id_are_two(flowy: Served) -> None:
    over = {"status": "completed", "outputs": []}
    flowy.emulator.script(Fault(body={"data": {"runId": "x", **over}}), match="GET /runs/*")
    made = {"generationId": "x", **over}
    flowy.emulator.script(Fault(body={"data": made}), match="GET /generations/*")
    run, generation = await asyncio.gather(
        flowy.client.runs.wait("x"), flowy.client.generations.wait("x")
    )
    assert (run.run_id, generation.generation_id) == ("x", "x")


async def test_generations_are_among_the_runs_in_flight(serve: Serve) -> None:
    flowy = await serve(max_runs=1)
    flowy.service.generation_seconds = 60
    first = asyncio.create_task(flowy.client.generations.run("image", "a cat"))
    await flowy.emulator.wait_until(lambda: flowy.service.generations)
    with pytest.raises(errors.APITimeoutError, match="no run was started"):
        await flowy.client.run("haiku", {"topic-1": "x"}, timeout=0.02, check=False)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert flowy.client._shared.runs.in_flight == 0


async def test_a_generation_is_never_started_twice(flowy: Served) -> None:
    flowy.emulator.script(Fault(executes=True, drop="close"), match="POST *", times=2)
    with pytest.raises(errors.AmbiguousOutcomeError):
        await flowy.client.generations.run("image", "a cat")
    assert len(flowy.service.generations) == 1
    await flowy.client.generations.run("image", "a cat", retry=True)
    assert len(flowy.service.generations) == 3


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda made: made.run("", "x"), "type"),
        (lambda made: made.start("image", ""), "prompt"),
        (lambda made: made.start("image", 3), "prompt"),
        (lambda made: made.get(""), "generation_id"),
        (lambda made: made.wait(None), "generation_id"),
        (lambda made: made.wait("g", timeout=0), "timeout"),
        (lambda made: made.run("image", "x", timeout=-1), "timeout"),
    ],
)
async def test_wrong_arguments_send_nothing(
    flowy: Served, call: Callable[[Any], Any], argument: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await call(flowy.client.generations)
    assert caught.value.argument == argument
    assert not flowy.emulator.requests.total


async def test_what_is_not_foreseen_comes_through(flowy: Served) -> None:
    told = {
        "generationId": "g",
        "status": "completed",
        "creditsCharged": "many",
        "outputs": [{"kind": "scent", "assetId": 3}, "odd"],
        "error": 0,
    }
    flowy.emulator.script(Fault(body={"data": told}), Fault(body={"data": {"id": "g"}}))
    made = await flowy.client.generations.get("g")
    assert (made.credits_charged, len(made.outputs)) == (None, 1)
    assert (made.output().kind, made.output().asset_id) == ("scent", None)
    with pytest.raises(errors.ResponseDecodeError):
        await flowy.client.generations.get("g")


async def test_its_only_output_may_be_several(flowy: Served) -> None:
    outputs = [{"kind": "image", "assetId": "a-1"}, {"kind": "image"}, {}]
    told = {"generationId": "g", "status": "completed", "outputs": outputs}
    flowy.emulator.script(Fault(body={"data": told}))
    with pytest.raises(errors.OutputMissingError) as caught:
        (await flowy.client.generations.get("g")).output()
    assert str(caught.value) == (
        "generation g has not the only output; its outputs are of: asset a-1, image, an output"
    )
    assert caught.value.run_id == "g"


async def test_the_error_of_a_generation_does_not_repeat_the_key(flowy: Served) -> None:
    key = flowy.emulator.flowy_key
    told = {"generationId": "g", "status": "failed", "error": f"refused: Bearer {key}"}
    flowy.emulator.script(Fault(body={"data": told}))
    made = await flowy.client.generations.get("g")
    assert key not in repr(made)
    assert "refused: Bearer" in str(made.error)


# --- credits ---------------------------------------------------------------------------------


async def test_credits_are_told(flowy: Served) -> None:
    flowy.service.credits = 100
    await flowy.client.run("haiku", {"Topic": "x"})
    await flowy.client.runs.start("clip", {"Scene": "x"})
    assert await flowy.client.credits() == FlowyCredits(
        workspace_id="workspace-1", credits=90, blocked_credits=10, available=80
    )


async def test_credits_may_be_wrapped_or_not(flowy: Served) -> None:
    told = {"workspaceId": 7, "credits": 2.5, "available": None}
    flowy.emulator.script(Fault(body=told), Fault(body={"data": told}), Fault(body={"data": 3}))
    for _ in range(2):
        assert await flowy.client.credits() == FlowyCredits(credits=2.5)
    with pytest.raises(errors.ResponseDecodeError, match="credits"):
        await flowy.client.credits()


# --- assets ----------------------------------------------------------------------------------


async def test_assets_are_listed_page_by_page_or_one_by_one(flowy: Served) -> None:
    for number in range(5):
        await flowy.client.generations.run("image", f"picture {number}")
    page = await flowy.client.assets.list(page_size=2)
    assert (page.pagination.page_count, page.pagination.total_count) == (3, 5)
    assert (page.pagination.page, page.pagination.page_size, page.has_next) == (1, 2, True)
    assets = [asset async for asset in flowy.client.assets.list(page_size=2)]
    assert [await asset.output.read() for asset in assets] == [
        b"\x89PNG\r\n\x1a\npicture %d" % number for number in (4, 3, 2, 1, 0)
    ]
    first = assets[0]
    assert (first.kind, first.name, first.created_at) == (
        "image",
        "image.png",
        "2027-01-15T08:00:00Z",
    )
    assert first.data["assetId"] == first.id
    assert first.url is not None
    assert "signature" not in repr(first)
    assert [asset.id for asset in await flowy.client.assets.list(page=2, page_size=2)] == [
        asset.id for asset in assets[2:4]
    ]
    assert dict(flowy.emulator.requests[-1].query) == {"page": "2", "pageSize": "2"}
    assert (await flowy.client.assets.get(first.id or "")).id == first.id


@pytest.mark.parametrize("wrong", [{"page": 0}, {"page_size": 0}])
def test_pages_are_counted_from_one(wrong: dict[str, int]) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        AsyncFlowy("k").assets.list(**wrong)
    assert caught.value.argument == next(iter(wrong))


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ({"data": {"assets": [{"id": "a"}, {"_id": "b"}]}}, ["a", "b"]),
        ({"assets": [{"assetId": "a", "id": "no"}], "total": "x"}, ["a"]),
        ({"data": [{"id": 3}]}, [None]),
        ({"data": {"assets": None}}, []),
    ],
)
async def test_lists_of_other_shapes_are_read(
    flowy: Served, body: Any, ids: list[str | None]
) -> None:
    flowy.emulator.script(Fault(body=body))
    assert [asset.id for asset in await flowy.client.assets.list()] == ids


@pytest.mark.parametrize("body", [{"data": 3}, {"data": {}}, {"data": {"assets": [3]}}])
async def test_a_list_that_is_none_is_an_error(flowy: Served, body: Any) -> None:
    flowy.emulator.script(Fault(body=body))
    with pytest.raises(errors.ResponseDecodeError, match="assets"):
        await flowy.client.assets.list()


async def test_an_unknown_asset_is_not_found(flowy: Served) -> None:
    with pytest.raises(errors.NotFoundError, match="Asset not found"):
        await flowy.client.assets.get("nope")
    with pytest.raises(errors.InvalidArgumentError):
        await flowy.client.assets.get("")


async def test_an_asset_without_a_link_says_so(flowy: Served) -> None:
    flowy.emulator.script(Fault(body={"data": {"id": "a", "kind": "image"}}))
    asset = await flowy.client.assets.get("a")
    with pytest.raises(errors.OutputMissingError, match="asset a of asset a has neither"):
        await asset.output.read()
    with pytest.raises(errors.OutputMissingError, match=r"flowy\.assets\.get"):
        await pickle.loads(pickle.dumps(asset)).output.read()


# --- links that expire -----------------------------------------------------------------------


async def expired(flowy: Served, *, renews: bool = False) -> bytes:
    """The content of a poster whose link has expired."""
    flowy.service.renews_links = renews
    output = (await flowy.client.run("poster", POSTER)).output("Poster")
    assert output.asset_id is None
    flowy.clock.time += 601
    return await output.read()


async def test_a_link_is_renewed_by_the_asset_where_the_run_has_no_other(flowy: Served) -> None:
    assert (await expired(flowy)).endswith(b"Fresh")
    asked = [seen.endpoint for seen in flowy.requests("GET")]
    assert asked[-1] == "/assets"
    assert asked[-2].startswith("/runs/")
    assert [seen.status for seen in flowy.downloads] == [403, 200]


async def test_assets_are_not_asked_where_the_run_has_another(flowy: Served) -> None:
    assert (await expired(flowy, renews=True)).endswith(b"Fresh")
    assert not flowy.requests("GET", "/assets")


async def test_the_links_of_generations_and_assets_are_renewed_by_the_id(flowy: Served) -> None:
    flowy.service.renews_links = False
    made = await flowy.client.generations.run("image", "a cat")
    [asset] = await flowy.client.assets.list()
    flowy.clock.time += 601
    assert (await made.output().read()).endswith(b"a cat")
    assert (await asset.output.read()).endswith(b"a cat")
    assert [seen.endpoint for seen in flowy.requests("GET", "/assets/")] == [
        f"/assets/{asset.id}"
    ] * 2


async def test_a_fresh_link_that_is_refused_too_is_not_the_last_word(flowy: Served) -> None:
    flowy.service.renews_links = True
    output = (await flowy.client.run("poster", POSTER)).output("Poster")
    ticks = itertools.count(flowy.clock.time + 601)
    flowy.service.clock = lambda: next(ticks)  # so that no two links are the same

    def links(seen: RequestRecord) -> bool:
        return seen.service == "flowy-files"

    flowy.emulator.script(Fault(), Fault(status=403), match=links)
    assert (await output.read()).endswith(b"Fresh")
    assert [seen.status for seen in flowy.downloads] == [403, 403, 200]
    flowy.emulator.script(Fault(status=403), Fault(status=403), Fault(status=403), match=links)
    with pytest.raises(errors.PermissionDeniedError, match="no other was found"):
        await output.read()
    flowy.emulator.script(Fault(status=403), Fault(status=418), match=links)
    with pytest.raises(errors.APIStatusError) as caught:
        await output.read()
    assert caught.value.status == 418


async def test_a_key_that_may_not_read_assets_gets_the_links_own_error(flowy: Served) -> None:
    flowy.service.scopes[flowy.service.key] = frozenset({"apps:read", "runs:read", "runs:write"})
    with pytest.raises(errors.PermissionDeniedError, match="has expired or is refused"):
        await expired(flowy)


async def test_the_asset_is_looked_for_on_some_pages_and_no_more(
    flowy: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowy.service.renews_links = False
    flowy.service.limits[flowy.service.key] = 10_000
    many = {f"n{number}": FlowyContent(content=b"x") for number in range(50)}
    flowy.service.apps["many"] = FlowyApp(id="many", title="Many", make=lambda _: many)
    run = await flowy.client.run("many", check=False)
    first, last = run.outputs[0], run.outputs[-1]
    flowy.clock.time += 601
    assert await first.read() == b"x"
    assert [seen.query["page"] for seen in flowy.requests("GET", "/assets")] == ["1", "2", "3"]
    monkeypatch.setattr(requests, "ASSET_PAGES", 1)
    assert await last.read() == b"x"
    with pytest.raises(errors.PermissionDeniedError, match="no other was found"):
        await first.read()


async def test_an_asset_that_is_gone_is_not_looked_for_for_ever(flowy: Served) -> None:
    flowy.emulator.script(Fault(body={"data": {"assets": []}}), match="GET /assets")
    with pytest.raises(errors.PermissionDeniedError, match="no other was found"):
        await expired(flowy)
    assert len(flowy.requests("GET", "/assets")) == 1
