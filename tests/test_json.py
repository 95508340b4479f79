"""JSON that servers really send: what msgspec refuses and `json` takes still comes through."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async import _json
from dynamiq_async.errors import InvalidArgumentError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
any_text = st.text(st.characters(codec=None), max_size=40)  # lone surrogates included


@given(json_values)
def test_sound_json_is_not_touched(value: object) -> None:
    data = msgspec.json.encode(value)
    assert _json.decode(data) == value
    assert _json.repair(data) == data


@given(any_text)
def test_lone_surrogate_escapes_become_replacement_characters(text: str) -> None:
    data = json.dumps({text: text}).encode()
    ((lenient, _),) = json.loads(data).items()  # pairs are joined, lone surrogates are kept
    expected = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in lenient)
    assert _json.decode(data) == {expected: expected}


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"a\udc00b"', "a\ufffdb"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\ud83d\n"', "\ufffd\n"),
        (rb'"\\ud83d \ud83d"', "\\ud83d \ufffd"),
        (rb'{"\uD83D": 1}', {"\ufffd": 1}),
        (b'"caf\xe9"', "caf\ufffd"),
        (b'"\xf0\x9f\x98"', "\ufffd"),
        (b'{"a": "\xff", "b": "\\ud800"}', {"a": "\ufffd", "b": "\ufffd"}),
        (b"1e400", math.inf),
        (b"[-1e400, Infinity, -Infinity, 2]", [-math.inf, math.inf, -math.inf, 2]),
        (
            b'{"NaN": Infinity, "a": "NaN \\ud83d"}',
            {"NaN": math.inf, "a": "NaN \ufffd"},
        ),
    ],
)
def test_repairs(data: bytes, value: object) -> None:
    assert _json.decode(data) == value
    assert _json.decode(bytearray(data)) == value
    assert _json.decode(memoryview(data)) == value


def test_repair_holds_for_typed_decoding_too() -> None:
    assert _json.decode(rb'{"a": "\ud83d"}', dict[str, str]) == {"a": "\ufffd"}
    kept = msgspec.json.Decoder(list[str]).decode
    assert _json.decode_with(kept, rb'["\udfff"]') == ["\ufffd"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   ",
        b"{",
        b"nul",
        b"[1,]",
        b"{'a': 1}",
        b'"a\nb"',
        b"\xff",
        b'"\\ud83d',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"9" * 5000,
        b"{} {}",
    ],
)
def test_bad_json_raises_what_is_promised(data: bytes) -> None:
    with pytest.raises(_json.DECODE_ERRORS):
        _json.decode(data)


def test_a_misfit_beside_a_number_of_pythons_own_is_told_as_a_misfit() -> None:
    for kind in (dict[str, int], Model, list[Model]):
        with pytest.raises(msgspec.ValidationError):
            _json.decode(b'{"count": NaN}', kind)


def test_a_misfit_raises_what_is_promised() -> None:
    with pytest.raises(_json.DECODE_ERRORS):
        _json.decode(rb'{"a": "\ud83d"}', list[int])


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        _json.decode(data)
    except _json.DECODE_ERRORS:
        return
    json.loads(data.decode("utf-8", "replace"))


def test_big_integers_and_numbers_come_through() -> None:
    assert _json.decode(b"123456789012345678901234567890") == 123456789012345678901234567890
    assert _json.decode(b"1.5e300") == 1.5e300


class Level(Enum):
    ONE = 1


class Model(pydantic.BaseModel):
    count: int


class NoSchema:
    pass


def test_a_pydantic_model_can_be_decoded_to() -> None:
    assert _json.decode(b'{"count": 3}', Model) == Model(count=3)
    assert _json.decode(b'[{"count": 3}]', list[Model]) == [Model(count=3)]
    with pytest.raises(msgspec.ValidationError):
        _json.decode(b'{"count": "x"}', Model)
    with pytest.raises(_json.DECODE_ERRORS):
        _json.decode(b"[{}]", list[NoSchema])


@pytest.mark.parametrize(
    "kind", [NoSchema, dict[str, int] | Model | NoSchema, dict[int, str] | dict]
)
def test_a_type_that_cannot_be_decoded_to_is_refused(kind: object) -> None:
    with pytest.raises(InvalidArgumentError, match="output_type") as caught:
        _json.check_type(kind)
    assert caught.value.argument == "output_type"


@pytest.mark.parametrize("kind", [None, int, Model, list[Model], dict[str, int]])
def test_a_type_that_can_be_decoded_to_passes(kind: object) -> None:
    _json.check_type(kind)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert _json.decode(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


class Strict(pydantic.BaseModel, strict=True):
    when: datetime
    id: UUID
    level: Level
    pair: tuple[int, str]
    blob: bytes
    price: Decimal


STRICT = (
    b'{"when": "2024-01-02T03:04:05Z", "id": "00000000-0000-0000-0000-000000000001", "level": 1, '
    b'"pair": [1, "a"], "blob": "Zg==", "price": "0.10"}'
)


@pytest.mark.parametrize("kind", [Strict, list[Strict], Strict | None, dict[str, Strict]])
def test_a_strict_model_is_decoded_as_from_json(kind: Any) -> None:
    data = {list[Strict]: b"[%b]", dict[str, Strict]: b'{"a": %b}'}.get(kind, b"%b") % STRICT
    found = _json.decode(data, kind)
    model = found[0] if kind == list[Strict] else found["a"] if kind == dict[str, Strict] else found
    assert (model.id, model.level, model.pair) == (UUID(int=1), Level.ONE, (1, "a"))
    assert (model.when, model.price) == (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), Decimal("0.10"))
    assert _json.convert(json.loads(data), kind) == found


def test_what_is_mended_may_fit_no_better() -> None:
    decode = msgspec.json.Decoder(dict[str, int]).decode
    with pytest.raises(msgspec.ValidationError, match="Expected `int`"):
        _json.decode_with(decode, b'{"a\xff": "text"}')


def test_a_type_that_validates_values_only() -> None:
    class Model:
        def __init__(self, value: object) -> None:
            self.value = value

        @classmethod
        def model_validate(cls, value: object) -> Model:
            return cls(value)

    _json.check_type(Model, "output_type")
    assert _json.decode(b'{"a": 1}', Model).value == {"a": 1}
