"""A receiver's handler in an application of aiohttp's."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from dynamiq_async.callbacks import CallbackReceiver, CallbackResult
from tests.support.callback_senders import TOKEN, Sender, callback, post, under_aiohttp

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

pytestmark = pytest.mark.usefixtures("quick_collections", "leaves_nothing")

BODY = json.dumps(callback()).encode()
MIB = 1024 * 1024


class Inbound:
    """A receiver that notes what it was given, and raises when a test wants it to."""

    def __init__(self) -> None:
        self.results: list[CallbackResult] = []
        self.error: Exception | None = None
        self.receiver = CallbackReceiver(tokens=TOKEN, on_result=self.take, max_body_bytes=3 * MIB)

    async def take(self, result: CallbackResult) -> None:
        self.results.append(result)
        if self.error is not None:
            raise self.error

    def serving(self) -> AbstractAsyncContextManager[int]:
        return under_aiohttp([web.route("*", "/callbacks", self.receiver.aiohttp_handler)])


@pytest.fixture
def inbound() -> Inbound:
    return Inbound()


async def send(port: int, content: Any, **head: Any) -> Any:
    return await post(port, content, "/callbacks", **head)


async def test_a_result_is_handled_once(inbound: Inbound) -> None:
    async with inbound.serving() as port:
        assert (await send(port, callback())).json == {"status": "ok"}
        assert (await send(port, callback())).json == {"status": "duplicate"}
    assert [result.output for result in inbound.results] == [{"answer": 42}]


async def test_bad_requests_get_their_status(inbound: Inbound) -> None:
    async with inbound.serving() as port, Sender(port) as sender:
        await sender.head("/callbacks", method="HEAD")
        assert (await sender.read_response(bodyless=True)).status == 405
        get = await send(port, b"", method="GET")
        assert (get.status, get.headers["allow"]) == (405, "post")
        unknown = await send(port, callback(), token="guess\xe9\xff")
        assert (unknown.status, unknown.code) == (401, "unauthorized")
        assert (await send(port, callback(), content_type="text/plain")).status == 415
        packed = gzip.compress(BODY)
        assert (await send(port, packed, content_encoding="gzip")).status == 415
        assert (await send(port, b"{")).code == "bad_request"
        assert (await send(port, b"x" * (3 * MIB + 1))).status == 413
    assert inbound.results == []


async def test_the_limit_is_the_receiver_s_and_not_the_application_s(inbound: Inbound) -> None:
    async with inbound.serving() as port:
        assert (await send(port, callback(output="x" * (2 * MIB)))).status == 200
    assert len(inbound.results[0].output) == 2 * MIB


async def test_a_body_is_refused_before_it_is_sent(inbound: Inbound) -> None:
    async with inbound.serving() as port, Sender(port) as sender:
        await sender.head("/callbacks", content_length=3 * MIB + 1)
        assert (await sender.read_response()).status == 413


async def test_a_chunked_body_is_refused_once_it_is_too_large(inbound: Inbound) -> None:
    async with inbound.serving() as port, Sender(port) as sender:
        await sender.head("/callbacks", transfer_encoding="chunked")
        await sender.write(b"%x\r\n%b\r\n" % (3 * MIB + 1, b"x" * (3 * MIB + 1)))
        assert (await sender.read_response()).status == 413


async def test_a_chunked_body_is_taken(inbound: Inbound) -> None:
    async with inbound.serving() as port, Sender(port) as sender:
        await sender.head("/callbacks", transfer_encoding="chunked")
        for n in range(0, len(BODY), 10):
            piece = BODY[n : n + 10]
            await sender.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await sender.write(b"0\r\n\r\n")
        assert (await sender.read_response()).status == 200
    assert len(inbound.results) == 1


async def test_a_broken_chunk_is_the_sender_s_mistake(inbound: Inbound) -> None:
    async with inbound.serving() as port, Sender(port) as sender:
        await sender.head("/callbacks", transfer_encoding="chunked")
        await sender.write(b"5\r\n{")
        await sender.write(b'"id"\r\nzz\r\n')
        assert (await sender.read_response()).status == 400
    assert inbound.results == []


async def test_a_sender_that_dies_in_the_middle_is_no_error_and_may_come_again(
    inbound: Inbound, caplog: pytest.LogCaptureFixture
) -> None:
    async with inbound.serving() as port:
        async with Sender(port) as sender:
            await sender.head("/callbacks", content_length=len(BODY))
            await sender.write(BODY[:20])
        assert (await send(port, callback())).json == {"status": "ok"}
    assert len(inbound.results) == 1
    assert not caplog.records


async def test_a_handler_that_raises_is_a_500_and_can_be_delivered_again(
    inbound: Inbound, caplog: pytest.LogCaptureFixture
) -> None:
    inbound.error = ValueError("the password of the database is wrong")
    async with inbound.serving() as port:
        response = await send(port, callback())
        assert response.status == 500
        assert b"password" not in response.body
        inbound.error = None
        assert (await send(port, callback())).json == {"status": "ok"}
    assert "ValueError: the password" in caplog.text  # the framework logs it
