"""Annotations that agent frameworks can read.

Most frameworks make JSON Schemas with pydantic, which supports neither `msgspec.Struct` nor, before
Python 3.12, the TypedDicts of `typing`. Both become dataclasses here, which pydantic supports. No
framework is imported for that.
"""

from __future__ import annotations

import dataclasses
import keyword
import types
import typing
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, fields

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN_DEFAULTS = (bool, int, float, str)


class Field(NamedTuple):
    """One field of an input type.

    Attributes:
        name: of the parameter: the name in JSON, or the type's own if Python cannot have that.
        wire: the name in JSON.
        annotation: its type, as frameworks can read it.
        default: `NODEFAULT` for a field that must be given.
        left_out: whether a field whose value is None is not sent.
        description: the description for a model; `""` where there is none.
    """

    name: str
    wire: str
    annotation: Any
    default: Any = NODEFAULT
    left_out: bool = False
    description: str = ""


class _Made:
    """The base of the dataclasses made here."""


def is_typed_dict(kind: Any) -> bool:
    """Whether a type is a TypedDict."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__required_keys__")


def is_struct(kind: Any) -> bool:
    """Whether a type is a msgspec Struct."""
    return isinstance(kind, type) and issubclass(kind, Struct)


def is_model(kind: Any) -> bool:
    """Whether a type is a pydantic model."""
    return isinstance(kind, type) and hasattr(kind, "model_fields")


def fields_of(kind: Any) -> list[Field] | None:
    """The fields of a Struct, TypedDict, dataclass or pydantic model; None for another type."""
    return _fields_of(kind, ())


def _fields_of(kind: Any, outer: tuple[Any, ...]) -> list[Field] | None:
    if is_struct(kind):
        return [_of_struct(field, (*outer, kind)) for field in fields(kind)]
    if is_typed_dict(kind):
        return _of_typed_dict(kind, (*outer, kind))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return [_of_dataclass(f, hints[f.name]) for f in dataclasses.fields(kind) if f.init]
    if is_model(kind):
        return [_of_model(name, info) for name, info in kind.model_fields.items()]
    return None


def _of_struct(field: FieldInfo, outer: tuple[Any, ...]) -> Field:
    made = field.default_factory is not NODEFAULT
    return _field(field.name, field.encode_name, field.type, field.default, made=made, outer=outer)


def _of_typed_dict(kind: Any, outer: tuple[Any, ...]) -> list[Field]:
    found = []
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        needed = name in kind.__required_keys__
        while (word := _word(hint)) in ("Required", "NotRequired", "ReadOnly"):
            # The class's required keys are wrong if its annotations are strings.
            needed = needed if word == "ReadOnly" else word == "Required"
            (hint,) = typing.get_args(hint)
        found.append(_field(name, name, hint, NODEFAULT, made=not needed, outer=outer))
    return found


def _word(hint: Any) -> str:
    return str(typing.get_origin(hint)).rpartition(".")[2]


def _of_dataclass(field: dataclasses.Field[Any], hint: Any) -> Field:
    missing = field.default is dataclasses.MISSING
    made = field.default_factory is not dataclasses.MISSING
    default = NODEFAULT if missing else field.default
    told = str(field.metadata.get("description", ""))
    return _field(field.name, field.name, hint, default, made=made, description=told)


def _of_model(name: str, info: Any) -> Field:
    hint = info.annotation
    if info.metadata:
        hint = typing.Annotated[(hint, *info.metadata)]
    alias = info.validation_alias if isinstance(info.validation_alias, str) else info.alias
    default = NODEFAULT if info.is_required() or info.default_factory else info.default
    made = info.default_factory is not None
    told = info.description or ""
    return _field(name, alias or name, hint, default, made=made, description=told)


def _field(
    name: str,
    wire: str,
    hint: Any,
    default: Any,
    *,
    made: bool,
    description: str = "",
    outer: tuple[Any, ...] = (),
) -> Field:
    """A field. If its default is `made` anew each time, or a schema cannot hold it, the parameter's
    default is None, and None is not sent."""
    hint, told = described(hint)
    left_out = made or not (default is NODEFAULT or default is None)
    if not made and isinstance(default, _PLAIN_DEFAULTS):
        left_out = False
    annotation = portable(hint, outer)
    if left_out:
        annotation, default = annotation | None if annotation is not Any else Any, None
    if not wire.isidentifier() or keyword.iskeyword(wire):
        return Field(name, wire, annotation, default, left_out, description or told)
    return Field(wire, wire, annotation, default, left_out, description or told)


def described(hint: Any) -> tuple[Any, str]:
    """A type without annotations that only describe it, and the description."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint, ""
    inner, *notes = typing.get_args(hint)
    told = next(filter(None, map(_description, notes)), "")
    kept = [n for n in notes if not isinstance(n, str | msgspec.Meta)]
    return (typing.Annotated[(inner, *kept)] if kept else inner), told


def _description(note: Any) -> str:
    found = note if isinstance(note, str) else getattr(note, "description", None)
    return found or getattr(note, "documentation", None) or ""


def portable(hint: Any, outer: tuple[Any, ...] = ()) -> Any:
    """A type in a form that frameworks can read.

    Args:
        outer: the types that contain it. A type that contains itself becomes a mapping.
    """
    if hint is msgspec.Raw:
        return Any
    if is_struct(hint) or is_typed_dict(hint):
        return dict[str, Any] if hint in outer else _dataclass_like(hint, outer)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        found = [portable(one, outer) for one in arguments if one is not msgspec.UnsetType]
        return typing.Union[tuple(found)]  # noqa: UP007 - its members are known here only
    if origin is typing.Annotated:
        inner, _ = described(hint)
        if typing.get_origin(inner) is not typing.Annotated:
            return portable(inner, outer)
        return typing.Annotated[(portable(arguments[0], outer), *typing.get_args(inner)[1:])]
    if isinstance(origin, type) and arguments:
        return types.GenericAlias(origin, tuple(portable(one, outer) for one in arguments))
    return hint


def _dataclass_like(kind: Any, outer: tuple[Any, ...]) -> Any:
    """A dataclass with the fields of a Struct or TypedDict, by their names in JSON."""
    found = _fields_of(kind, outer) or []
    if any(field.name != field.wire for field in found):
        return dict[str, Any]
    specs: list[Any] = []
    config = getattr(kind, "__struct_config__", None)
    if config is not None and config.tag is not None:
        specs.append((config.tag_field, Literal[config.tag]))
    for field in sorted(found, key=lambda field: field.default is not NODEFAULT):
        told = dataclasses.field(metadata={"description": field.description})
        if field.default is not NODEFAULT:
            told = dataclasses.field(default=field.default, metadata=dict(told.metadata))
        specs.append((field.name, field.annotation, told))
    made = dataclasses.make_dataclass(kind.__name__, specs, bases=(_Made,))
    made.__doc__, made.__module__ = kind.__doc__, kind.__module__
    made.__left_out__ = frozenset(f.name for f in found if f.left_out)  # type: ignore[attr-defined]
    return made


def sent(value: Any) -> Any:
    """A parameter's value as it is sent: without those fields of our dataclasses that are None and
    left out."""
    if isinstance(value, _Made):
        left_out: frozenset[str] = getattr(value, "__left_out__")  # noqa: B009 - made above
        return {
            name: sent(item)
            for name, item in vars(value).items()
            if item is not None or name not in left_out
        }
    if isinstance(value, dict):
        return {name: sent(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [sent(item) for item in value]
    return value


def holds_struct(hint: Any) -> bool:
    """Whether a value of this type may be or hold a Struct, which pydantic cannot encode."""
    return is_struct(hint) or any(map(holds_struct, typing.get_args(hint)))


def typed_dict(name: str, hints: Mapping[str, Any]) -> Any:
    """A TypedDict with these fields."""
    return typing.TypedDict(name, dict(hints))  # type: ignore[operator]
