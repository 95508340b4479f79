"""TLS with private CAs, and proxies."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from dynamiq_async import errors
from tests.support.network import in_flight
from tests.support.wire import (
    CHUNKED,
    Peer,
    chunk,
    make_response,
    says,
    script,
    server_context,
    sse,
)

if TYPE_CHECKING:
    from tests.support.network import MakeApp, Serve

INPUT = {"question": "?"}
OK = make_response({"a": 1})
ONE = sse(says("one"))


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("kind", ["str", "path", "context", "folder"])
async def test_a_private_ca(
    kind: str, ca: trustme.CA, serve: Serve, app_for: MakeApp, tmp_path: Any
) -> None:
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(file)
    verify: Any = str(file) if kind == "str" else file
    if kind == "context":
        verify = ssl.create_default_context(cafile=str(file))
    if kind == "folder":
        name = subprocess.run(
            ["openssl", "x509", "-hash", "-noout", "-in", str(file)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        file.rename(tmp_path / f"{name}.0")
        verify = tmp_path
    wire = await serve(script(OK), tls=server_context(ca))
    app = app_for(wire, verify=verify)
    for _ in range(2):
        assert await app.invoke(INPUT) == {"a": 1}
    assert wire.connections == 1


async def test_a_ca_that_is_not_trusted_is_named(
    ca: trustme.CA, serve: Serve, app_for: MakeApp, tmp_path: Any
) -> None:
    wire = await serve(script(OK), tls=server_context(ca))
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    other = str(tmp_path / "other.pem")
    for verify, name in (
        (other, other),
        (ssl.create_default_context(cafile=other), "SSLContext"),
        (None, "system's CA certificates"),
    ):
        with pytest.raises(errors.ConnectError, match="TLS failed") as caught:
            await app_for(wire, verify=verify, max_retries=0).invoke(INPUT)
        assert name in caught.value.message
        assert "verify=" in caught.value.message
    async with aiohttp.ClientSession() as session:
        app = app_for(wire, session=session, max_retries=0)
        with pytest.raises(errors.ConnectError, match="given session"):
            await app.invoke(INPUT)
    assert wire.requests == []


async def test_a_server_without_tls(app_for: MakeApp) -> None:
    server = await asyncio.start_server(_answer_in_plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    app = app_for(f"https://127.0.0.1:{port}", max_retries=0)
    with pytest.raises(errors.ConnectError, match="TLS failed"):
        await app.invoke(INPUT)
    server.close()
    await server.wait_closed()


async def _answer_in_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(OK)
    writer.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("name", ["missing.pem", "not-a-ca.pem"])
async def test_certificates_that_cannot_be_used(name: str, app_for: MakeApp, tmp_path: Any) -> None:
    (tmp_path / "not-a-ca.pem").write_text("nonsense")
    with pytest.raises(errors.InvalidArgumentError, match="verify") as caught:
        await app_for("https://127.0.0.1:9", verify=tmp_path / name).invoke(INPUT)
    assert caught.value.argument == "verify"


async def test_a_stream_over_tls_is_left(
    ca: trustme.CA, serve: Serve, app_for: MakeApp, tmp_path: Any
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE))
        await peer.gone()

    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    wire = await serve(handler, tls=server_context(ca))
    app = app_for(wire, verify=tmp_path / "ca.pem")
    async for event in app.stream(INPUT):
        assert event.text == "one"
        break
    await wire.all_closed()
    assert in_flight(app) == 0


# --- proxies -------------------------------------------------------------------------------------


async def test_a_proxy_gets_the_absolute_form(serve: Serve, app_for: MakeApp) -> None:
    proxy = await serve(script(OK))
    app = app_for("http://app.example/base", allow_http=True, proxy=proxy.url)
    assert await app.invoke(INPUT) == {"a": 1}
    assert proxy.requests[0].target == "http://app.example/base/"
    assert proxy.requests[0].headers["host"] == "app.example"


async def test_a_proxy_is_asked_to_connect_for_https(serve: Serve, app_for: MakeApp) -> None:
    proxy = await serve(script(make_response(None, 407)))
    app = app_for("https://app.example", proxy=proxy.url, max_retries=0)
    with pytest.raises(errors.ConnectError, match="proxy refused"):
        await app.invoke(INPUT)
    assert proxy.requests[0].method == "CONNECT"
    assert proxy.requests[0].target == "app.example:443"
    assert "authorization" not in proxy.requests[0].headers


async def test_a_proxy_that_is_not_there(app_for: MakeApp) -> None:
    app = app_for(
        "http://app.example", allow_http=True, proxy="http://u:pa55@127.0.0.1:9", max_retries=0
    )
    with pytest.raises(errors.ConnectError) as caught:
        await app.invoke(INPUT)
    assert "pa55" not in f"{caught.value!r}{vars(caught.value)}{caught.value.__cause__!r}"


async def test_proxies_of_the_environment(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, wire = await serve(script(OK)), await serve(script(OK))
    for name in ("http_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    await app_for(wire).invoke(INPUT)
    assert proxy.requests == []
    await app_for("http://app.example", allow_http=True, trust_env=True).invoke(INPUT)
    assert proxy.requests[0].target == "http://app.example/"
    for bypass in ("127.0.0.1", f"127.0.0.1:{wire.port}", "*"):
        monkeypatch.setenv("NO_PROXY", bypass)
        await app_for(wire, trust_env=True).invoke(INPUT)
    assert len(proxy.requests) == 1
    assert len(wire.requests) == 4


async def test_an_address_that_is_none(app_for: MakeApp) -> None:
    for proxy in ("socks5://127.0.0.1:9", "127.0.0.1:9", "http://", "http://[::1"):
        app = app_for("http://127.0.0.1:9", proxy=proxy, max_retries=0)
        with pytest.raises(errors.InvalidArgumentError):
            await app.invoke(INPUT)
        assert in_flight(app) == 0
