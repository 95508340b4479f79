"""Callbacks of the async mode."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async.emulator import Emulator


async def test_callbacks_are_delivered_when_the_run_ends(connect: Any) -> None:
    async with (
        Emulator("echo", access_key="token-of-the-receiver") as receiver,
        Emulator("echo", allow_loopback_callbacks=True, callback_deliveries=2) as emulator,
    ):
        client = await connect(emulator)
        body = {
            "input": {"a": 1},
            "execution_mode": "async",
            "callbacks": [
                {
                    "url": f"{receiver.url}/hook?x=1",
                    "auth": {"type": "bearer", "token": "token-of-the-receiver"},
                    "metadata": {"order": 7},
                },
                {"url": f"http://localhost:{receiver.port}/other"},
            ],
        }
        accepted = await client.post("/", body)
        assert accepted.status == 202
        assert accepted.json["status"] == "accepted"
        await emulator.wait_until(lambda: emulator.deliveries.total == 4)
        hook = next(request for request in receiver.requests if request.path == "/hook")
        other = next(request for request in receiver.requests if request.path == "/other")
        assert hook.query["x"] == "1"
        assert hook.headers["Authorization"] == "Bearer token-of-the-receiver"
        assert "Authorization" not in other.headers
        timestamp = hook.json.pop("timestamp")
        assert len(timestamp) == len("2026-11-21T23:33:36.474665123Z")
        assert hook.json == {
            "id": accepted.json["id"],
            "status": "succeeded",
            "output": {"output-1": {"status": "success", "input": {"a": 1}, "output": {"a": 1}}},
            "metadata": {"order": 7},
        }
        assert "metadata" not in other.json
        assert {delivery.status for delivery in emulator.deliveries} == {404}


async def test_a_failed_run_has_no_output_for_its_callbacks(connect: Any) -> None:
    async with (
        Emulator("echo") as receiver,
        Emulator("failing", allow_loopback_callbacks=True) as emulator,
    ):
        url = receiver.url
        body = {"input": {}, "execution_mode": "async", "callbacks": [{"url": url}]}
        await (await connect(emulator)).post("/", body)
        await emulator.wait_until(lambda: emulator.deliveries.total)
        assert set(receiver.requests[0].json) == {"id", "status", "timestamp"}
        assert receiver.requests[0].json["status"] == "failed"


async def test_a_receiver_that_is_not_there_is_noted(connect: Any) -> None:
    async with Emulator("echo") as receiver:
        url = receiver.url
    async with Emulator("echo", allow_loopback_callbacks=True) as emulator:
        body = {"input": {}, "execution_mode": "async", "callbacks": [{"url": url}]}
        await (await connect(emulator)).post("/", body)
        await emulator.wait_until(lambda: emulator.deliveries.total)
        assert emulator.deliveries[0].status is None
        assert str(emulator.deliveries[0].error).startswith("ConnectionRefusedError")


async def test_async_mode_needs_no_callbacks(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        body = {"input": {}, "execution_mode": "async"}
        assert (await (await connect(emulator)).post("/", body)).status == 202
        await emulator.wait_for_executions(1)


PUBLIC = "https://example.com/hook"


NOT_PUBLIC = "must be a public HTTPS URL"


@pytest.mark.parametrize(
    ("callback", "field", "complaint"),
    [
        ("text", "callbacks[0]", "must be an object"),
        ({}, "callbacks[0].url", "cannot be blank"),
        ({"url": 1}, "callbacks[0].url", "must be a string"),
        ({"url": "http://[bad"}, "callbacks[0].url", "must be a valid URL"),
        ({"url": "http://example.com"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://localhost"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://a.localhost"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://127.0.0.1"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://10.0.0.1"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://169.254.0.1"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": "https://[::1]"}, "callbacks[0].url", NOT_PUBLIC),
        ({"url": PUBLIC, "auth": "x"}, "callbacks[0].auth", None),
        ({"url": PUBLIC, "auth": {"type": "bearer"}}, "callbacks[0].auth", None),
        ({"url": PUBLIC, "metadata": []}, "callbacks[0].metadata", "must be an object"),
    ],
)
async def test_bad_callbacks_are_refused(
    connect: Any, callback: Any, field: str, complaint: str | None
) -> None:
    async with Emulator("echo") as emulator:
        body = {"input": {}, "execution_mode": "async", "callbacks": [callback]}
        response = await (await connect(emulator)).post("/", body)
    assert response.status == 400
    told = response.error["details"][field]
    assert told == (complaint or 'must be {"type": "bearer", "token": string}')


async def test_five_callbacks_are_the_most(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        body = {
            "input": {},
            "execution_mode": "async",
            "callbacks": [{"url": PUBLIC}] * 6,
        }
        response = await (await connect(emulator)).post("/", body)
    assert response.error["details"] == {"callbacks": "the length must be no more than 5"}
