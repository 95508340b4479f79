"""One client, used by the event loops of several threads at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest

from dynamiq_async import AsyncApp, errors
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


FIRST_CALL = """
import asyncio, sys, threading
from dynamiq_async import AsyncApp

async def main():
    assert "aiohttp" not in sys.modules
    made_in = []
    app = AsyncApp("http://127.0.0.1:9", access_key="key", max_retries=0)
    connect = app._api.sender._connect
    app._api.sender._connect = lambda: made_in.append(threading.current_thread()) or connect()
    async with app:
        assert "aiohttp" in sys.modules
        assert made_in and made_in[0] is not threading.main_thread()
        try:
            await app.invoke({})
        except Exception as error:
            print(type(error).__name__)
        assert len(made_in) == 1
    async with app:  # closed, which only its calls tell
        pass

asyncio.run(main())
"""


def test_a_client_that_is_entered_has_imported_what_its_first_call_needs_in_a_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FIRST_CALL],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("ConnectError\n", "")


async def test_certificates_are_read_when_a_client_is_entered() -> None:
    app = AsyncApp("https://127.0.0.1:9", access_key=KEY, verify="missing.pem")
    with pytest.raises(errors.InvalidArgumentError, match="verify"):
        await app.__aenter__()
    await app.aclose()
    await app.__aenter__()
