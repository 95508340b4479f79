"""A tool's parameters are the fields of its input's type, and what does not fit is not sent."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import typing
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

import msgspec
import pydantic
import pytest
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from dynamiq_async import errors
from dynamiq_async.tools import inputs_of
from dynamiq_async.tools.parameters import docstring
from dynamiq_async.tools.types import holds_struct, portable

EMPTY = inspect.Parameter.empty


class Color(enum.Enum):
    RED = "red"


class Place(Struct, rename="camel"):
    """A place."""

    city: str
    post_code: int = 0
    tags: list[str] = field(default_factory=list)


class Tagged(Struct, tag="t"):
    value: int


class Tree(Struct):
    name: str
    children: list[Tree] = field(default_factory=list)


class Odd(Struct):
    user_id: str = field(name="user-id")


StructInput = msgspec.defstruct(
    "StructInput",
    [
        ("limit", int, 3),
        ("question", Annotated[str, Meta(description="What to ask.")], field(name="q")),
        ("kind", str, field(name="class", default="any")),
        ("color", Color, Color.RED),
        ("place", Place | None, None),
        ("extra", str | UnsetType, UNSET),
    ],
    kw_only=True,
)


class Inner(TypedDict):
    name: str
    size: NotRequired[int]


class DictInput(TypedDict, total=False):
    question: Required[Annotated[str, "What to ask."]]
    inner: list[Inner]
    tags: Annotated[list[str], pydantic.Field(description="Some tags.", max_length=2)]


@dataclasses.dataclass
class DataInput:
    question: str = dataclasses.field(metadata={"description": "What to ask."})
    limit: int = 3
    tags: list[str] = dataclasses.field(default_factory=list)
    made: int = dataclasses.field(init=False, default=1)


class ModelInput(pydantic.BaseModel):
    question: str = pydantic.Field(description="What to ask.", min_length=2)
    user: str = pydantic.Field(default="ann", alias="userId")
    tags: list[str] = pydantic.Field(default_factory=list)


def shown(kind: Any) -> dict[str, Any]:
    return {p.name: p.default for p in inputs_of(kind).parameters()}


def test_a_structs_names_are_those_on_the_wire() -> None:
    found = shown(StructInput)
    assert found == {
        "q": EMPTY,
        "limit": 3,
        "kind": "any",
        "color": None,
        "place": None,
        "extra": None,
    }
    assert next(iter(found)) == "q"  # what must be given comes first
    inputs = inputs_of(StructInput)
    value = inputs.value({"q": "hi", "kind": "bug", "color": None})
    sent = msgspec.to_builtins(value)
    assert sent == {"limit": 3, "q": "hi", "class": "bug", "color": "red", "place": None}
    assert docstring("Asks.\n", inputs.fields) == "Asks.\n\nArgs:\n    q: What to ask."


def test_a_typed_dicts_optional_fields_are_not_sent_unless_given() -> None:
    assert shown(DictInput) == {"question": EMPTY, "inner": None, "tags": None}
    inputs = inputs_of(DictInput)
    assert inputs.value({"question": "hi", "tags": None}) == {"question": "hi"}
    kinds = {field.name: field.annotation for field in inputs.fields}
    assert kinds["question"] is str
    (listed, nothing) = typing.get_args(kinds["inner"])
    assert nothing is type(None)
    (inner,) = typing.get_args(listed)
    made = [inner(name="a"), inner("b", 2), {"name": "c"}]
    assert inputs.value({"question": "hi", "inner": made})["inner"] == [
        {"name": "a"},
        {"name": "b", "size": 2},
        {"name": "c"},
    ]
    told = {field.name: field.description for field in inputs.fields}
    assert told == {"question": "What to ask.", "inner": "", "tags": "Some tags."}


def test_a_dataclass_and_a_mapping_of_types() -> None:
    assert shown(DataInput) == {"question": EMPTY, "limit": 3, "tags": None}
    assert inputs_of(DataInput).value({"question": "a"}).tags == []
    named = inputs_of({"question": str, "limit": int})
    assert [p.name for p in named.parameters()] == ["question", "limit"]
    assert named.value({"question": "a", "limit": 2}) == {"question": "a", "limit": 2}
    assert inputs_of(named) is named


def test_a_pydantic_model_keeps_its_constraints_and_aliases() -> None:
    assert shown(ModelInput) == {"question": EMPTY, "userId": "ann", "tags": None}
    inputs = inputs_of(ModelInput)
    assert inputs.value({"question": "hi", "userId": "bob"}).user == "bob"
    with pytest.raises(errors.InvalidArgumentError, match="the input does not fit"):
        inputs.value({"question": "h"})
    annotation = next(f.annotation for f in inputs.fields if f.name == "question")
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(annotation).validate_python("h")


def test_what_does_not_fit_is_told_by_its_place() -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"Expected `int`, got `str`.*limit"):
        inputs_of(StructInput).value({"q": "hi", "limit": "many"})


def test_nested_types_are_ones_that_pydantic_knows() -> None:
    kind = portable(list[Place] | None)
    schema = pydantic.TypeAdapter(kind).json_schema()
    assert schema["$defs"]["Place"]["required"] == ["city"]
    assert set(schema["$defs"]["Place"]["properties"]) == {"city", "postCode", "tags"}
    tagged = portable(Tagged)
    assert pydantic.TypeAdapter(tagged).validate_python({"type": "t", "value": 1}).value == 1
    tree = pydantic.TypeAdapter(portable(Tree)).json_schema()
    assert tree["properties"]["children"]["anyOf"][0]["items"]["type"] == "object"


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (int, int),
        (Raw, Any),
        (Odd, dict[str, Any]),  # its name on the wire can be no field of a class
        (Annotated[int, Meta(ge=1)], int),
        (int | None, int | None),
        (Literal["a"], Literal["a"]),
        (dict[str, list[Raw]], dict[str, list[Any]]),
        (Annotated[Raw, "told", 3], Annotated[Any, 3]),
    ],
)
def test_a_type_as_frameworks_read_it(hint: Any, expected: Any) -> None:
    assert portable(hint) == expected


def test_structs_are_found_within_types() -> None:
    assert holds_struct(dict[str, list[Place]])
    assert not holds_struct(dict[str, list[int]])


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (int, "input must be a TypedDict"),
        ("question", "input must be a TypedDict"),
        ({"question": object()}, "not a type that msgspec can decode"),
        (Odd, None),
    ],
)
def test_what_is_no_input_is_refused(kind: Any, match: str | None) -> None:
    if match is None:
        assert [p.name for p in inputs_of(kind).parameters()] == ["user_id"]
        return
    with pytest.raises(errors.InvalidArgumentError, match=match) as caught:
        inputs_of(kind)
    assert caught.value.argument == "input"


def test_a_field_that_can_be_no_parameter_is_refused() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="cannot be a parameter"):
        inputs_of({"user-id": str}).parameters()


def test_the_schema_is_an_objects() -> None:
    schema = inputs_of(StructInput).schema()
    assert schema["type"] == "object"
    assert schema["required"] == ["q"]
    assert schema["properties"]["q"] == {"type": "string", "description": "What to ask."}
    assert set(schema["$defs"]) == {"Place", "Color"}
    assert "$defs" not in inputs_of(DataInput).schema()
    assert inputs_of(ModelInput).schema()["required"] == ["question"]
