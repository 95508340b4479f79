"""What came compressed is read without its compression, in pieces whose size is bounded."""

from __future__ import annotations

import gzip
import zlib

import pytest

from dynamiq_async.emulator.tape.codings import Inflater

TEXT = b'data: {"text": "a stream of events"}\n\n' * 40


def bare(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezer.compress(data) + squeezer.flush()


FORMS = {
    "gzip": gzip.compress(TEXT, mtime=0),
    "gzip in parts": gzip.compress(TEXT[:500], mtime=0) + gzip.compress(TEXT[500:]),
    "deflate": zlib.compress(TEXT),
    "bare deflate": bare(TEXT),
}


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_it_is_read_however_it_is_cut(data: bytes, size: int) -> None:
    inflater = Inflater()
    found: list[bytes] = []
    for start in range(0, len(data), size):
        assert not inflater.whole or b"".join(found) == TEXT[:500]
        found += inflater.feed(data[start : start + size])
    assert b"".join(found) == TEXT
    assert inflater.whole


def test_an_event_is_there_as_soon_as_it_was_flushed() -> None:
    squeezer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    inflater = Inflater()
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        data = squeezer.compress(event) + squeezer.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(inflater.feed(data)) == event
    assert not inflater.whole


def test_its_pieces_are_bounded_whatever_is_in_them() -> None:
    pieces = list(Inflater().feed(gzip.compress(bytes(10_000_000))))
    assert sum(map(len, pieces)) == 10_000_000
    assert max(map(len, pieces)) <= 64 * 1024


@pytest.mark.parametrize("data", [b"\x1f\x8bnonsense", b"plain text", FORMS["gzip"] + b"behind"])
def test_nonsense_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not compressed as it says"):
        list(Inflater().feed(data))


def test_it_tells_no_body_from_one_that_is_cut() -> None:
    inflater = Inflater()
    assert (inflater.begun, inflater.whole) == (False, False)
    assert list(inflater.feed(b"\x1f")) == []
    assert (inflater.begun, inflater.whole) == (True, False)
