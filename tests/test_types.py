"""What is made for a type is made once, and keeps no type alive that the program has let go of."""

from __future__ import annotations

import gc
import weakref
from dataclasses import make_dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Optional, TypeVar

import msgspec
import pydantic
import pytest
from msgspec import Meta, Struct

from dynamiq_async import _json, _types
from dynamiq_async._types import MAX_KEPT, OncePerType, PerType, lasts


class Answer(Struct):
    answer: int

    class Part(Struct):
        part: int


class Colour(Enum):
    RED = "red"


Id = NewType("Id", int)
T = TypeVar("T")
LASTING = [
    Answer,
    Answer.Part,
    int,
    None,
    list[Answer],
    dict[str, list[Answer | None]],
    Answer | None,
    Optional[Answer],  # noqa: UP045 - not the same class of alias
    tuple[Answer, ...],
    Annotated[int, Meta(ge=0)],
    Literal["a", 1, b"b", None, Colour.RED],
    Id,
    T,
]


def made_at_run_time() -> list[Any]:
    class Local(Struct):
        answer: int

    return [
        Local,
        list[Local],
        dict[str, Local | None],
        Annotated[Local, Meta(title="x")],
        msgspec.defstruct("Answer", [("answer", int)], module=__name__),
        make_dataclass("Made", [("answer", int)]),
        pydantic.create_model("Made", answer=int),
        NewType("Other", Local),
    ]


@pytest.mark.parametrize("kind", LASTING, ids=str)
def test_what_a_module_holds_lasts(kind: Any) -> None:
    assert lasts(kind)


@pytest.mark.parametrize("number", range(len(made_at_run_time())))
def test_what_was_made_at_run_time_does_not(number: int) -> None:
    assert not lasts(made_at_run_time()[number])


def test_what_lasts_is_made_once() -> None:
    def make(kind: Any) -> object:
        made.append(kind)
        return object()

    made: list[Any] = []
    cache = PerType(make)
    for kind in (Answer, list[Answer], Answer | None):
        assert cache(kind) is cache(kind)
    assert cache(list[Answer]) is cache(list[Answer])
    assert made == [Answer, list[Answer], Answer | None]


def test_what_does_not_last_is_made_anew_and_checked_once() -> None:
    made: list[Any] = []
    local, alias, *_ = made_at_run_time()
    cache, check = PerType(made.append), OncePerType(made.append)
    for use in (cache, check):
        for _ in range(2):
            use(local)
            use(alias)
    assert made == [local, alias] * 2 + [local, alias, alias]


def test_what_cannot_be_looked_up_is_made_anew() -> None:
    odd = Annotated[int, []]
    made: list[Any] = []
    for use in (PerType(made.append), OncePerType(made.append)):
        use(odd)
        use(odd)
    assert made == [odd] * 4


def test_a_failure_is_not_kept() -> None:
    def check(kind: Any) -> None:
        tried.append(kind)
        raise TypeError

    tried: list[Any] = []
    once = OncePerType(check)
    for kind in (Answer, made_at_run_time()[0]):
        for _ in range(2):
            with pytest.raises(TypeError):
                once(kind)
    assert len(tried) == 4


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, check = PerType(str), OncePerType(lambda _: None)
    for number in range(3 * MAX_KEPT + 5):
        cache(Annotated[int, Meta(ge=number)])
        check(Annotated[int, Meta(ge=number)])
    assert max(len(cache._kept), len(check._lasting)) <= MAX_KEPT
    monkeypatch.setattr(_types, "MAX_KEPT", 1)
    assert cache(int) == cache(int) == "<class 'int'>"


def test_types_made_at_run_time_are_let_go() -> None:
    def use() -> list[weakref.ref[Any]]:
        class Local(Struct):
            answer: int

        # `typing` keeps what is in its own aliases, so they are left out.
        made = [Local, make_dataclass("M", [("a", int)]), pydantic.create_model("M", a=int)]
        kinds: list[Any] = [*made, msgspec.defstruct("M", ["a"])]
        for kind in kinds:
            for asked in (kind, list[kind]):  # type: ignore[valid-type]
                _json.check_type(asked)
                with pytest.raises(msgspec.ValidationError):
                    _json.decode(b"1", asked)
        return [weakref.ref(kind) for kind in kinds]

    used = use()
    gc.collect()
    assert [ref() for ref in used] == [None] * len(used)


def test_the_checks_and_decoders_of_calls_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting:
        made = 0

        def __new__(cls, *given: Any, **more: Any) -> Any:
            cls.made += 1
            return decoder(*given, **more)

    decoder = msgspec.json.Decoder
    _json._made._kept.clear()
    _json._check._lasting.clear()
    monkeypatch.setattr(msgspec.json, "Decoder", Counting)
    for _ in range(3):
        _json.check_type(list[Answer])
        assert _json.decode_at_once(b'[{"answer": 1}]', list[Answer]) == [Answer(1)]
        assert _json.decode(b'[{"answer": 1}]', list[Answer]) == [Answer(1)]
    assert Counting.made == 2
