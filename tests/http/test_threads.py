"""One client, used by the event loops of several threads at once."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from dynamiq_async import AsyncApp
from dynamiq_async._http.limiter import Limiter
from tests.support.network import KEY

INPUT = {"question": "?"}
THREADS = 6


def in_threads(work: Any) -> list[BaseException]:
    """Run the coroutine function in event loops of several threads, which start together."""
    failures: list[BaseException] = []
    together = threading.Barrier(THREADS)

    def run() -> None:
        together.wait(10)
        try:
            asyncio.run(work())
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return failures


class Canned:
    status, framed = 200, True
    headers = {"Content-Type": "application/json"}  # noqa: RUF012 - nobody changes it

    def __init__(self) -> None:
        self.pieces = [b'{"a": 1}']

    async def read(self) -> bytes:
        return self.pieces.pop() if self.pieces else b""

    def close(self) -> None:
        pass


class Double:
    async def send(self, request: Any, *, connect_timeout: float | None) -> Any:
        await asyncio.sleep(0)
        return Canned()

    async def aclose(self) -> None:
        pass


def test_first_requests_from_several_threads_share_one_transport() -> None:
    app = AsyncApp("https://app.example", access_key=KEY, transport=Double())
    made, connect = [], app._api.sender._connect
    inside = threading.Event()

    def slow() -> Any:
        inside.wait(0.2)  # time for the other threads to come here too
        made.append(connect())
        return made[-1]

    app._api.sender._connect = slow
    assert in_threads(lambda: app.invoke(INPUT)) == []
    assert len(made) == 1


def test_slots_are_passed_between_threads() -> None:
    app = AsyncApp("https://app.example", access_key=KEY, transport=Double(), max_connections=2)

    async def many() -> None:
        async with asyncio.timeout(50):
            await asyncio.gather(*[app.invoke(INPUT) for _ in range(60)])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        assert in_threads(many) == []
    finally:
        sys.setswitchinterval(interval)
    limiter: Limiter = app._api.sender.limiter
    assert limiter.in_flight == 0
