"""The first call of a client leaves the event loop free: what takes long runs in a thread.

Nothing here is timed. The tests look at which thread does the work.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from dynamiq_async import AsyncApp, AsyncFlowy, AsyncManagement, errors
from dynamiq_async._http.timers import TaskLimits
from dynamiq_async.transport import aiohttp as on_aiohttp
from tests.support.network import in_flight
from tests.support.wire import make_response, script, server_context

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.network import MakeApp, Serve

INPUT = {"question": "?"}

IMPORTING = """
import asyncio, sys, threading
from dynamiq_async import AsyncApp, AsyncFlowy, AsyncManagement, errors

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("aiohttp", "yarl", "multidict"):
            threads.add(threading.current_thread())

async def main():
    for client, call in (
        (app := AsyncApp("http://127.0.0.1:9", access_key="k", max_retries=0), app.invoke),
        (flowy := AsyncFlowy("k", "http://127.0.0.1:9", max_retries=0), flowy.apps.get),
        (m := AsyncManagement("http://127.0.0.1:9", token="k", max_retries=0), m.apps.get),
    ):
        if WHO in type(client).__name__:
            try:
                await call("00000000-0000-4000-8000-000000000000" if WHO != "App" else {})
            except errors.ConnectError:
                print("called")
        await client.aclose()

threads = set()
sys.meta_path.insert(0, Finder())
asyncio.run(main())
assert threads and threading.main_thread() not in threads, threads
"""


@pytest.mark.parametrize("who", ["App", "Flowy", "Management"])
def test_what_the_first_call_needs_is_imported_in_a_thread(who: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"WHO = {who!r}\n{IMPORTING}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("called\n", "")


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which certificates were loaded."""
    threads: list[threading.Thread] = []
    load = on_aiohttp._context_from

    def noted(path: str) -> Any:
        threads.append(threading.current_thread())
        return load(path)

    monkeypatch.setattr(on_aiohttp, "_context_from", noted)
    return threads


async def test_certificates_are_loaded_in_a_thread(
    loading: list[threading.Thread], serve: Serve, app_for: MakeApp, tmp_path: Path
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    wire = await serve(script(make_response({"a": 1})), tls=server_context(ca))
    app = app_for(wire, verify=tmp_path / "ca.pem")
    for _ in range(2):
        assert await app.invoke(INPUT) == {"a": 1}
    assert len(loading) == 1
    assert threading.main_thread() not in loading


async def test_an_app_that_management_opens_loads_them_in_a_thread_too(
    loading: list[threading.Thread], serve: Serve, tmp_path: Path
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    found = {"id": "00000000-0000-4000-8000-000000000000", "name": "bot"}
    wire = await serve(
        script(make_response({"data": {**found, "hostname": "localhost:9"}})),
        tls=server_context(ca),
    )
    async with AsyncManagement(wire.url, token="t", verify=tmp_path / "ca.pem") as management:
        app = await management.open(found["id"], access_key="k", max_streams=7)
        assert app._api.sender.limiter.streams.limit == 7
        with pytest.raises(errors.ConnectError):
            await app.with_options(max_retries=0).invoke(INPUT)
        await app.aclose()
    assert len(loading) == 2
    assert threading.main_thread() not in loading


async def test_outputs_are_downloaded_with_what_was_loaded_in_a_thread(
    loading: list[threading.Thread], tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    async with AsyncFlowy("k", "https://127.0.0.1:9", verify=tmp_path / "ca.pem") as flowy:
        await flowy._shared.downloader.prepare()
        await flowy._shared.downloader.prepare()
    assert len(loading) == 2
    assert threading.main_thread() not in loading


async def test_a_call_that_is_cancelled_meanwhile_ends(
    monkeypatch: pytest.MonkeyPatch, app_for: MakeApp, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    app = app_for("https://127.0.0.1:9", verify=tmp_path / "ca.pem", timeout=0.001)
    release = threading.Event()
    load = on_aiohttp._context_from

    def slow(path: str) -> Any:
        release.wait(5)
        return load(path)

    monkeypatch.setattr(on_aiohttp, "_context_from", slow)
    cancel_task = TaskLimits._cancel

    def cancelled(limits: TaskLimits) -> None:
        cancel_task(limits)
        release.set()

    monkeypatch.setattr(TaskLimits, "_cancel", cancelled)
    with pytest.raises(errors.ConnectTimeoutError):
        await app.invoke(INPUT)
    assert in_flight(app) == 0


def test_a_client_is_not_slow_to_make_a_transport_that_is_given() -> None:
    app = AsyncApp("http://127.0.0.1:9", access_key="k", transport=object_with_send())
    assert not app._network.is_slow_to_open()


def object_with_send() -> Any:
    class Given:
        async def send(self, request: Any, *, connect_timeout: float | None) -> Any:
            raise NotImplementedError

        async def aclose(self) -> None:
            raise NotImplementedError

    return Given()
