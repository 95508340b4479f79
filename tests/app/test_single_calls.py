"""Single calls without a server, by the tool that users of aiohttp know for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import aiohttp
import pytest
import pytest_asyncio
from aioresponses import aioresponses

from dynamiq_async import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.network import MakeApp

URL = "https://app.example/"


class Response(aiohttp.ClientResponse):
    """Supplies what aiohttp asks for and aioresponses does not know yet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=Mock(), **kwargs)


@pytest.fixture
def mocked() -> Iterator[aioresponses]:
    with aioresponses() as mock:
        yield mock


@pytest_asyncio.fixture
async def app(app_for: MakeApp) -> Any:
    return app_for("https://app.example", max_retries=0)


async def test_invoke(mocked: aioresponses, app: Any) -> None:
    mocked.post(URL, payload={"answer": 42}, response_class=Response)
    assert await app.invoke({"q": 1}) == {"answer": 42}
    ((method, url),) = mocked.requests
    assert (method, str(url)) == ("POST", URL)


@pytest.mark.parametrize(
    ("status", "kind"), [(400, errors.BadRequestError), (500, errors.InternalServerError)]
)
async def test_errors(mocked: aioresponses, app: Any, status: int, kind: Any) -> None:
    mocked.post(
        URL,
        status=status,
        payload={"error": {"code": "c", "message": "m"}},
        headers={"X-Request-Id": "r"},
        response_class=Response,
    )
    with pytest.raises(kind) as caught:
        await app.invoke({})
    assert (caught.value.code, caught.value.request_id) == ("c", "r")


async def test_exceptions(mocked: aioresponses, app: Any) -> None:
    for raised, kind in [
        (aiohttp.ServerDisconnectedError(), errors.AmbiguousConnectionError),
        (aiohttp.ClientOSError(104, "reset"), errors.AmbiguousConnectionError),
        (aiohttp.ServerTimeoutError(), errors.AmbiguousTimeoutError),
        (TimeoutError(), errors.AmbiguousTimeoutError),
        (TimeoutError(110, "timed out"), errors.AmbiguousConnectionError),
        (aiohttp.InvalidURL("x"), errors.InvalidArgumentError),
        (ConnectionResetError(), errors.AmbiguousConnectionError),
        (RuntimeError("odd"), errors.AmbiguousConnectionError),
        (aiohttp.ServerFingerprintMismatch(b"a", b"b", "h", 1), errors.ConnectError),
    ]:
        mocked.post(URL, exception=raised, response_class=Response)
        with pytest.raises(errors.DynamiqError) as caught:
            await app.invoke({})
        assert type(caught.value) is kind, raised
        assert URL in str(caught.value)


async def test_a_stream(mocked: aioresponses, app: Any) -> None:
    mocked.post(
        URL,
        body=b'data: {"data": 1}\n\n',
        headers={"Content-Type": "text/event-stream", "Content-Length": "19"},
        response_class=Response,
    )
    assert [event.data async for event in app.stream({})] == [1]
