"""What can be uploaded, under what name, and whether it can be sent a second time."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import Upload
from dynamiq_async._http.uploads import as_uploads
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PDF = b"%PDF-1.7 invoice"


async def pieces() -> AsyncIterator[bytes]:
    yield PDF


class Pieces:
    def __aiter__(self) -> AsyncIterator[bytes]:
        return pieces()


class Pipe(io.RawIOBase):
    """Readable, and neither seekable nor named."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        return 0


class WebUpload:
    """An upload as a web framework hands it out, to be awaited."""

    name = "x.pdf"

    async def read(self, size: int = -1) -> bytes:
        return PDF[:size]


@pytest.fixture
def invoice(tmp_path: Path) -> Path:
    path = tmp_path / "invoice.pdf"
    path.write_bytes(PDF)
    return path


# --- kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Path, str])
def test_a_path_is_measured_named_and_replayable(invoice: Path, kind: Any) -> None:
    upload = Upload(kind(invoice))
    assert upload.content == invoice
    assert (upload.name, upload.mime_type, upload.size) == ("invoice.pdf", "application/pdf", 16)
    assert upload.replayable
    upload.rewind()


def test_any_path_like_is_a_path(invoice: Path) -> None:
    class Like:
        def __fspath__(self) -> str:
            return str(invoice)

    assert Upload(Like()).content == invoice


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_measured_and_replayable(kind: Any) -> None:
    upload = Upload(kind(PDF))
    assert (upload.name, upload.size) == ("file", 16)
    assert upload.mime_type == "application/octet-stream"
    assert upload.replayable
    upload.rewind()


def test_a_memoryview_is_measured_in_bytes() -> None:
    assert Upload(memoryview(b"12345678").cast("I")).size == 8


def test_a_file_object_is_read_from_where_it_stands_on_every_attempt(invoice: Path) -> None:
    with invoice.open("rb") as file:
        file.seek(5)
        upload = Upload(file)
        assert file.tell() == 5
        assert (upload.name, upload.size, upload.replayable) == ("invoice.pdf", 11, True)
        for _ in range(2):
            upload.rewind()
            assert file.read() == PDF[5:]
        assert not file.closed


def test_the_length_given_for_a_file_does_not_change_where_it_starts() -> None:
    file = io.BytesIO(PDF)
    file.seek(5)
    upload = Upload(file, size=11)
    file.read()
    upload.rewind()
    assert file.tell() == 5
    assert Upload(io.BytesIO(PDF), size=3).size == 16


def test_what_cannot_be_rewound_is_not_replayable() -> None:
    upload = Upload(Pipe())  # type: ignore[arg-type]
    assert (upload.size, upload.replayable, upload.name) == (None, False, "file")
    upload.rewind()
    assert Upload(Pipe(), size=7).size == 7  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [pieces, Pieces])
def test_an_async_iterable_is_not_replayable_and_has_the_size_that_is_given(make: Any) -> None:
    upload = Upload(make(), name="a.txt")
    assert (upload.size, upload.replayable) == (None, False)
    assert upload.mime_type == "text/plain"
    upload.rewind()
    assert Upload(make(), size=16).size == 16


def test_a_temporary_file_has_no_name_to_show() -> None:
    with tempfile.TemporaryFile() as file:
        assert Upload(file).name == "file"  # its `name` is a number
    with tempfile.SpooledTemporaryFile() as spooled:
        assert Upload(spooled).name == "file"


# --- refusals ------------------------------------------------------------------------------------


def generator() -> Iterator[bytes]:
    yield PDF


@pytest.mark.parametrize(
    "content",
    [None, 5, 1.5, object(), generator(), {"a": 1}, WebUpload()],
)
def test_what_is_no_content_is_refused(content: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="binary file object") as caught:
        Upload(content)
    assert caught.value.argument == "files"


def test_a_memoryview_with_holes_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="contiguous"):
        Upload(memoryview(b"holes")[::2])


def test_a_file_opened_as_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="binary mode"):
        Upload(io.StringIO("text"))  # type: ignore[arg-type]
    with (tmp_path / "a.txt").open("w+") as file, pytest.raises(InvalidArgumentError):
        Upload(file)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    class OnlyRead:
        def read(self, size: int = -1) -> bytes:
            return PDF[:size]

    closed = io.BytesIO()
    closed.close()
    with (tmp_path / "out").open("wb") as written:
        for content in (closed, written, OnlyRead()):
            with pytest.raises(InvalidArgumentError, match="cannot be read") as caught:
                Upload(content)  # type: ignore[arg-type]
            assert caught.value.argument == "files"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere.pdf", "cannot be read: .*No such file"),
        ("nowhere/invoice.pdf", "cannot be read: .*No such file"),
        ("nul\0.pdf", "cannot be read: .*null"),
        ("n" * 5000, "cannot be read: .*too long"),
        ("", "is not a file"),
    ],
)
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, path: str, why: str) -> None:
    for content in (tmp_path / path, str(tmp_path / path)):
        with pytest.raises(InvalidArgumentError, match=why) as caught:
            Upload(content)
        assert caught.value.argument == "files"


# --- names and types -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Rechnung für Jürgen.pdf",
        "請求書.pdf",
        "Screen Shot 9.41\u202fAM.png",
        "no\u00a0break.txt",
        "\U0001f600.txt",
        'quo"te.txt',
        "back\\slash.txt",
        "a;b=c.txt",
    ],
)
def test_names_that_people_give_files(tmp_path: Path, name: str) -> None:
    assert Upload(b"", name=name).name == name
    path = tmp_path / name
    path.touch()
    assert Upload(path).name == name


@pytest.mark.parametrize("bad", ["a\nb", "a\r\nX: y", "\x00", "a\tb", "\x7f", "\udc80"])
@pytest.mark.parametrize("argument", ["name", "mime_type"])
def test_what_would_break_a_header_is_refused(bad: str, argument: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Upload(b"", **{argument: bad})  # type: ignore[arg-type]
    assert caught.value.argument == argument


def test_a_given_name_and_type_win() -> None:
    upload = Upload(PDF, name="x.pdf", mime_type="text/x-own")
    assert (upload.name, upload.mime_type) == ("x.pdf", "text/x-own")
    assert Upload(PDF, name="x.unheard-of").mime_type == "application/octet-stream"


def test_a_repr_shows_no_content() -> None:
    assert repr(Upload(PDF, name="x.pdf")) == (
        "Upload(name='x.pdf', mime_type='application/pdf', size=16)"
    )


# --- one or several ------------------------------------------------------------------------------


def test_none_and_nothing() -> None:
    assert as_uploads(None) == []
    assert as_uploads([]) == []
    assert as_uploads(()) == []


def test_one_of_anything(invoice: Path) -> None:
    own = Upload(PDF)
    assert as_uploads(own) == [own]
    for one in (PDF, invoice, str(invoice), io.BytesIO(PDF)):
        (upload,) = as_uploads(one)
        assert upload.size == 16
    (upload,) = as_uploads(Pieces())
    assert not upload.replayable


@pytest.mark.parametrize("kind", [list, tuple])
def test_several(invoice: Path, kind: Any) -> None:
    uploads = as_uploads(kind([invoice, PDF, Upload(b"x", name="own"), ("named.txt", b"y")]))
    assert [u.name for u in uploads] == ["invoice.pdf", "file", "own", "named.txt"]
    assert [u.size for u in uploads] == [16, 16, 1, 1]


def test_two_paths_in_a_tuple_are_two_files(invoice: Path) -> None:
    assert [u.name for u in as_uploads((str(invoice), str(invoice)))] == ["invoice.pdf"] * 2


def test_named_content(invoice: Path) -> None:
    (upload,) = as_uploads(("a.txt", PDF))
    assert (upload.name, upload.mime_type) == ("a.txt", "text/plain")
    (upload,) = as_uploads(("a.txt", PDF, "text/x-own"))
    assert upload.mime_type == "text/x-own"
    (upload,) = as_uploads([("other.pdf", invoice)])
    assert (upload.name, upload.size) == ("other.pdf", 16)


@pytest.mark.parametrize("bad", [("a",), (5, b""), ("a", b"", "t/x", 1), ()])
def test_tuples_of_another_shape_are_refused(bad: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"\(name, content\)") as caught:
        as_uploads([bad])
    assert caught.value.argument == "files"
