"""What the contract says of Flowy, each fact through the public API."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import AsyncFlowy, FlowyApp, FlowyInput, FlowyRun, errors
from dynamiq_async.emulator import Emulator, Fault
from dynamiq_async.options import Adaptive

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Serve, Served

POSTER = {"text-1": "Fresh"}


def contents(folder: Path) -> bytes:
    """What all files of a folder hold."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


# --- settings --------------------------------------------------------------------------------


async def test_key_and_address_come_from_the_environment(
    flowy: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWY_KEY", flowy.emulator.flowy_key)
    monkeypatch.setenv("FLOWY_API", flowy.emulator.flowy_url + "/")
    async with AsyncFlowy() as client:
        assert client.url == flowy.emulator.flowy_url
        assert len(await client.apps.list()) == 5


def test_without_an_address_it_is_the_vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWY_API", raising=False)
    assert AsyncFlowy("k").url == "https://apis.tryflowy.ai/genstudio-svc-v2/api/v1"


def test_without_a_key_it_says_where_one_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWY_KEY", raising=False)
    with pytest.raises(errors.InvalidArgumentError, match="FLOWY_KEY") as caught:
        AsyncFlowy()
    assert caught.value.argument == "api_key"


@pytest.mark.parametrize("key", ["sk", "anything-at-all", "dyn_pat_x", "pk_1"])
async def test_a_key_of_any_prefix_is_sent(flowy: Served, key: str) -> None:
    flowy.service.key = key
    async with AsyncFlowy(key, flowy.emulator.flowy_url) as client:
        await client.apps.list()
    assert flowy.emulator.requests[-1].headers["Authorization"] == f"Bearer {key}"


async def test_no_key_is_sent_where_none_is_wanted(serve: Serve) -> None:
    flowy = await serve(api_key=False)
    with pytest.raises(errors.AuthenticationError, match="FLOWY_KEY"):
        await flowy.client.apps.list()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_runs": 0},
        {"max_downloads": 0},
        {"max_runs": "many"},
        {"base_url": "http://flowy.example"},
        {"api_key": ""},
        {"max_retry_after": -1},
    ],
)
def test_settings_that_cannot_be_used_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        AsyncFlowy(**{"api_key": "key", **wrong})
    assert caught.value.argument == next(iter(wrong))


async def test_a_pickled_client_takes_the_key_of_where_it_comes_to(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowy = await serve(max_runs=Adaptive(max=3), headers={"X-Team": "a", "Cookie": "s=1"})
    pickled = pickle.dumps(flowy.client)
    assert flowy.emulator.flowy_key.encode() not in pickled
    monkeypatch.setenv("FLOWY_KEY", flowy.emulator.flowy_key)
    async with pickle.loads(pickled) as copy:
        run = await copy.run("haiku", {"Topic": "a frog"})
        assert run.unwrap()
        assert copy._shared.runs.max_limit == 3
    assert flowy.emulator.requests[-1].headers["X-Team"] == "a"
    assert "Cookie" not in flowy.emulator.requests[-1].headers
    monkeypatch.delenv("FLOWY_KEY")
    async with pickle.loads(pickled) as keyless:
        with pytest.raises(errors.AuthenticationError):
            await keyless.apps.list()


async def test_a_view_shares_what_its_client_knows(flowy: Served) -> None:
    view = flowy.client.with_options(max_retries=0)
    await flowy.client.apps.get("haiku")
    await view.run("haiku", {"Topic": "a frog"})
    await view.aclose()
    await flowy.client.run("haiku", {"Topic": "a frog"})
    assert len(flowy.requests("GET", "/apps")) == 1


async def test_a_client_that_is_dropped_open_warns_and_closes(flowy: Served) -> None:
    client = AsyncFlowy(flowy.emulator.flowy_key, flowy.emulator.flowy_url)
    run = await client.run("poster", POSTER)
    await run.output("out-1").read()
    del run
    with pytest.warns(ResourceWarning, match="never closed"):
        del client
    await flowy.emulator.wait_until(lambda: not flowy.emulator.open_connections)


# --- apps ------------------------------------------------------------------------------------


async def test_apps_are_listed_as_a_page_and_one_by_one(flowy: Served) -> None:
    page = await flowy.client.apps.list()
    haiku = page.data[0]
    assert (haiku.id, haiku.slug, haiku.title) == ("haiku", "haiku", "Haiku")
    assert (haiku.published, haiku.run_count) == (True, 0)
    assert haiku.thumbnail_url == "https://cdn.example/haiku.png"
    assert (haiku.inputs, haiku.outputs) == (None, None)
    assert [app async for app in flowy.client.apps.list()] == page.data
    assert len(flowy.requests("GET")) == 2


async def test_an_app_has_inputs_and_outputs(flowy: Served) -> None:
    app = await flowy.client.apps.get("poster")
    assert app.inputs == [
        FlowyInput(node_id="text-1", label="Slogan", kind="text", required=True),
        FlowyInput(node_id="image-1", label="Photo", kind="image_url", required=False),
    ]
    assert app.outputs is not None
    assert [(o.node_id, o.label, o.output_type) for o in app.outputs] == [
        ("out-1", "Poster", "image"),
        ("out-2", "Text", "text"),
    ]


async def test_an_unknown_app_is_not_found(flowy: Served) -> None:
    with pytest.raises(errors.NotFoundError, match="App not found"):
        await flowy.client.apps.get("nope")


async def test_what_is_not_foreseen_comes_through(flowy: Served) -> None:
    apps = [
        {"id": "a", "runCount": "many", "future": 1, "inputs": [{"nodeId": "n", "kind": "smell"}]},
        {"id": 7, "outputs": [{"nodeId": "n", "outputType": "hologram", "label": 3}, "odd"]},
        {},
    ]
    flowy.emulator.script(Fault(body={"data": apps}))
    first, second, third = await flowy.client.apps.list()
    assert first.run_count is None
    assert first.inputs == [FlowyInput(node_id="n", kind="smell")]
    assert second.id is None
    assert second.outputs is not None
    assert (second.outputs[0].output_type, second.outputs[0].label) == ("hologram", None)
    assert third == FlowyApp()


async def test_an_empty_list_may_be_null(flowy: Served) -> None:
    flowy.emulator.script(Fault(body={"data": None}))
    assert list(await flowy.client.apps.list()) == []


async def test_a_response_that_is_no_app_is_an_error(flowy: Served) -> None:
    flowy.emulator.script(Fault(body={"data": 3}), Fault(body={"data": [3]}))
    with pytest.raises(errors.ResponseDecodeError):
        await flowy.client.apps.get("poster")
    with pytest.raises(errors.ResponseDecodeError):
        await flowy.client.apps.list()


@pytest.mark.parametrize("id", ["", None, 3])
async def test_an_id_that_is_none_is_refused_before_anything_is_sent(
    flowy: Served, id: Any
) -> None:
    for call in (
        flowy.client.apps.get(id),
        flowy.client.runs.get(id),
        flowy.client.runs.wait(id),
        flowy.client.run(id),
        flowy.client.runs.start(id),
        flowy.client.run(FlowyApp()),
    ):
        with pytest.raises(errors.InvalidArgumentError):
            await call
    assert flowy.emulator.requests.total == 0


# --- runs ------------------------------------------------------------------------------------


async def test_a_run_is_started_and_waited_for(flowy: Served) -> None:
    run = await flowy.client.run("poster", POSTER)
    assert (run.status, run.app_id, run.app_title) == ("completed", "poster", "Product poster")
    assert run.is_terminal
    assert run.created_at == run.updated_at == "2027-01-15T08:00:00Z"
    image, text = run.unwrap()
    assert (image.node_id, image.kind, image.text) == ("out-1", "image", None)
    assert (text.node_id, text.kind, text.text, text.url) == ("out-2", "text", "FRESH", None)
    (post,) = flowy.requests("POST")
    assert post.endpoint == "/apps/poster/runs"
    assert post.json == {"inputs": {"text-1": "Fresh"}}


async def test_a_run_can_be_started_and_left_alone(flowy: Served) -> None:
    for run in (
        await flowy.client.runs.start("clip", POSTER),
        await flowy.client.run("clip", POSTER, wait=False),
    ):
        assert run == FlowyRun(run_id=run.run_id, status="queued")
        assert not run.is_terminal
        with pytest.raises(errors.RunError, match="not over"):
            run.unwrap()


async def test_a_run_is_queued_then_running_then_completed(flowy: Served) -> None:
    flowy.service.queue_seconds = 2
    run = await flowy.client.runs.start("clip", POSTER)
    seen = []
    for _ in range(3):
        seen.append((await flowy.client.runs.get(run.run_id)).status)
        flowy.clock.time += 5
    assert seen == ["queued", "running", "completed"]


async def test_waiting_polls_until_the_run_is_over(flowy: Served) -> None:
    run = await flowy.client.runs.start("clip", POSTER)
    waiting = asyncio.create_task(flowy.client.runs.wait(run.run_id))
    await flowy.emulator.wait_until(lambda: len(flowy.requests("GET", "/runs")) >= 3)
    flowy.clock.time += 8
    assert (await waiting).status == "completed"


async def test_a_run_that_failed_is_a_value_and_says_why(flowy: Served) -> None:
    run = await flowy.client.run("broken")
    assert (run.status, run.error, run.outputs) == ("failed", "the model is out of paint", [])
    with pytest.raises(errors.RunFailedError, match="out of paint") as caught:
        run.unwrap()
    assert caught.value.run is run
    assert caught.value.run_id == run.run_id


@pytest.mark.parametrize("wrap", [str, lambda text: {"message": text}, lambda text: {text: [text]}])
async def test_the_error_of_a_run_does_not_repeat_the_key(flowy: Served, wrap: Any) -> None:
    key = flowy.emulator.flowy_key
    told = {"runId": "r", "status": "failed", "error": wrap(f"refused: Bearer {key}")}
    flowy.emulator.script(Fault(body={"data": told}), match="GET /runs/*")
    run = await flowy.client.runs.get("r")
    with pytest.raises(errors.RunFailedError) as caught:
        run.unwrap()
    assert key.encode() not in pickle.dumps(caught.value)
    assert key not in f"{run!r}{caught.value!r}{caught.value}"
    assert "refused: Bearer" in str(run.error)


async def test_nor_does_the_journal_of_a_batch(flowy: Served, tmp_path: Path) -> None:
    key = flowy.emulator.flowy_key
    told = {"runId": "r", "status": "failed", "error": f"refused: Bearer {key}"}
    flowy.emulator.script(Fault(body={"data": told}), match="POST /apps/*")
    [result] = await flowy.client.batch(
        "haiku", [{"Topic": "a"}], check=False, on_error="return", journal=tmp_path / "job.db"
    )
    assert isinstance(result.error, errors.RunFailedError)
    assert key not in str(result.error)
    kept = contents(tmp_path)
    assert b"refused: Bearer" in kept
    assert key.encode() not in kept


async def test_any_success_is_one_to_a_start(flowy: Served) -> None:
    for status in (200, 201):
        flowy.emulator.script(Fault(status=status, body={"data": {"runId": "r"}}), match="POST *")
        assert (await flowy.client.runs.start("haiku", check=False)).run_id == "r"


async def test_a_start_without_a_run_is_an_error(flowy: Served) -> None:
    flowy.emulator.script(Fault(status=202, body={"data": {}}), match="POST *")
    with pytest.raises(errors.ResponseDecodeError, match="POST"):
        await flowy.client.runs.start("haiku", check=False)


async def test_unknown_states_and_outputs_come_through(flowy: Served) -> None:
    shown = {
        "runId": "r",
        "status": "paused",
        "outputs": [{"nodeId": "n", "kind": "scent", "url": 3}, None],
        "error": {"message": "no nose"},
        "appId": 5,
    }
    flowy.emulator.script(Fault(body={"data": shown}), Fault(body={"data": shown | {"outputs": 0}}))
    run = await flowy.client.runs.get("r")
    assert (run.status, run.is_terminal, run.app_id) == ("paused", False, None)
    assert [(o.kind, o.url) for o in run.outputs] == [("scent", None)]
    assert (await flowy.client.runs.get("r")).outputs == []


@pytest.mark.parametrize(
    ("shown", "kind", "said"),
    [
        ({"status": "failed"}, errors.RunFailedError, "no reason given"),
        ({"status": "failed", "error": {"message": "m"}}, errors.RunFailedError, "failed: m"),
        ({"status": "canceled"}, errors.RunCanceledError, "was canceled"),
    ],
)
def test_the_error_says_how_a_run_ended(
    shown: dict[str, Any], kind: type[errors.DynamiqError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        FlowyRun(run_id="r", **shown).unwrap()


async def test_an_output_is_found_by_its_node(flowy: Served) -> None:
    run = await flowy.client.run("poster", POSTER)
    assert run.output("out-2").text == "FRESH"
    for node in ("out-3", None):
        with pytest.raises(errors.OutputMissingError, match="out-1, out-2"):
            run.output(node)
    assert (await flowy.client.run("haiku", {"Topic": "x"})).output().kind == "text"


# --- refusals --------------------------------------------------------------------------------


async def test_a_bad_key_is_an_authentication_error(serve: Serve) -> None:
    flowy = await serve(api_key="flowy_sk_wrong")
    with pytest.raises(errors.AuthenticationError, match="Invalid API key; check the API key"):
        await flowy.client.apps.list()


async def test_a_used_up_spend_cap_is_an_error_of_its_own_until_the_next_day(
    flowy: Served,
) -> None:
    flowy.service.daily_runs = 1
    await flowy.client.run("haiku", {"Topic": "x"})
    with pytest.raises(errors.PaymentRequiredError, match="Daily spend cap reached; ") as caught:
        await flowy.client.run("haiku", {"Topic": "x"})
    assert "either the key's daily spend cap is used up" in str(caught.value)
    assert "or the workspace is out of credits" in str(caught.value)
    assert (caught.value.status, caught.value.code) == (402, None)
    assert len(flowy.requests("POST")) == 2
    flowy.clock.time += 86_400 - flowy.clock.time % 86_400
    await flowy.client.run("haiku", {"Topic": "x"})


async def test_errors_that_are_strings_are_read(flowy: Served) -> None:
    flowy.emulator.script(Fault(status=400, body={"error": "Invalid input: n"}))
    with pytest.raises(errors.BadRequestError, match="Invalid input: n"):
        await flowy.client.runs.start("haiku", check=False)


async def test_a_run_is_never_started_twice(flowy: Served) -> None:
    flowy.emulator.script(Fault(executes=True, drop="close"), match="POST *")
    with pytest.raises(errors.AmbiguousOutcomeError):
        await flowy.client.run("haiku", {"Topic": "x"})
    flowy.emulator.script(Fault.html_page(502, executes=True), match="POST *")
    with pytest.raises(errors.AmbiguousOutcomeError):
        await flowy.client.run("haiku", {"Topic": "x"})
    assert len(flowy.service.runs) == 2


async def test_a_run_that_may_start_twice_is_started_again(flowy: Served) -> None:
    flowy.emulator.script(Fault(executes=True, drop="close"), match="POST *")
    run = await flowy.client.run("haiku", {"Topic": "x"}, retry=True)
    assert run.status == "completed"
    assert len(flowy.service.runs) == 2


async def test_what_was_refused_is_sent_again_for_as_long_as_it_takes(flowy: Served) -> None:
    busy = Fault(status=429, headers={"Retry-After": "0"}, body={"error": "busy"})
    flowy.emulator.script(busy, match="POST *", times=9)
    assert (await flowy.client.run("haiku", {"Topic": "x"})).status == "completed"
    assert len(flowy.service.runs) == 1


async def test_retry_false_takes_the_first_refusal(flowy: Served) -> None:
    busy = Fault(status=429, headers={"Retry-After": "0"}, body={"error": "busy"})
    flowy.emulator.script(busy, match="POST *")
    with pytest.raises(errors.RateLimitError, match="busy"):
        await flowy.client.runs.start("haiku", {"Topic": "x"}, retry=False)
    assert len(flowy.requests("POST")) == 1


@pytest.mark.parametrize(("told", "remaining"), [("successful", 59), ("all", 58)])
async def test_responses_tell_how_many_requests_are_left(
    flowy: Served, told: Any, remaining: int
) -> None:
    flowy.service.limits_told = told
    await flowy.client.apps.list()
    quota = flowy.client._api.sender.limiter.quota
    assert quota is not None
    assert (quota.limit, quota.remaining) == (60, 59)
    with pytest.raises(errors.NotFoundError):
        await flowy.client.runs.get("nope")
    assert quota.remaining == remaining
    await flowy.client.apps.list()
    assert quota.remaining == 57


async def test_a_publishable_key_has_twice_the_limit(serve: Serve) -> None:
    flowy = await serve()
    async with AsyncFlowy(flowy.service.publishable_key, flowy.emulator.flowy_url) as client:
        await client.apps.list()
        assert client._api.sender.limiter.quota is not None
        assert client._api.sender.limiter.quota.limit == 120


async def test_a_closed_client_says_so(flowy: Served) -> None:
    await flowy.client.aclose()
    with pytest.raises(errors.ClientClosedError):
        await flowy.client.apps.list()


async def test_closing_that_is_cut_short_closes_downloads_too(flowy: Served) -> None:
    await (await flowy.client.run("poster", POSTER)).output("out-1").read()

    async def cut_short() -> None:
        raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flowy.client._api.sender, "aclose", cut_short)
        with pytest.raises(asyncio.CancelledError):
            await flowy.client.aclose()
    assert flowy.client._shared.downloader.closed


def test_an_emulator_that_does_not_run_has_no_address() -> None:
    with pytest.raises(RuntimeError):
        _ = Emulator().flowy_url


@pytest.mark.parametrize("shape", ["{}", {"message": "{}"}, {"error": {"message": "{}"}}])
async def test_the_errors_of_a_run_do_not_repeat_the_key(flowy: Served, shape: Any) -> None:
    key = flowy.emulator.flowy_key
    error = msgspec.json.decode(msgspec.json.encode(shape).replace(b"{}", f"no {key}".encode()))
    failed = {"runId": "r", "status": "failed", "error": error}
    flowy.emulator.script(Fault(status=202, body={"data": failed}), match="POST *")
    run = await flowy.client.runs.start("haiku", check=False)
    with pytest.raises(errors.RunFailedError, match=r"no \*\*\*") as caught:
        run.unwrap()
    assert key not in f"{caught.value} {vars(caught.value)}"
    assert key.encode() not in pickle.dumps(caught.value)
