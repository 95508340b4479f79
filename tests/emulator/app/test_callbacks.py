"""Callbacks of the async mode."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamiq_async.emulator import Emulator
from dynamiq_async.emulator.app import callbacks


async def test_callbacks_are_delivered_when_the_run_ends(connect: Any) -> None:
    async with (
        Emulator("echo", access_key=None) as receiver,
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
            "output": {"a": 1},
            "metadata": {"order": 7},
        }
        assert "metadata" not in other.json
        assert {delivery.status for delivery in emulator.deliveries} == {404}


async def test_a_failed_run_has_no_output_for_its_callbacks(connect: Any) -> None:
    async with (
        Emulator("echo", access_key=None) as receiver,
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

TOKEN = "the token must be of visible ASCII characters"

BEARER = {"type": "bearer"}

NOT_PUBLIC_HOSTS = (
    *("127.1", "127.0.0.1.", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0.0.0.0"),
    *(
        "localhost.",
        "LOCALHOST",
        "a.b.localhost.",
        "localhost.localdomain",
        "nas.local",
        "intranet",
    ),
    *("[::]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
    *(
        "user@127.0.0.1",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "a.example.0x7f",
        "1.2.3.4.5",
        "224.0.0.1",
    ),
    *("192.168.1.1", "172.16.0.1", "100.64.0.1", "[fe80::1]", "[fd00::1]", "metadata.internal"),
)

AMBIGUOUS_URLS = (
    "https://127.0.0.1\\@example.com/",
    "https://example.com\\.localhost/",
    "https://example.com/\r\nX: 1",
    "https://exam\tple.com/",
    " https://example.com/",
)


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
        *(
            ({"url": f"https://{host}/"}, "callbacks[0].url", NOT_PUBLIC)
            for host in NOT_PUBLIC_HOSTS
        ),
        *(({"url": url}, "callbacks[0].url", "must be a valid URL") for url in AMBIGUOUS_URLS),
        *(
            (
                {"url": PUBLIC, "auth": {"type": "bearer", "token": token}},
                "callbacks[0].auth",
                TOKEN,
            )
            for token in ("", "a b", "a\r\nX-Injected: 1", "a\nb", "a\0", "schlüssel", "\x7f")
        ),
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


@pytest.mark.parametrize(
    "url", ["https://8.8.8.8/", "https://example.com./", "https://[2606:4700::1111]/", PUBLIC]
)
async def test_a_public_callback_is_taken(url: str) -> None:
    found, complaints = callbacks.parse_callbacks([{"url": url}], allow_loopback=False)
    assert len(found) == 1
    assert not complaints


@pytest.mark.parametrize(
    "said",
    [b"\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 abc\r\n", b"SSH-2.0\r\n", b"HTTP", b"", b"x" * 100_000],
)
async def test_an_odd_receiver_is_noted(connect: Any, said: bytes) -> None:
    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Emulator("echo", allow_loopback_callbacks=True) as emulator:
        url = f"http://127.0.0.1:{port}/"
        body = {"input": {}, "execution_mode": "async", "callbacks": [{"url": url}]}
        await (await connect(emulator)).post("/", body)
        await emulator.wait_until(lambda: emulator.deliveries.total)
        assert emulator.deliveries[0].status is None
        assert emulator.deliveries[0].error


async def test_a_receiver_that_says_nothing_is_noted_in_time(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "DELIVERY_SECONDS", 0.05)
    over = asyncio.Event()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Emulator("echo", allow_loopback_callbacks=True) as emulator:
        url = f"http://127.0.0.1:{port}/"
        body = {"input": {}, "execution_mode": "async", "callbacks": [{"url": url}]}
        await (await connect(emulator)).post("/", body)
        await emulator.wait_until(lambda: emulator.deliveries.total)
        assert str(emulator.deliveries[0].error).startswith("TimeoutError")
        over.set()


async def test_names_under_localhost_are_this_machine(connect: Any) -> None:
    async with (
        Emulator("echo", access_key=None) as receiver,
        Emulator("echo", allow_loopback_callbacks=True) as emulator,
    ):
        url = f"http://user:secret@hook.localhost:{receiver.port}/"
        body = {"input": {}, "execution_mode": "async", "callbacks": [{"url": url}]}
        await (await connect(emulator)).post("/", body)
        await emulator.wait_until(lambda: emulator.deliveries.total)
        assert receiver.requests[0].headers["Host"] == f"hook.localhost:{receiver.port}"
