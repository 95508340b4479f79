"""TLS with private CAs, and proxies."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from dynamiq_async import errors
from dynamiq_async.transport._aiohttp_connections import (
    NotConnectedError,
    OwnHandler,
    own_socket,
)
from dynamiq_async.transport._aiohttp_errors import translated
from dynamiq_async.transport.proxies import Proxy, proxy_for
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
    from collections.abc import Iterator

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
    with pytest.raises(errors.ConnectError, match="refused: 407"):
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


VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One without proxies."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def test_proxies_of_the_environment(
    serve: Serve, app_for: MakeApp, environment: pytest.MonkeyPatch
) -> None:
    proxy, wire = await serve(script(OK)), await serve(script(OK))
    environment.setenv("HTTP_PROXY", proxy.url)
    await app_for(wire).invoke(INPUT)
    assert proxy.requests == []
    await app_for("http://app.example", allow_http=True, trust_env=True).invoke(INPUT)
    assert proxy.requests[0].target == "http://app.example/"
    for bypass in ("127.0.0.1", f"127.0.0.1:{wire.port}", "*", "127.0.0.0/8"):
        environment.setenv("NO_PROXY", bypass)
        await app_for(wire, trust_env=True).invoke(INPUT)
    assert len(proxy.requests) == 1
    assert len(wire.requests) == 5


@pytest.mark.parametrize(
    ("variables", "url", "source"),
    [
        ({"HTTP_PROXY": "p:1"}, "http://app.example", "HTTP_PROXY"),
        ({"HTTPS_PROXY": "http://p:1"}, "https://app.example", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "P:2", "https_proxy": "p:1"}, "https://app.example", "https_proxy"),
        ({"ALL_PROXY": " p:1 "}, "https://app.example", "ALL_PROXY"),
        ({"all_proxy": "p:1", "HTTPS_PROXY": "q:1"}, "http://app.example", "all_proxy"),
        ({"ALL_PROXY": "q:1", "HTTP_PROXY": "p:1"}, "http://app.example", "HTTP_PROXY"),
        ({"HTTP_PROXY": "q:1"}, "https://app.example", None),
        ({"HTTP_PROXY": "", "ALL_PROXY": ""}, "http://app.example", None),
        ({"HTTP_PROXY": "q:1", "REQUEST_METHOD": "GET"}, "http://app.example", None),
    ],
)
def test_the_variable_is_known(
    variables: dict[str, str], url: str, source: str | None, environment: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    found = proxy_for(url, None, trust_env=True)
    assert found == (None if source is None else Proxy("http://p:1", source))
    assert proxy_for(url, None, trust_env=False) is None


@pytest.mark.parametrize("direct", [True, False])
def test_the_systems_settings_come_last(direct: bool, environment: pytest.MonkeyPatch) -> None:
    environment.setattr("urllib.request.getproxies", lambda: {"https": "http://p:1"})
    environment.setattr("urllib.request.proxy_bypass", lambda host: direct and host == "a.example")
    found = proxy_for("https://a.example/x", None, trust_env=True)
    assert found == (None if direct else Proxy("http://p:1", "the system's settings"))


@pytest.mark.parametrize(
    ("no_proxy", "url", "directly"),
    [
        ("example.com", "https://example.com", True),
        ("example.com", "https://app.example.com", True),
        (".example.com", "https://app.EXAMPLE.com.", True),
        (".example.com", "https://example.com", True),
        ("*.Example.com", "https://app.example.com", True),
        ("example.com", "https://notexample.com", False),
        ("a.example, ,b.example", "https://b.example", True),
        ("a.example b.example", "https://b.example", True),
        ("app.example:443", "https://app.example", True),
        ("app.example:443", "http://app.example", False),
        ("app.example:8443", "https://app.example:8443/x", True),
        ("app.example:8443", "https://app.example", False),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.1/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", "https://10.example", False),
        ("10.0.0.0/8", "https://[::1]", False),
        ("10.0.0.0/99, 10.1.2.3", "https://10.1.2.3", True),
        ("10.1.2.3:80", "https://10.1.2.3", False),
        ("10.1.2.3", "https://[::ffff:10.1.2.3]", True),
        ("2.3", "https://10.1.2.3", False),
        ("fd00::/8", "https://[fd12::1]:8443", True),
        ("[fd00::]/8", "https://[fd12::1]", True),
        ("[::1]", "https://[::1]", True),
        ("::1", "https://[0:0:0:0:0:0:0:1]", True),
        ("[::1]:8000", "http://[::1]:8000", True),
        ("[::1]:8000", "http://[::1]:8001", False),
        ("[::1]", "https://[::2]", False),
        ("*", "https://app.example", True),
        ("localhost", "http://bot.localhost", True),
        (".", "https://app.example", False),
        ("", "https://app.example", False),
    ],
)
def test_what_goes_past_the_proxy(
    no_proxy: str, url: str, directly: bool, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("ALL_PROXY", "p:1")
    environment.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(url, None, trust_env=True) is None) is directly


@pytest.mark.parametrize(
    "proxy",
    ["socks5://u:pa55@127.0.0.1:9", "SOCKS4a://x", "ftp://pa55@x", "http://", "http://[::1", "x:0"],
)
async def test_an_address_that_is_none(
    proxy: str, app_for: MakeApp, environment: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"^proxy: ") as caught:
        app_for("http://127.0.0.1:9", proxy=proxy)
    assert caught.value.argument == "proxy"
    assert "pa55" not in str(caught.value)
    assert ("SOCKS" in caught.value.message) is proxy.lower().startswith("socks")
    environment.setenv("https_proxy", proxy)
    with pytest.raises(errors.InvalidArgumentError, match=r"^https_proxy: ") as caught:
        await app_for("https://app.example", trust_env=True).invoke(INPUT)
    assert caught.value.argument == "trust_env"
    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize("source", ["proxy", "HTTPS_PROXY"])
async def test_errors_say_where_the_proxy_was_named(
    source: str, serve: Serve, app_for: MakeApp, environment: pytest.MonkeyPatch
) -> None:
    async def closing(peer: Peer) -> None:
        peer.close()

    refusing = await serve(script(make_response(None, 407)))
    closed = await serve(closing)
    for port, said in (
        (refusing.port, "refused: 407"),
        (closed.port, "cannot connect"),
        (9, "refused"),
    ):
        proxy = f"user:pa55@127.0.0.1:{port}"
        environment.setenv("HTTPS_PROXY", proxy)
        options = {"trust_env": True} if source != "proxy" else {"proxy": proxy}
        app = app_for("https://app.example", max_retries=0, **options)
        with pytest.raises(errors.ConnectError, match=said) as caught:
            await app.invoke(INPUT)
        assert f"the proxy 127.0.0.1:{port} (from {source})" in caught.value.message
        assert "pa55" not in f"{caught.value!r}{vars(caught.value)}{caught.value.__cause__!r}"
        assert "pa55" not in repr(Proxy(proxy, source))


# --- client certificates -------------------------------------------------------------------------


@pytest.fixture(params=["resets"])
def strict(ca: trustme.CA, request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server that wants a client certificate. It sends its alerts as servers do;
    asyncio's own does not send them. What it has not read when it closes becomes a reset."""
    context = server_context(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # of accept, at the end
            while True:
                connection, _ = listening.accept()
                connection.settimeout(5)
                with context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                ) as tls:
                    with suppress(OSError):
                        tls.do_handshake()
                    while request.param == "reads" and socket.socket.recv(tls, 65536):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    listening.close()


@pytest.mark.parametrize("size", [10, 100_000, 5_000_000])
async def test_a_client_certificate_that_is_missing_is_named_and_nothing_was_sent(
    size: int, ca: trustme.CA, strict: int, app_for: MakeApp, no_backoff: list[float]
) -> None:
    """In TLS 1.3 the alert comes after the handshake; with a large body, behind a reset."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    app = app_for(f"https://localhost:{strict}", verify=context, max_retries=1)
    with pytest.raises(errors.ConnectError, match="certificate required") as caught:
        await app.invoke({"text": "x" * size})
    assert "verify=" in caught.value.message
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert caught.value.attempts == 2


@pytest.mark.parametrize("strict", ["reads"], indirect=True)
async def test_a_client_certificate_that_is_missing_on_a_given_session(
    ca: trustme.CA, strict: int, app_for: MakeApp
) -> None:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        app = app_for(f"https://localhost:{strict}", session=session, max_retries=0)
        with pytest.raises(errors.ConnectError, match="certificate required"):
            await app.invoke(INPUT)


@pytest.mark.parametrize(
    ("reason", "refused"),
    [
        ("TLSV1_ALERT_ACCESS_DENIED", True),
        ("TLSV1_ALERT_INTERNAL_ERROR", True),
        ("SSLV3_ALERT_BAD_CERTIFICATE", True),
        ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", False),
        (None, False),
    ],
)
async def test_only_an_alert_before_anything_else_says_that_nothing_was_read(
    reason: str | None, refused: bool
) -> None:
    for fresh in (True, False):
        lost = ssl.SSLError(1, f"[SSL: {reason}] what was said")
        lost.reason = reason  # type: ignore[assignment]
        handler = OwnHandler(asyncio.get_running_loop())
        if not fresh:
            handler.data_received(b"HTTP/1.1 200 OK\r\n")
        handler.connection_lost(lost)
        with pytest.raises(aiohttp.ClientConnectionError) as caught:
            await handler.read()
        assert isinstance(caught.value, NotConnectedError) is (refused and fresh)
        error = translated(caught.value, "POST /", ca="", key=None)
        certificate = "CERTIFICATE" in (reason or "")
        assert isinstance(error, errors.ConnectError) is ((refused and fresh) or certificate)


async def test_what_the_server_said_last_is_read_though_sending_fails(
    serve: Serve, app_for: MakeApp
) -> None:
    """A server that answers before it has the body, and closes, resets the connection."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve_one() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(make_response(None, 413))

    thread = threading.Thread(target=serve_one)
    thread.start()
    app = app_for(f"http://127.0.0.1:{listening.getsockname()[1]}", max_retries=0)
    with pytest.raises(errors.PayloadTooLargeError):
        await app.invoke({"text": "x" * 20_000_000})
    thread.join(5)
    listening.close()


@pytest.mark.parametrize("message", [False, True])
def test_a_socket_sends_as_long_as_there_is_something_to_read(message: bool) -> None:
    ours = own_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)))
    with socket.create_server(("127.0.0.1", 0)) as listening, ours:
        ours.connect(listening.getsockname())
        theirs, _ = listening.accept()

        def send(data: bytes) -> int:
            return ours.sendmsg([data]) if message else ours.send(data)

        assert send(b"unread") == 6
        theirs.send(b"said")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()  # which resets, since it has not read everything
        assert send(b"lost") == 4
        assert ours.recv(10) == b"said"
        with pytest.raises(OSError, match=r"pipe|reset"):
            send(b"lost")


def test_a_socket_with_nothing_to_read_fails() -> None:
    ours = own_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)))
    with socket.create_server(("127.0.0.1", 0)) as listening, ours:
        ours.connect(listening.getsockname())
        ours.setblocking(False)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            ours.send(b"lost")
