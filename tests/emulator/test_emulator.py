"""The emulator's own life, what it notes, and how it is waited for."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dynamiq_async import AsyncApp
from dynamiq_async.emulator import DEFAULT_PROJECT, FOREVER, Emulator, Fault, RunContext
from tests.support.limits import HANG_SECONDS

STREAM = {"input": {}, "stream": True}


async def endless(input: dict[str, Any], run: RunContext) -> Any:
    while True:
        await run.text("again ")


async def silent(input: dict[str, Any], run: RunContext) -> Any:
    await asyncio.get_running_loop().create_future()


def only(folder: Path) -> Path:
    [found] = folder.iterdir()
    return found


async def test_it_starts_stops_and_starts_again_on_its_port(
    connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    emulator = Emulator("echo")
    with pytest.raises(RuntimeError, match="not running"):
        _ = emulator.url
    async with emulator:
        port = emulator.port
        assert emulator.url == f"http://127.0.0.1:{port}"
        with pytest.raises(RuntimeError, match="is running"):
            await emulator.start()
        await (await connect(emulator)).post()
        folder = only(tmp_path)
        assert folder.is_dir()
    assert not folder.exists()
    await emulator.aclose()
    with pytest.raises(ConnectionRefusedError):
        await connect(emulator)
    async with emulator:
        assert emulator.port == port
        await (await connect(emulator)).post()
        assert emulator.requests.total == 2


async def test_it_listens_on_ipv6_too(connect: Any) -> None:
    try:
        async with Emulator("echo", host="::1") as emulator:
            assert emulator.url == f"http://[::1]:{emulator.port}"
            assert (await (await connect(emulator)).post()).status == 200
    except OSError:  # pragma: no cover - a machine without IPv6
        pytest.skip("no IPv6 here")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(delay=FOREVER),
        Fault(after_events=0, stall=FOREVER),
        Fault(terminator=FOREVER),
        Fault(framing="length"),
        Fault(),
    ],
)
@pytest.mark.parametrize("path", ["/silent/", "/endless/", "/", "/silent/v1/runs"])
async def test_closing_is_prompt_whatever_is_going_on(
    connect: Any, fault: Fault, path: str
) -> None:
    before = asyncio.all_tasks()
    apps: dict[str, Any] = {"silent": silent, "endless": endless}
    # What goes on here would go on for ever.
    async with asyncio.timeout(HANG_SECONDS), Emulator("echo", apps=apps) as emulator:
        emulator.script(fault, times=None)
        bodies: tuple[dict[str, Any], ...] = (STREAM, {"input": {}})
        for body in bodies:
            await (await connect(emulator)).send("POST", path, body)
        await emulator.wait_for_requests(2)
        await asyncio.sleep(0.01)
    assert emulator.open_connections == 0
    await asyncio.sleep(0)
    gc.collect()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("body", [STREAM, {"input": {}}])
@pytest.mark.parametrize("path", ["/silent/", "/endless/"])
async def test_a_client_that_leaves_cancels_its_run(connect: Any, path: str, body: Any) -> None:
    async with Emulator(silent, apps={"silent": silent, "endless": endless}) as emulator:
        for leave in ("close", "abort"):
            client = await connect(emulator)
            await client.send("POST", path, body)
            await emulator.wait_until(
                lambda: any(run.status == "running" for run in emulator.executions)
            )
            getattr(client, leave)()
            await emulator.wait_until(lambda: emulator.executions[-1].status == "canceled")
            await emulator.wait_until(lambda: emulator.requests[-1].disconnected)
        assert str(emulator.executions[0].error).endswith("during execution")


async def test_a_drop_cancels_the_run_and_is_no_disconnect(connect: Any) -> None:
    async with Emulator(endless) as emulator:
        emulator.script(Fault(after_events=3, drop="reset"))
        await (await connect(emulator)).stream()
        await emulator.wait_for_executions(1)
        assert emulator.executions[0].status == "canceled"
        await emulator.wait_until(lambda: emulator.requests[0].finished)
        assert not emulator.requests[0].disconnected
        assert emulator.requests[0].events_sent == 3


async def test_a_client_that_leaves_during_an_upload_is_noted(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        emulator.script(Fault(status=500))
        client = await connect(emulator)
        client.writer.write(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"
        )
        await emulator.wait_until(lambda: emulator.open_connections)
        client.abort()
        await emulator.wait_until(lambda: emulator.requests and emulator.requests[0].finished)
        assert emulator.requests[0].disconnected
        assert emulator.pending_faults == 1


async def test_connections_are_numbered_and_counted(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        first, second = await connect(emulator), await connect(emulator)
        for client in (first, second, first):
            await client.post()
        assert [request.connection for request in emulator.requests] == [1, 2, 1]
        assert (emulator.connections, emulator.open_connections) == (2, 2)
        first.close()
        await emulator.wait_until(lambda: emulator.open_connections == 1)
        assert emulator.connections == 2


async def test_an_idle_connection_is_closed_in_time(connect: Any) -> None:
    async with Emulator("echo", keepalive_timeout=0.05) as emulator:
        client = await connect(emulator)
        await client.post()
        assert await client.reader.read() == b""


async def test_requests_are_noted_whole(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        await (await connect(emulator)).post("/echo/?a=1&a=2", {"input": {}}, x_mine="yes")
        [record] = emulator.requests
        assert (record.method, record.path, record.endpoint) == ("POST", "/echo/", "/")
        assert record.query.getall("a") == ["1", "2"]
        assert record.headers["X-Mine"] == "yes"
        assert record.json == {"input": {}}
        assert record.body == b'{"input": {}}'
        assert record.size == len(record.body)
        assert record.status == 200
        assert record.received_at.tzinfo is not None
        assert not record.disconnected
        assert str(emulator.access_key) not in repr(record)
        await emulator.wait_until(lambda: record.finished)


async def test_waiting_has_an_end() -> None:
    async with Emulator() as emulator:
        with pytest.raises(TimeoutError):
            await emulator.wait_for_requests(1, timeout=0.01)


async def test_pace_is_the_time_between_events(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        for _ in range(3):
            await run.text("x")

    async with Emulator(app, pace=0.02) as emulator:
        started = time.monotonic()
        await (await connect(emulator)).stream()
        assert time.monotonic() - started >= 0.06


LOOPBACK_NAMES = [
    *("localhost", "LOCALHOST:1", "localhost.", "a.b.localhost:80", "127.0.0.1", "[::1]:9"),
]
OTHER_NAMES = [
    *("evil.example", "localhost.evil.example", "0.0.0.0", "10.0.0.1", "[::]", "", "a b", "@"),
]


@pytest.mark.parametrize("name", LOOPBACK_NAMES)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_this_machine_is_served_by_its_names(connect: Any, host: str, name: str) -> None:
    async with Emulator("echo", host=host) as emulator:
        assert (await (await connect(emulator)).post(host=name)).status == 200


@pytest.mark.parametrize("name", OTHER_NAMES)
@pytest.mark.parametrize("path", ["/", "/~management/v1/apps", "/~flowy/apps", "/~connect/x"])
async def test_on_loopback_no_other_name_is_served(connect: Any, name: str, path: str) -> None:
    async with Emulator("echo") as emulator:
        refused = await (await connect(emulator)).post(path, host=name or " ")
        assert refused.status == 421
        assert not emulator.executions
        assert emulator.requests[0].json is None


async def test_a_host_that_is_allowed_is_served(connect: Any) -> None:
    async with Emulator("echo", allow_hosts=["My.example", "[fd00::1]"]) as emulator:
        client = await connect(emulator)
        for name in ("my.example:80", "[fd00::1]", "localhost"):
            assert (await client.post(host=name)).status == 200
        assert (await client.post(host="other.example")).status == 421


async def test_bound_elsewhere_any_host_is_served_unless_some_are_allowed(connect: Any) -> None:
    async with Emulator("echo", host="0.0.0.0") as emulator:
        assert emulator.url == f"http://127.0.0.1:{emulator.port}"
        client = await connect(emulator)
        assert (await client.post(host="ci.example")).status == 200
        assert (await client.post(host="no host")).status == 421
    async with Emulator("echo", host="0.0.0.0", allow_hosts=["ci.example"]) as emulator:
        client = await connect(emulator)
        assert (await client.post(host="ci.example:8787")).status == 200
        assert (await client.post(host="evil.example")).status == 421


async def test_http_1_0_may_leave_out_the_host(connect: Any) -> None:
    async with Emulator("echo", access_key=None) as emulator:
        client = await connect(emulator)
        client.writer.write(b"GET /v1/runs HTTP/1.0\r\n\r\n")
        assert (await client.read()).status == 200


@pytest.mark.parametrize("host", ["::", "0.0.0.0", ""])
async def test_where_it_listens_everywhere_its_url_is_one_that_clients_take(host: str) -> None:
    try:
        async with (
            Emulator("echo", host=host) as emulator,
            AsyncApp(emulator.url, access_key=emulator.access_key) as app,
        ):
            assert await app.invoke({"a": 1})
    except OSError:  # pragma: no cover - a machine without IPv6
        pytest.skip("no IPv6 here")


async def test_links_lead_where_the_client_found_the_emulator(connect: Any) -> None:
    async with Emulator("echo", host="0.0.0.0") as emulator:
        client = await connect(emulator)
        path = f"/~management/v1/apps?project_id={DEFAULT_PROJECT}"
        token = emulator.management.token
        listed = (await client.get(path, key=token, host="ci.example:9")).json["data"]
        assert {urlsplit(app["hostname"]).netloc for app in listed} == {"ci.example:9"}
        user = {"user_id": "ann"}
        link = await client.post("/v1/connect/tokens", user, host="ci.example:9")
        assert link.json["url"].startswith("http://ci.example:9/~connect/")


@pytest.mark.parametrize(
    ("host", "there"),
    [("[::1]:9", "[::1]:9"), ("localhost:9", "127.0.0.1:9"), ("127.0.0.1:9", "localhost:9")],
)
async def test_links_to_outputs_can_be_followed(connect: Any, host: str, there: str) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        key, inputs = emulator.flowy_key, {"inputs": {"text-1": "Go"}}
        started = await client.post("/~flowy/apps/poster/runs", inputs, key=key, host=host)
        run = started.json["data"]["runId"]
        shown = (await client.get(f"/~flowy/runs/{run}", key=key, host=host)).json["data"]
        assert urlsplit(shown["outputs"][0]["url"]).netloc == there


def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `localhost` be two addresses, as it is where there is IPv6."""
    resolve = socket.getaddrinfo

    def both(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host != "localhost":
            return resolve(host, port, *more, **options)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, int(port or 0))) for address in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr(socket, "getaddrinfo", both)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 has to be set up")
async def test_a_name_with_two_addresses_has_one_port(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_addresses(monkeypatch)
    async with Emulator("echo", host="localhost") as emulator:
        for address in ("127.0.0.1", "127.0.0.2"):
            _, writer = await asyncio.open_connection(address, emulator.port)
            writer.close()
        assert (await (await connect(emulator)).post()).status == 200


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 has to be set up")
async def test_a_port_that_is_taken_at_one_address_is_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two_addresses(monkeypatch)
    loop = asyncio.get_running_loop()
    listen, ports = loop.create_server, []

    async def refuse(server: Any, host: str, port: int, **more: Any) -> Any:
        ports.append(port)
        if port:
            raise OSError("taken")
        return await listen(server, host, port, **more)

    monkeypatch.setattr(loop, "create_server", refuse)
    emulator = Emulator("echo", host="localhost")
    with pytest.raises(OSError, match="taken"):
        await emulator.start()
    assert len(ports) == 20
    taken = Emulator("echo", port=ports[1])
    with pytest.raises(OSError, match="taken"):
        await taken.start()


@pytest.mark.parametrize("path", ["/nowhere", "/v1/runs/x", "/llm/nowhere", "/"])
@pytest.mark.parametrize("service", ["", "/~management", "/~flowy"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_token_is_looked_at_before_the_path(
    connect: Any, service: str, path: str, method: str
) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        for key in (None, "another"):
            assert (await client.call(method, service + path, key=key)).status == 401
        keys = {"/~management": emulator.management.token, "/~flowy": emulator.flowy_key}
        known = await client.call(method, service + path, key=keys.get(service, ""))
        assert known.status in (404, 405)


async def test_lists_of_runs_can_lag_and_executions_are_counted() -> None:
    session = "6f9619ff-8b86-4d11-b42d-00cf4fc964ff"
    async with Emulator("echo", list_lag=60.0, log_limit=1) as emulator:
        async with AsyncApp(emulator.url, access_key=emulator.access_key) as app:
            run = await app.runs.create({"n": 1}, session_id=session)
            await app.runs.create({"n": 2}, session_id=session)
            await app.invoke({"n": 3})
            assert (await app.runs.get(run.id)).id == run.id
            assert not (await app.runs.list()).data
            emulator.settings.list_lag = 0.0
            assert len(await app.runs.list()) == 2
        assert emulator.execution_counts == {session: 2, None: 1}
        emulator.reset()
        assert not emulator.execution_counts
