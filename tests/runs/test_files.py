"""`app.files`: files of every kind, sent in constant memory, and refused before they are sent."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import File, Upload, errors, files
from dynamiq_async.emulator import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .conftest import Serve

TEXT = b"%PDF-1.7 an invoice"
MIB = 1024 * 1024


async def pieces() -> AsyncIterator[bytes]:
    for start in range(0, len(TEXT), 4):
        yield TEXT[start : start + 4]


async def contents(input: dict[str, Any], run: Any) -> Any:
    return [[file.name, file.mime_type, file.read().decode()] for file in run.files]


@pytest.fixture
def invoice(tmp_path: Path) -> Path:
    path = tmp_path / "invoice.pdf"
    path.write_bytes(TEXT)
    return path


KINDS: dict[str, Any] = {
    "path": lambda path: path,
    "text": str,
    "bytes": lambda _: TEXT,
    "bytearray": lambda _: bytearray(TEXT),
    "memoryview": lambda _: memoryview(TEXT),
    "BytesIO": lambda _: io.BytesIO(TEXT),
    "async": lambda _: pieces(),
    "Upload": lambda path: Upload(path, name="invoice.pdf"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_files_of_every_kind(serve: Serve, invoice: Path, kind: str) -> None:
    served = await serve(contents)
    name: dict[str, Any] = {} if kind == "Upload" else {"name": "invoice.pdf"}
    file = await served.app.files.upload(KINDS[kind](invoice), **name)
    assert file == File(id=file.id, name="invoice.pdf", size=len(TEXT), mime_type="application/pdf")
    run = await served.app.runs.create({}, file_ids=[file.id])
    stored = run.output["output"]
    assert stored == [["invoice.pdf", "application/pdf", TEXT.decode()]]
    [part] = served.emulator.requests[0].form
    assert (part.name, part.filename) == ("file", "invoice.pdf")


async def test_a_files_name_and_type_are_its_own_or_those_given(
    serve: Serve, invoice: Path
) -> None:
    app = (await serve()).app
    file = await app.files.upload(invoice)
    assert (file.name, file.mime_type) == ("invoice.pdf", "application/pdf")
    file = await app.files.upload(invoice, name='Röch"nung.x', mime_type="text/x-own")
    assert (file.name, file.mime_type) == ('Röch"nung.x', "text/x-own")
    file = await app.files.upload(b"")
    assert (file.name, file.size, file.mime_type) == ("file", 0, "application/octet-stream")
    with pytest.raises(errors.InvalidArgumentError, match="its own name"):
        await app.files.upload(Upload(b""), name="other")
    with pytest.raises(errors.InvalidArgumentError, match="its own name"):
        await app.files.upload(Upload(b""), mime_type="text/x-own")


async def test_an_open_file_stays_open(serve: Serve, invoice: Path) -> None:
    app = (await serve()).app
    with invoice.open("rb") as opened:
        opened.seek(5)
        file = await app.files.upload(opened)
        assert (file.size, opened.closed) == (len(TEXT) - 5, False)


async def test_a_file_belongs_to_its_app(serve: Serve) -> None:
    served = await serve()
    file = await served.app.files.upload(TEXT)
    other = await serve()
    with pytest.raises(errors.BadRequestError) as caught:
        await other.app.runs.create({}, file_ids=[file.id])
    assert caught.value.details == {"file_ids": f"there is no file {file.id!r}"}


# --- the limit -----------------------------------------------------------------------------------


async def test_more_than_128_mib_is_refused_before_sending(serve: Serve, tmp_path: Path) -> None:
    served = await serve()
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(128 * MIB + 1)
    with large.open("rb") as opened:
        for content in (large, str(large), opened, Upload(pieces(), size=128 * MIB + 1)):
            with pytest.raises(errors.InvalidArgumentError, match="134217729 bytes") as caught:
                await served.app.files.upload(content)
            assert caught.value.argument == "content"
    assert not served.emulator.requests
    assert not served.emulator.connections


async def test_content_of_unknown_size_is_stopped_at_the_limit(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve()
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    given: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            given.append(4)
            yield b"four"

    with pytest.raises(errors.InvalidArgumentError, match="larger than 10 bytes"):
        await served.app.files.upload(endless())
    assert len(given) == 3
    assert not served.emulator.runs
    with pytest.raises(errors.InvalidArgumentError):
        await served.app.files.upload(TEXT)
    monkeypatch.setattr(files, "MAX_FILE_BYTES", len(TEXT))
    assert (await served.app.files.upload(pieces())).size == len(TEXT)


async def test_what_the_service_refuses_is_its_error(serve: Serve) -> None:
    served = await serve(max_file_bytes=10)
    with pytest.raises(errors.PayloadTooLargeError) as caught:
        await served.app.files.upload(TEXT)
    assert caught.value.code == "payload_too_large"
    served.emulator.script(Fault(status=403))
    with pytest.raises(errors.PermissionDeniedError):
        await served.app.files.upload(b"x")


# --- progress, memory ----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "size"), [("path", 3 * MIB + 7), ("async", None)])
async def test_progress_is_told(serve: Serve, tmp_path: Path, kind: str, size: int | None) -> None:
    app = (await serve()).app
    content: Any = pieces()
    if kind == "path":
        content = tmp_path / "large.bin"
        content.write_bytes(b"x" * (size or 0))
    told: list[tuple[int, int | None]] = []
    file = await app.files.upload(content, progress=lambda sent, of: told.append((sent, of)))
    assert [of for _, of in told] == [size] * len(told)
    sent = [sent for sent, _ in told]
    assert len(sent) > 3
    assert sent == sorted(set(sent))
    assert sent[-1] == file.size


async def test_a_large_file_takes_no_more_memory_than_a_small_one(
    serve: Serve, tmp_path: Path
) -> None:
    app = (await serve()).app
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(48 * MIB)
    peaks = []

    def progress(sent: int, size: int | None) -> None:
        peaks.append(tracemalloc.get_traced_memory()[0])

    await app.files.upload(b"x")  # what is made once
    tracemalloc.start()
    try:
        assert (await app.files.upload(large, progress=progress)).size == 48 * MIB
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(peaks) >= 48
    assert peak < 8 * MIB


# --- sending again -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_upload_is_sent_again_whole_if_it_can_be(
    serve: Serve, invoice: Path, kind: str
) -> None:
    served = await serve(contents)
    served.emulator.script(Fault(status=503, headers={"Retry-After": "0"}))
    if kind == "async":
        with pytest.raises(errors.InternalServerError):
            await served.app.files.upload(KINDS[kind](invoice))
        assert len(served.emulator.requests) == 1
        return
    file = await served.app.files.upload(KINDS[kind](invoice))
    run = await served.app.runs.create({}, file_ids=[file.id])
    assert run.output["output"][0][2] == TEXT.decode()
    assert len(served.asked("/v1/files")) == 2


async def test_an_upload_whose_outcome_is_unknown_is_not_sent_again_unasked(
    serve: Serve,
) -> None:
    served = await serve()
    served.emulator.script(Fault(drop="reset", executes=True), times=2)
    with pytest.raises(errors.AmbiguousOutcomeError):
        await served.app.files.upload(TEXT)
    assert len(served.emulator.requests) == 1
    file = await served.app.files.upload(TEXT, retry=True)
    assert (file.size, len(served.emulator.requests)) == (len(TEXT), 3)


async def test_an_upload_has_the_options_of_a_call(serve: Serve) -> None:
    served = await serve()
    served.emulator.script(Fault(delay=60.0))
    with pytest.raises(errors.APITimeoutError):
        await served.app.files.upload(TEXT, timeout=0.05, extra_headers={"X-A": "b"})
    assert served.emulator.requests[0].headers["X-A"] == "b"
    served.emulator.script(Fault(status=429))
    with pytest.raises(errors.RateLimitError):
        await served.app.files.upload(TEXT, max_retries=0)
