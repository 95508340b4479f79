"""What listens is started once and stopped at any time."""

from __future__ import annotations

from typing import NoReturn

import pytest
from aiohttp import web

from dynamiq_async.emulator.core.listener import Listener
from dynamiq_async.emulator.core.log import Changes


async def nothing(_: web.BaseRequest) -> NoReturn:
    raise AssertionError


async def test_it_is_started_once_and_may_be_stopped_twice() -> None:
    listener = Listener(nothing, Changes(), host="127.0.0.1", port=0)
    await listener.aclose()
    await listener.start()
    with pytest.raises(RuntimeError, match="is running"):
        await listener.start()
    port = listener.port
    await listener.aclose()
    await listener.aclose()
    with pytest.raises(RuntimeError, match="not running"):
        _ = listener.url
    await listener.start()
    assert listener.port == port
    await listener.aclose()
