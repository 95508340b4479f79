"""Whatever is sent to the emulator, it sends what is documented, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamiq_async.emulator import DEFAULT_KEY, DEFAULT_PROJECT, DEFAULT_TOKEN, Emulator
from tests.support.limits import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.raw_http import RawClients

OK = {200, 202, 204}
REFUSED = {400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 421, 422, 429}
IDS = ["9b2d1f0e-0000-4000-8000-000000000000", "haiku", "collage", DEFAULT_PROJECT, "x" * 300]
PATHS = [
    *("/", "/echo/", "/failing/", "/v1/files", "/v1/runs", "/v1/runs/{}", "/v1/runs/{}/cancel"),
    *("/v1/runs/{}/input", "/v1/runs/{}/events", "/v1/runs/{}/stream", "/echo/v1/runs"),
    *("/v1/requirements", "/v1/requirements/status", "/v1/requirements/{}/connections"),
    *("/v1/connect/tokens", "/~connect/{}", "/~management/v1/apps", "/~management/v1/apps/{}"),
    *("/~management/v1/apps/{}/traces", "/~management/v1/apps/{}/sessions/{}/messages"),
    *("/~management/v1/apps/{}/runs/{}/artifacts", "/~management/v1/me", "/~management/v1/orgs"),
    *("/~management/v1/projects", "/~artifact-files/{}/{}/{}", "/~flowy/apps", "/~flowy/apps/{}"),
    *("/~flowy/apps/{}/runs", "/~flowy/runs/{}", "/~flowy/generations", "/~flowy/credits"),
    *("/~flowy/assets", "/~flowy-files/{}/{}/{}", "/{}", "/~{}", "/{}/v1/runs"),
]
KEYS = [DEFAULT_KEY, DEFAULT_KEY, DEFAULT_TOKEN, "flowy_sk_emulator", "no"]
KINDS = ["text/plain", "application/json", "@"]
HOSTS = ["localhost", "127.0.0.1:1", "evil.example", "echo.localhost", "@"]
MORE = ["Origin: null", "Expect: 100-continue", "Upgrade: websocket"]
QUERIES = [
    *("status", "page", "page_size", "sort", "user_id", "session_id", "after_sequence", "expires"),
    *("project_id", "archived", "org_id", "started_at:gte", "signature", "x"),
]
FIELDS = [
    *("input", "stream", "background", "user_id", "session_id", "file_ids", "callbacks", "type"),
    *("execution_mode", "data", "inputs", "prompt", "requirement_ids", "chat_history"),
    *("last_node_output", "error_on_node_failure"),
]
NAMES = [
    "../../x",
    "/etc/passwd",
    "C:\\x",
    "a\0b",
    "CON",
    "nul.txt",
    "",
    ".",
    "..",
    "é",
    "x" * 5000,
]

texts = st.text(max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.sampled_from(FIELDS), values, max_size=5)
inputs = objects.map(lambda value: {**value, "input": {}})


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """Multipart bodies, some of them cut or with more in between."""
    body = b""
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*FIELDS, "files", "file"]))
        line = f'Content-Disposition: form-data; name="{name}"'
        if draw(st.booleans()):
            line += f'; filename="{draw(st.sampled_from(NAMES))}"'
        content = draw(st.binary(max_size=20) | values.map(lambda v: json.dumps(v).encode()))
        body += b"--B\r\n" + line.encode() + b"\r\n\r\n" + content + b"\r\n"
    body += b"--B--\r\n"
    return body[: draw(st.integers(0, len(body)))] if draw(st.booleans()) else body


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """What a client sends on a connection; now and then it is not even HTTP."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=60)) + b"\r\n\r\n"
    method = draw(st.sampled_from(["GET", "POST", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "X"]))
    path = draw(st.sampled_from(PATHS))
    while "{}" in path:
        piece = draw(st.sampled_from(IDS) | texts.map(lambda text: quote(text, safe="")))
        path = path.replace("{}", piece, 1)
    query = draw(
        st.dictionaries(st.sampled_from(QUERIES), texts | st.sampled_from(IDS), max_size=3)
    )
    target = path + "?" * bool(query) + "&".join(f"{k}={quote(v)}" for k, v in query.items())
    key = draw(
        st.sampled_from([DEFAULT_KEY, DEFAULT_KEY, DEFAULT_TOKEN, "flowy_sk_emulator", "no"])
    )
    kind, body = draw(
        st.tuples(st.just("application/json"), (inputs | objects | values).map(json.dumps))
        | st.tuples(st.just("multipart/form-data; boundary=B"), forms())
        | st.tuples(st.sampled_from(KINDS), st.binary(max_size=30))
    )
    body = body.encode() if isinstance(body, str) else body
    host = draw(st.sampled_from(HOSTS))
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"Authorization: Bearer {key}", f"Content-Type: {kind}"]
    if draw(st.booleans()):
        lines.append(
            draw(st.sampled_from(["Origin: null", "Expect: 100-continue", "Upgrade: websocket"]))
        )
    framing = draw(st.sampled_from(["length", "length", "more", "chunked", "none"]))
    if framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n" % (len(body), body) * bool(body) + b"0\r\n\r\n"
    elif framing != "none":
        lines.append(f"Content-Length: {len(body) + 5 * (framing == 'more')}")
    sent = "\r\n".join((*lines, "", "")).encode() + body * (framing != "none")
    return sent[: draw(st.integers(1, len(sent)))] if draw(st.integers(0, 9)) == 0 else sent


@dataclass
class Serving:
    """An emulator on a loop of its own, and what was complained of on it."""

    runner: asyncio.Runner
    emulator: Emulator
    complaints: list[str] = field(default_factory=list)

    def send(self, request: bytes) -> bytes:
        """All that comes back."""
        return self.runner.run(self._send(request))

    async def _send(self, request: bytes) -> bytes:
        emulator = self.emulator
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.complaints.append(str(context)))
        me = asyncio.current_task()
        async with asyncio.timeout(HANG_SECONDS):
            reader, writer = await asyncio.open_connection(emulator.host, emulator.port)
            writer.write(request)
            received = b""
            with suppress(ConnectionResetError):
                received = await reader.read()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            await emulator.wait_until(lambda: not emulator.open_connections, timeout=None)
            while asyncio.all_tasks() - {me}:  # each run here comes to its end
                await asyncio.sleep(0.001)
        return received


class Complaints(logging.Handler):
    """Whatever a library or asyncio thinks that somebody should look at."""

    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        self._into.append(record.getMessage())


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with asyncio.Runner() as runner:
        emulator = Emulator("echo", read_timeout=0.05, keepalive_timeout=0.05)
        emulator.flowy.limits = dict.fromkeys(emulator.flowy.limits, 10**9)
        runner.run(emulator.start())
        served = Serving(runner, emulator)
        handler = Complaints(served.complaints)
        logging.getLogger().addHandler(handler)
        try:
            yield served
        finally:
            logging.getLogger().removeHandler(handler)
            runner.run(emulator.aclose())
        assert not list(tmp_path.iterdir())


def check(request: bytes, received: bytes) -> None:
    """That these are whole responses, and of the documented ones. None at all is one to a request
    that did not come whole."""
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode().split("\r\n")
        status = int(status_line.split()[1])
        headers = dict(line.lower().split(": ", 1) for line in lines)
        assert status in {100, *OK, *REFUSED}
        bodyless = status in (100, 204) or request.startswith(b"HEAD ")
        if "chunked" in headers.get("transfer-encoding", ""):
            assert headers["content-type"] == "text/event-stream"
            assert rest.endswith(b"\r\n0\r\n\r\n")
            return
        length = 0 if bodyless else int(headers["content-length"])
        body, received = rest[:length], rest[length:]
        assert len(body) == length
        if status in REFUSED and not bodyless:
            assert headers["content-type"] == "application/json"
            check_error(request, json.loads(body)["error"])


def check_error(request: bytes, error: Any) -> None:
    if isinstance(error, str):
        assert b" /~flowy" in request
    else:
        assert set(error) <= {"code", "message", "details"}
        assert isinstance(error["code"], str)
        assert isinstance(error["message"], str)
        assert isinstance(error.get("details", {}), dict)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests())
def test_random_requests_get_documented_responses(serving: Serving, request: bytes) -> None:
    check(request, serving.send(request))
    assert serving.complaints == []


@pytest.mark.parametrize("db", [False, True])
@pytest.mark.parametrize("name", NAMES)
async def test_no_name_of_a_file_leads_out_of_the_folder(
    connect: RawClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, db: bool
) -> None:
    there, kept = tmp_path / "deep" / "there", tmp_path / "kept"
    there.mkdir(parents=True)
    kept.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(there))
    async with Emulator("echo", db=kept / "emulator.db" if db else None) as emulator:
        client = await connect(emulator)
        quoted = name.replace("\\", "\\\\")
        uploaded = await client.form("/v1/files", (f'name="file"; filename="{quoted}"', b"mine"))
        file = uploaded.json["data"]
        assert (file["size"], file["name"]) == (4, name)
        run = await client.post("/v1/runs", {"input": {}, "file_ids": [file["id"]]})
        assert run.status == 200
        [made] = emulator.management.executions[0].artifacts
        assert (made.name, made.content) == (name, b"mine")
        [folder] = there.iterdir()
        stored = [path.name for path in folder.iterdir()]
        assert stored == ([] if db else [file["id"]])
        assert str(UUID(file["id"])) == file["id"]
        assert {path.name for path in tmp_path.rglob("*")} <= {  # noqa: ASYNC240
            *("deep", "there", "kept", folder.name, *stored),
            *(f"emulator.db{end}" for end in ("", "-wal")),
        }


async def test_a_head_has_no_body(connect: RawClients) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        for path in ("/v1/runs", "/nowhere"):
            await client.send("HEAD", path)
            assert (await client.head()).status in (404, 405)
        assert (await client.get("/v1/runs")).status == 200  # on the same connection
