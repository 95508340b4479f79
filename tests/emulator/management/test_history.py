"""The emulator's traces, sessions and artifacts, seen from the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from dynamiq_async.emulator import DEFAULT_TOKEN, Emulator, RunContext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.raw_http import RawClient, RawClients

SESSION = str(uuid4())


class Time:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class History:
    """One connection to an emulator whose time is moved, and the App at its root."""

    def __init__(self, emulator: Emulator, client: RawClient, time: Time) -> None:
        self.emulator = emulator
        self.client = client
        self.time = time
        self.app = f"/~management/v1/apps/{emulator.management.apps[-1].id}"

    async def get(self, path: str, **more: Any) -> Any:
        return await self.client.get(f"{self.app}{path}", key=DEFAULT_TOKEN, **more)

    async def data(self, path: str) -> Any:
        return (await self.get(path)).json["data"]


async def works(input: dict[str, Any], run: RunContext) -> Any:
    """Saves two files, tells of tokens, and fails if it is told to."""
    run.save("notes.txt", b"hello")
    run.save("a b/ä", b"x" * 100_000, mime_type="image/png")
    for _ in range(2):
        await run.emit({"usage": {"prompt_tokens": 3, "total_tokens": 5, "other": 1, "x": None}})
    await run.emit({"usage": None})
    if input.get("fail"):
        raise ValueError("boom")
    return {"said": input.get("say")}


@pytest.fixture
async def history(connect: RawClients) -> AsyncIterator[History]:
    time = Time()
    async with Emulator(works, clock=time) as emulator:
        yield History(emulator, await connect(emulator), time)


async def run_of(history: History, **input: Any) -> Any:
    body = {"input": input, "session_id": SESSION, "user_id": "ann"}
    return (await history.client.post("/v1/runs", body)).json["data"]


# --- artifacts -----------------------------------------------------------------------------------


async def test_the_files_of_a_run_are_listed_with_links(history: History) -> None:
    run = await run_of(history)
    response = await history.get(f"/runs/{run['id']}/artifacts")
    first, second = response.json["data"]
    assert response.json["pagination"]["total_count"] == 2
    assert {name: first[name] for name in ("type", "name", "size", "mime_type")} == {
        "type": "file",
        "name": "notes.txt",
        "size": 5,
        "mime_type": "text/plain",
    }
    assert (second["name"], second["size"], second["mime_type"]) == ("a b/ä", 100_000, "image/png")
    for artifact, content in ((first, b"hello"), (second, b"x" * 100_000)):
        link = urlsplit(artifact["download_url"])
        assert link.hostname == "localhost"
        got = await history.client.get(f"{link.path}?{link.query}", key=None)
        assert (got.body, got.headers["content-type"]) == (content, artifact["mime_type"])


async def test_a_link_wants_its_signature_no_key_and_its_time(history: History) -> None:
    run = await run_of(history)
    listed = await history.data(f"/runs/{run['id']}/artifacts")
    link = urlsplit(listed[0]["download_url"])
    path = f"{link.path}?{link.query}"
    client = history.client
    for key in (DEFAULT_TOKEN, history.emulator.access_key):
        refused = await client.get(path, key=key)
        assert (refused.status, refused.error["code"]) == (400, "InvalidArgument")
    for forged in (link.path, f"{path}0", path.replace("notes", "other")):
        refused = await client.get(forged, key=None)
        assert (refused.status, refused.error["code"]) == (403, "SignatureDoesNotMatch")
    history.time.now += 600
    late = await client.get(path, key=None)
    assert (late.status, late.error["code"]) == (403, "AccessDenied")


async def test_a_link_to_what_is_gone_is_404(history: History) -> None:
    run = await run_of(history)
    listed = await history.data(f"/runs/{run['id']}/artifacts")
    links = [urlsplit(each["download_url"]) for each in listed]
    execution = history.emulator.management.executions[0]
    execution.artifacts[0].id = "gone"  # type: ignore[misc]
    for link, status in zip(links, (404, 200), strict=True):
        got = await history.client.get(f"{link.path}?{link.query}", key=None)
        assert got.status == status


async def test_echo_saves_the_files_that_it_is_given(connect: RawClients) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        form = ('name="input"', b"{}"), ('name="files"; filename="a.txt"', b"content")
        run = (await client.form("/v1/runs", *form)).json["data"]
        history = History(emulator, client, Time())
        history.app = f"/~management/v1/apps/{run['app_id']}"  # the root's own
        (artifact,) = await history.data(f"/runs/{run['id']}/artifacts")
        assert (artifact["name"], artifact["size"]) == ("a.txt", 7)
        known = emulator.management.find("echo")
        assert (await history.data(""))["id"] == known.id != run["app_id"]


# --- traces ------------------------------------------------------------------------------------


async def test_a_trace_tells_what_was_called_and_what_it_cost(history: History) -> None:
    accepted = await history.client.post("/", {"input": {"say": "x"}, "execution_mode": "async"})
    await history.emulator.wait_for_executions(1)
    trace = await history.data(f"/traces/{accepted.json['id']}")
    assert trace["id"] == accepted.json["id"]
    assert (trace["source_id"], trace["status"]) == (history.app.rpartition("/")[2], "succeeded")
    assert trace["input"] == {"say": "x"}
    assert "said" in str(trace["output"])
    assert trace["started_at"] <= trace["ended_at"]
    assert trace["usage"] == {
        "prompt_tokens": 6,
        "total_tokens": 10,
        "prompt_tokens_cost_usd": pytest.approx(0.000012),
        "total_tokens_cost_usd": pytest.approx(0.00002),
    }
    assert "error" not in trace


async def test_traces_are_the_newest_first_and_filtered(history: History) -> None:
    good, bad = await run_of(history, say="x"), await run_of(history, fail=True)
    listed = await history.data("/traces")
    assert [trace["id"] for trace in listed] == [bad["id"], good["id"]]
    assert listed[0]["error"]["message"]
    for run in (good, bad):
        assert (await history.data(f"/traces/{run['id']}"))["id"] == run["id"]
    for query, found in (
        ("?status=failed", [bad]),
        ("?status=failed&status=succeeded", [bad, good]),
        ("?status=running", []),
        (f"?started_at:gte={listed[0]['started_at']}", [bad]),
        (f"?started_at:lte={listed[1]['started_at']}", [good]),
        (f"?started_at%3Agte={listed[1]['started_at']}&page_size=1", [bad]),
        ("?sort=started_at", [good, bad]),
    ):
        ids = [trace["id"] for trace in await history.data(f"/traces{query}")]
        assert ids == [run["id"] for run in found]


@pytest.mark.parametrize("time", ["yesterday", "2026-01-01T00:00:00"])
async def test_a_bound_that_is_no_time_is_refused(time: str, history: History) -> None:
    refused = await history.get(f"/traces?started_at:gte={time}")
    assert refused.status == 400
    assert refused.error["details"] == {"started_at:gte": "must be a valid RFC 3339 time"}


async def test_what_is_forgotten_by_a_test_is_not_by_the_service(history: History) -> None:
    await run_of(history)
    history.emulator.reset()
    assert not history.emulator.executions
    assert len(await history.data("/traces")) == 1


# --- sessions ----------------------------------------------------------------------------------


async def test_sessions_and_their_messages(history: History) -> None:
    first, second = await run_of(history, say="1"), await run_of(history, say="2")
    other = str(uuid4())
    await history.client.post("/", {"input": {}, "session_id": other})
    await history.client.post("/", {"input": {}})
    sessions = await history.data("/sessions")
    assert [session["id"] for session in sessions] == [other, SESSION]
    assert sessions[1]["user_id"] == "ann"
    assert sessions[1]["created_at"] < sessions[1]["updated_at"]
    messages = await history.data(f"/sessions/{SESSION}/messages")
    assert [message["trace_id"] for message in messages] == [first["id"], second["id"]]
    assert [message["input"] for message in messages] == [{"say": "1"}, {"say": "2"}]
    assert len({message["id"] for message in messages}) == 2


@pytest.mark.parametrize(
    "path",
    ["/runs/nope/artifacts", "/traces/nope", "/sessions/nope/messages"],
)
async def test_what_is_not_there(path: str, history: History) -> None:
    assert (await history.get(path)).status == 404
    history.app = "/~management/v1/apps/nope"
    assert (await history.get(path.replace("/nope", ""))).status == 404
