"""The types of inputs: which JSON fits them, and a complaint for each field that does not."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from msgspec import inspect as kinds

_AT = re.compile(r"(?P<said>.*) - at `\$(?P<path>[^`]*)`", re.DOTALL)
_EXPECTED = re.compile(
    r"Expected `(?P<wanted>[^`]+)`(?P<more>.*?)(?:, got (?P<got>.+))?", re.DOTALL
)
_FIELD = re.compile(r"Object (?P<how>missing required|contains unknown) field `(?P<name>[^`]+)`")
_MARKS = ("Required", "NotRequired", "ReadOnly")
_BLANK = "cannot be blank"
_CALLED = {
    "str": "a string",
    "bool": "a boolean",
    "int": "an integer",
    "float": "a number",
    "object": "an object",
    "array": "an array",
    "uuid": "a UUID",
    "datetime": "an RFC 3339 time",
}


class MisfitError(ValueError):
    """An input does not fit the type; the message lists everything that is wrong."""


@dataclass(frozen=True)
class InputType:
    """A type that JSON is converted to.

    Attributes:
        kind: a type that msgspec can convert to, or a pydantic model.
    """

    kind: Any

    @classmethod
    def of(cls, kind: Any) -> InputType:
        """The `InputType` for a type. Raises TypeError if JSON cannot be converted to it."""
        if kind in (Any, object):
            return ANYTHING
        info = kinds.type_info(kind)
        if unknown := next(_strangers(info, set()), None):
            raise TypeError(f"no JSON becomes a {unknown.__qualname__}")
        return cls(kind)

    @cached_property
    def is_object(self) -> bool:
        """Whether it is the type of a JSON object."""
        return self.kind is Any or _is_object(kinds.type_info(self.kind))

    def convert(self, value: Any) -> Any:
        """Convert a JSON value to this type. Raises MisfitError."""
        if self._takes_it_as_it_is:
            return value
        try:
            return _convert(value, self.kind)
        except msgspec.ValidationError as error:
            raise MisfitError(str(error)) from error

    def complaints(self, value: Any, path: str) -> dict[str, str]:
        """What is wrong with a value, by the paths of its fields; `path` is that of the value."""
        if self._takes_it_as_it_is:
            return {}
        try:
            if _is_model(self.kind):
                return _model_complaints(self.kind, value, path)
            _convert(value, self.kind)
        except msgspec.ValidationError as error:
            # The error is about the first wrong field only.
            found = self._one_by_one(value, path)
            return found or dict([_complaint(str(error), path)])
        except Exception:  # noqa: BLE001 - of the type's own code, which fails the App later
            return {}
        return {}

    @cached_property
    def _takes_it_as_it_is(self) -> bool:
        if self.kind is Any:
            return True
        info = kinds.type_info(self.kind)
        return (
            isinstance(info, kinds.DictType)
            and _is_anything(info.value_type)
            and isinstance(info.key_type, kinds.AnyType | kinds.StrType)
        )

    def _one_by_one(self, value: Any, path: str) -> dict[str, str]:
        """The complaints about the fields of an object, or the items of an array."""
        found: dict[str, str] = {}
        if (inner := _without_none(self.kind)) is not self.kind:
            found = InputType(inner).complaints(value, path)
            return {} if path in found else found
        item = _item(self.kind)
        if isinstance(value, list) and item is not None:
            for index, one in enumerate(value):
                found |= InputType(item).complaints(one, f"{path}[{index}]")
        elif isinstance(value, Mapping) and item is not None:
            for key, one in value.items():
                found |= InputType(item).complaints(one, f"{path}.{key}")
        for name, kind, required in _fields(self.kind) if isinstance(value, Mapping) else ():
            if name in value:
                found |= InputType(kind).complaints(value[name], f"{path}.{name}")
            elif required:
                found[f"{path}.{name}"] = _BLANK
        return found


ANYTHING = InputType(Any)
"""Takes any value as it is."""


def _convert(value: Any, kind: Any) -> Any:
    return msgspec.convert(value, kind, dec_hook=_from_model)


def _is_anything(info: kinds.Type) -> bool:
    return isinstance(info, kinds.AnyType) or getattr(info, "cls", None) is object


def _is_object(info: kinds.Type) -> bool:
    if isinstance(info, kinds.UnionType):
        return all(map(_is_object, info.types))
    if isinstance(info, kinds.StructType):
        return not info.array_like
    if isinstance(info, kinds.CustomType):
        return True  # a model: `of` refuses other custom types
    return isinstance(info, kinds.DataclassType | kinds.TypedDictType | kinds.DictType)


def _strangers(info: Any, seen: set[int]) -> Iterator[type]:
    """The types within a type that msgspec does not know, and that are not models."""
    if id(info) in seen:
        return
    seen.add(id(info))
    if isinstance(info, kinds.CustomType):
        if not _is_model(info.cls) and not _is_anything(info):
            yield info.cls
    elif isinstance(info, kinds.Type | kinds.Field):
        for name in info.__struct_fields__:
            inner = getattr(info, name)
            for one in inner if isinstance(inner, tuple) else (inner,):
                yield from _strangers(one, seen)


def _fields(kind: Any) -> Iterator[tuple[str, Any, bool]]:
    """The fields of a type that has some: the name in JSON, the type, and whether it is required.
    Yields nothing for a generic type, whose fields are not known one by one."""
    info = kinds.type_info(kind)
    if not isinstance(info, kinds.StructType | kinds.DataclassType | kinds.TypedDictType):
        return
    if typing.get_origin(kind) not in (None, typing.Annotated):
        return
    hints = typing.get_type_hints(info.cls, include_extras=True)
    for field in info.fields:
        hint = hints[field.name]
        while str(typing.get_origin(hint)).rpartition(".")[2] in _MARKS:
            (hint,) = typing.get_args(hint)
        yield field.encode_name, hint, field.required


def _without_none(kind: Any) -> Any:
    """The type without None, if it is a union of None and one other type."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    members = [one for one in typing.get_args(kind) if one is not type(None)]
    return members[0] if len(members) == 1 else kind


def _item(kind: Any) -> Any:
    """The type of an array's items, or of the values of an object with arbitrary names; None for
    other types."""
    info = kinds.type_info(kind)
    if isinstance(info, kinds.ListType | kinds.DictType):
        return next(reversed(typing.get_args(kind)), None)
    return None


def _complaint(said: str, path: str) -> tuple[str, str]:
    """A message of msgspec, as the path of a field and a complaint in the words of the service."""
    if match := _AT.fullmatch(said):
        said, path = match["said"], path + match["path"]
    if match := _FIELD.fullmatch(said):
        missing = match["how"].startswith("missing")
        return f"{path}.{match['name']}", _BLANK if missing else "is not a field"
    if match := _EXPECTED.fullmatch(said):
        if match["got"] == "`null`":
            return path, _BLANK
        wanted = " or ".join(_called(one) for one in match["wanted"].split(" | "))
        return path, f"must be {wanted}{match['more']}"
    if said.startswith("Invalid enum value"):
        return path, "must be a valid value"
    return path, said[:1].lower() + said[1:]


def _called(wanted: str) -> str:
    return _CALLED.get(wanted, wanted if wanted == "null" else f"a {wanted}")


# --- pydantic's models, found by their methods: pydantic need not be installed ------------------


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_validate")


def _model_complaints(kind: Any, value: Any, path: str) -> dict[str, str]:
    try:
        kind.model_validate(value)
    except ValueError as error:
        said: list[Mapping[str, Any]] = error.errors()  # type: ignore[attr-defined]
        return {"".join((path, *map(_step, one["loc"]))): _said(one) for one in said}
    return {}


def _step(part: str | int) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part}"


def _said(complaint: Mapping[str, Any]) -> str:
    if complaint["type"] == "missing" or complaint["input"] is None:
        return _BLANK
    words = str(complaint["msg"])
    return words[:1].lower() + words[1:]


def _from_model(kind: Any, value: Any) -> Any:
    """Convert to a model within another type, or to anything. A value that does not fit raises
    ValueError, as msgspec requires."""
    if kind is object:
        return value
    if complaints := _model_complaints(kind, value, ""):
        raise ValueError("; ".join(f"{path[1:]} {said}" for path, said in complaints.items()))
    return kind.model_validate(value)
