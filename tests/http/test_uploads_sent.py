"""Files on the wire: what is sent, from where, in how much memory, and what may go wrong."""

from __future__ import annotations

import asyncio
import io
import threading
import tracemalloc
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import Timeout, Upload, errors
from dynamiq_async._http.bodies import root_body
from dynamiq_async._http.multipart import PIECE, Multipart
from dynamiq_async.transport import Request
from tests.support.network import in_flight
from tests.support.wire import CHUNKED, LAST_CHUNK, Peer, chunk, final, make_response, script, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.network import MakeApp, Serve
    from tests.support.wire import Seen

INPUT = {"question": "Was ist das? ☃"}
OK = make_response({"a": 1})


def parts_of(request: Seen) -> list[tuple[str, str | None, str, bytes]]:
    """Name, file name, content type and content of each part, by another parser than ours."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + request.body)
    parts = []
    for part in message.get_payload():
        assert not isinstance(part, str)
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        assert isinstance(name, str)
        assert isinstance(payload, bytes)
        parts.append((name, part.get_filename(), part.get_content_type(), payload))
    return parts


async def pieces(*content: Any) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def test_a_form_as_the_vendors_widget_sends_it(
    serve: Serve, app_for: MakeApp, tmp_path: Path
) -> None:
    path = tmp_path / "invoice.pdf"
    path.write_bytes(b"%PDF")
    wire = await serve(script(OK))
    await app_for(wire).invoke(
        INPUT,
        files=[path, ("a b.txt", b"text"), Upload(b"\0\r\n--\xff", name="x.bin"), io.BytesIO(b"f")],
        user_id="u",
        session_id="s",
        extra_body={"chat_history": [{"role": "user"}]},
    )
    (request,) = wire.requests
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert int(request.headers["content-length"]) == len(request.body)
    assert parts_of(request) == [
        ("input", None, "text/plain", '{"question":"Was ist das? ☃"}'.encode()),
        ("user_id", None, "text/plain", b"u"),
        ("session_id", None, "text/plain", b"s"),
        ("chat_history", None, "text/plain", b'[{"role":"user"}]'),
        ("files", "invoice.pdf", "application/pdf", b"%PDF"),
        ("files", "a b.txt", "text/plain", b"text"),
        ("files", "x.bin", "application/octet-stream", b"\0\r\n--\xff"),
        ("files", "file", "application/octet-stream", b"f"),
    ]


async def test_names_with_quotes_stay_one_header(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(OK))
    name = 'a"b; name="input".txt'
    await app_for(wire).invoke(INPUT, files=Upload(b"x", name=name))
    head, _, _ = wire.requests[0].body.partition(b'name="files"')
    assert head.count(b'name="input"') == 1
    assert len(parts_of(wire.requests[0])) == 2


async def test_streams_and_submissions_take_files_too(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(
        script(CHUNKED + chunk(sse(final())) + LAST_CHUNK, make_response({"id": "1"}, 202))
    )
    app = app_for(wire)
    assert await app.stream(INPUT, files=b"x").output("agent-1") == {"content": "hi"}
    await app.submit(INPUT, files=b"x")
    first, second = (
        {name: content for name, _, _, content in parts_of(request)} for request in wire.requests
    )
    assert first["stream"] == b"true"
    assert first["files"] == b"x"
    assert second["execution_mode"] == b"async"


async def test_an_unknown_length_is_sent_in_chunks(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(OK))
    upload = Upload(pieces(b"some ", b"", b"bytes"), name="x")
    await app_for(wire).invoke(INPUT, files=upload)
    (request,) = wire.requests
    assert request.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in request.headers
    assert parts_of(request)[-1][3] == b"some bytes"


async def test_a_length_that_is_given_is_used(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(OK))
    await app_for(wire).invoke(INPUT, files=Upload(pieces(b"some ", b"bytes"), size=10))
    assert int(wire.requests[0].headers["content-length"]) == len(wire.requests[0].body)


@pytest.mark.parametrize("kind", ["path", "iterator", "json"])
async def test_a_large_body_needs_little_memory(
    kind: str, serve: Serve, app_for: MakeApp, tmp_path: Path
) -> None:
    size = 48 * 1024 * 1024
    taken = 0

    async def handler(peer: Peer) -> None:
        await peer.send(OK)

    async def swallow(self: Peer, headers: dict[str, str]) -> bytes:
        nonlocal taken
        length = int(headers["content-length"])
        while taken < length:
            taken += len(await self.reader.read(1 << 20))
        return b""

    async def zeros() -> AsyncIterator[bytes]:
        for _ in range(size // 65536):
            yield bytes(65536)

    wire = await serve(handler)
    app = app_for(wire)
    files: Any = None
    value: dict[str, Any] = dict(INPUT)
    if kind == "path":
        files = tmp_path / "large"
        with files.open("wb") as file:
            file.truncate(size)
    elif kind == "iterator":
        files = Upload(zeros(), size=size)
    else:
        value["large"] = "x" * (8 * 1024 * 1024)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(Peer, "read_body", swallow)
    tracemalloc.start()
    await app.invoke(value, files=files)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    monkey.undo()
    assert taken > (size if files else 8 * 1024 * 1024)
    # The body itself if it is JSON, and a few pieces and socket buffers.
    assert peak < (30 if kind == "json" else 12) * 1024 * 1024


class Waiting(io.BytesIO):
    """A file whose reads wait for the event loop to go on: on the loop they would never end."""

    def __init__(self, content: bytes, turn: threading.Event) -> None:
        super().__init__(content)
        self.turn = turn

    def read(self, size: int | None = -1) -> bytes:
        if size == 0:
            return b""
        assert self.turn.wait(5), "the loop is blocked"
        return super().read(size)


async def test_files_are_read_beside_the_loop(serve: Serve, app_for: MakeApp) -> None:
    turn = threading.Event()
    wire = await serve(script(OK))
    call = asyncio.ensure_future(app_for(wire).invoke(INPUT, files=Waiting(b"x" * 10, turn)))
    await asyncio.sleep(0.02)
    assert not call.done()
    turn.set()
    assert await call == {"a": 1}
    assert parts_of(wire.requests[0])[-1][3] == b"x" * 10


# --- what may go wrong ---------------------------------------------------------------------------


async def test_a_file_that_shrinks_is_never_sent_as_if_it_were_whole(
    serve: Serve, app_for: MakeApp, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1000)
    upload = Upload(path)
    path.write_bytes(b"x" * 500)
    wire = await serve(script(OK))
    with pytest.raises(errors.DynamiqError, match="log changed while it was sent"):
        await app_for(wire, max_retries=0).invoke(INPUT, files=upload)
    assert wire.requests == []
    await wire.all_closed()


async def test_a_file_that_grows_never_runs_over_its_length(
    serve: Serve, app_for: MakeApp, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1000)
    upload = Upload(path)
    path.write_bytes(b"x" * 1000 + b"GET /smuggled HTTP/1.1\r\n\r\n" * 100)
    wire = await serve(script(OK))
    with pytest.raises(errors.DynamiqError, match="log changed while it was sent"):
        await app_for(wire, max_retries=0).invoke(INPUT, files=upload)
    await wire.all_closed()
    assert wire.requests == []


async def test_a_file_that_vanishes_is_named(
    serve: Serve, app_for: MakeApp, tmp_path: Path
) -> None:
    path = tmp_path / "gone.txt"
    path.write_bytes(b"x")
    upload = Upload(path)
    path.unlink()
    wire = await serve(script(OK))
    with pytest.raises(errors.DynamiqError, match=r"gone\.txt"):
        await app_for(wire, max_retries=0).invoke(INPUT, files=upload)
    assert wire.requests == []


async def test_what_the_callers_own_iterator_raises_is_raised(
    serve: Serve, app_for: MakeApp
) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError("no more")

    wire = await serve(script(OK))
    with pytest.raises(LookupError, match="no more"):
        await app_for(wire, max_retries=0).invoke(INPUT, files=Upload(failing()))
    assert wire.requests == []
    await wire.all_closed()


async def test_a_response_in_mid_upload_counts(serve: Serve, app_for: MakeApp) -> None:
    """A server need not read a file to refuse it."""
    held = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        await held.wait()

    async def refuse(self: Peer, headers: dict[str, str]) -> bytes:
        return b""

    async def handler(peer: Peer) -> None:
        await peer.send(make_response({"error": {"code": "too_large", "message": "no"}}, 413))
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(Peer, "read_body", refuse)
    with pytest.raises(errors.PayloadTooLargeError):
        await app.invoke(INPUT, files=Upload(endless()))
    monkey.undo()
    assert in_flight(app) == 0
    await wire.all_closed()


async def test_an_upload_is_cancelled(serve: Serve, app_for: MakeApp) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.001)
        finally:
            closed.set()

    async def handler(peer: Peer) -> None:
        await peer.send(OK)

    wire = await serve(handler)
    app = app_for(wire)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(app.invoke(INPUT, files=Upload(endless())), 0.05)
    assert in_flight(app) == 0
    await wire.all_closed()
    async with asyncio.timeout(2):
        await closed.wait()


async def test_a_limit_in_mid_upload_is_ambiguous(serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(OK)

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    wire = await serve(handler)
    app = app_for(wire, timeout=Timeout(total=0.05))
    with pytest.raises(errors.AmbiguousTimeoutError):
        await app.invoke(INPUT, files=Upload(endless()))


def test_payloads_are_not_for_reading() -> None:
    """aiohttp asks some payloads for their text; a file would block."""
    from dynamiq_async.transport._aiohttp_body import RequestBody

    def body(**fields: Any) -> RequestBody:
        return RequestBody(Request("POST", "http://x/", {}, root_body(INPUT, **fields)))

    with pytest.raises(TypeError):
        body(files=b"x").decode()
    assert body().decode() == '{"input":{"question":"Was ist das? ☃"}}'


async def test_a_form_byte_by_byte() -> None:
    """As aiohttp wrote it, and browsers nearly do."""
    form = Multipart(
        [("input", '{"a":1}'), ('x"y', "é"), ("none", "")],
        [("files", Upload(b"%PDF", name='a\\"b.pdf')), ("files", Upload(b"", name="é"))],
    )
    boundary = form.content_type.removeprefix("multipart/form-data; boundary=")
    expected = (
        f"--{boundary}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        'Content-Disposition: form-data; name="input"\r\n\r\n'
        '{"a":1}\r\n'
        f"--{boundary}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        'Content-Disposition: form-data; name="x\\"y"\r\n\r\n'
        "é\r\n"
        f"--{boundary}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        'Content-Disposition: form-data; name="none"\r\n\r\n'
        "\r\n"
        f"--{boundary}\r\n"
        "Content-Type: application/pdf\r\n"
        'Content-Disposition: form-data; name="files"; filename="a\\\\\\"b.pdf"\r\n\r\n'
        "%PDF\r\n"
        f"--{boundary}\r\n"
        "Content-Type: application/octet-stream\r\n"
        'Content-Disposition: form-data; name="files"; filename="é"\r\n\r\n'
        "\r\n"
        f"--{boundary}--\r\n"
    ).encode()
    for _ in range(2):
        sent = [piece async for piece in form]
        assert b"".join(sent) == expected
        assert all(sent)
    assert form.length == len(expected)


async def test_a_form_is_sent_in_pieces() -> None:
    whole = Upload(memoryview(bytes(2 * PIECE + 1)), name="x")
    form = Multipart([], [("file", whole)])
    _, *content, _, _ = [len(piece) async for piece in form]
    assert content == [PIECE, PIECE, 1]
    odd = Multipart([], [("file", Upload(pieces(b"", b"a", bytearray(b"b"), memoryview(b"c"))))])
    assert odd.length is None
    _, *content_, _, _ = [piece async for piece in odd]
    assert content_ == [b"a", b"b", b"c"]


@pytest.mark.parametrize("name", ["a\r\nX: y", "\x00", "\udc80"])
def test_a_field_s_name_is_no_header_of_its_own(name: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="a field's name") as caught:
        root_body(INPUT, files=b"x", extra_body={name: 1})
    assert caught.value.argument == "extra_body"


async def test_an_iterator_of_something_else_says_so(serve: Serve, app_for: MakeApp) -> None:
    async def texts() -> AsyncIterator[Any]:
        yield "text"

    wire = await serve(script(OK))
    with pytest.raises(TypeError, match="bytes-like"):
        await app_for(wire).invoke(INPUT, files=Upload(texts()))


# --- open files belong to one call at a time -----------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "BytesIO", "Upload", "named", "iterator"])
async def test_an_open_file_in_two_calls_is_refused_to_the_second(
    kind: str, serve: Serve, app_for: MakeApp, tmp_path: Path
) -> None:
    path = tmp_path / "invoice.pdf"
    content = bytes(range(256)) * 2048
    path.write_bytes(content)
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def handler(peer: Peer) -> None:
        entered.set()
        await go_on.wait()
        await peer.send(OK)

    wire = await serve(handler)
    app = app_for(wire)
    with path.open("rb") as opened:
        shared: Any = {
            "file": opened,
            "BytesIO": io.BytesIO(content),
            "Upload": Upload(opened),
            "named": ("a.pdf", opened),
            "iterator": pieces(content),
        }[kind]
        late = app.stream(INPUT, files=shared)  # made before, sent after
        first = asyncio.create_task(app.invoke(INPUT, files=shared))
        await entered.wait()
        for second in (
            app.invoke(INPUT, files=shared),
            app.files.upload(shared if kind != "named" else opened),
            anext(late),
        ):
            with pytest.raises(errors.InvalidArgumentError, match="another call") as caught:
                await second
            assert caught.value.argument == "files"
        go_on.set()
        assert await first == {"a": 1}
    [request] = wire.requests
    assert parts_of(request)[1][3] == content
    await late.aclose()


async def test_a_file_is_free_again_when_its_call_is_over(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response(None, 400), OK))
    app = app_for(wire)
    opened = io.BytesIO(b"text")
    with pytest.raises(errors.BadRequestError):
        await app.invoke(INPUT, files=opened)
    opened.seek(0)
    await app.invoke(INPUT, files=[opened, opened])
    assert [part[3] for part in parts_of(wire.requests[1])[1:]] == [b"text", b"text"]


async def test_paths_bytes_and_what_gives_iterators_may_be_shared(
    serve: Serve, app_for: MakeApp, tmp_path: Path
) -> None:
    class Source:
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"text"

    path = tmp_path / "a.txt"
    path.write_bytes(b"text")
    both = asyncio.Barrier(2)

    async def handler(peer: Peer) -> None:
        await both.wait()
        await peer.send(OK)

    wire = await serve(handler)
    app = app_for(wire)
    for shared in (path, b"text", Upload(path), Source()):
        await asyncio.gather(*(app.invoke(INPUT, files=shared) for _ in range(2)))
    assert {parts_of(request)[1][3] for request in wire.requests} == {b"text"}


async def test_a_file_that_was_closed_before_it_is_sent_is_named(
    serve: Serve, app_for: MakeApp, tmp_path: Path
) -> None:
    path = tmp_path / "invoice.pdf"
    path.write_bytes(b"%PDF")
    wire = await serve(script(OK))
    app = app_for(wire)
    with path.open("rb") as opened:
        stream = app.stream(INPUT, files=opened)
    with pytest.raises(errors.InvalidArgumentError, match=r"invoice\.pdf was closed"):
        await anext(stream)
    assert wire.requests == []
    await stream.aclose()


async def test_a_file_that_was_closed_before_a_retry_is_named(
    serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    opened = io.BytesIO(b"text")

    async def handler(peer: Peer) -> None:
        opened.close()
        await peer.send(make_response(None, 429, "Retry-After: 1"))

    wire = await serve(handler)
    with pytest.raises(errors.InvalidArgumentError, match="file was closed before it was sent"):
        await app_for(wire).invoke(INPUT, files=opened)
    assert len(wire.requests) == 1


async def test_the_upload_of_a_web_framework_gets_a_hint(app_for: MakeApp) -> None:
    from starlette.datastructures import UploadFile

    upload = UploadFile(io.BytesIO(b"text"), filename="a.txt")
    with pytest.raises(errors.InvalidArgumentError, match=r"not UploadFile; pass its `\.file`"):
        await app_for("http://127.0.0.1:9").invoke(INPUT, files=upload)
