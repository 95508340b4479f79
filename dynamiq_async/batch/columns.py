"""The columns of a table of results, whichever file or library it is for.

They are `key`, `state`, `output`, `error`, `error_type`, `error_status`, `run_id`, `attempts`,
`started` and `seconds`. If the output's type is a Struct, a dataclass or a pydantic model, each of
its fields has a column too.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from typing import get_type_hints as hints_of
from uuid import UUID

import msgspec

from dynamiq_async._json import DECODE_ERRORS, decode_as, encode
from dynamiq_async.batch.models import error_facts, state_of
from dynamiq_async.errors import DynamiqError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamiq_async.batch.journal.entry import Entry
    from dynamiq_async.batch.models import Key, MapResult


class Column(NamedTuple):
    """A column.

    Attributes:
        kind: string, int64, float64, bool, binary, time (UTC), date, duration or json, which is
            a string; or "list" and one of these.
    """

    name: str
    kind: str


BASE = (
    Column("key", "string"),
    Column("state", "string"),
    Column("output", "json"),
    Column("error", "string"),
    Column("error_type", "string"),
    Column("error_status", "int64"),
    Column("run_id", "string"),
    Column("attempts", "int64"),
    Column("started", "time"),
    Column("seconds", "float64"),
)
_INPUT = Column("input", "json")
_TAKEN = {column.name for column in (*BASE, _INPUT)}


class Columns:
    """The columns of results, and the values of one result in their order.

    Args:
        output_type: the type of the outputs.
        with_input: whether there is a column for the input.

    Attributes:
        columns: their names and kinds.
    """

    def __init__(self, output_type: Any = Any, *, with_input: bool = False) -> None:
        self._output_type = output_type
        self._fields = _fields_of(output_type)
        self._with_input = with_input
        self.columns: Sequence[Column] = (
            *BASE,
            *([_INPUT] if with_input else ()),
            *(Column(f"output_{n}" if n in _TAKEN else n, kind) for n, kind in self._fields),
        )

    def of_result(self, result: MapResult[Any]) -> list[Any]:
        """The values of a result."""
        output = None if result.error is not None else as_json(result.output)
        return [
            str(result.key),
            state_of(result.error),
            output,
            *error_facts(result.error),
            result.run_id,
            result.attempts,
            result.started_at,
            result.seconds,
            *([as_json(result.input)] if self._with_input else ()),
            *self._field_values(result.output),
        ]

    def of_error(self, key: Key, error: Exception) -> list[Any]:
        """The values of an input that was never tried."""
        rest = [None] * (len(self.columns) - 6)
        return [str(key), state_of(error), None, *error_facts(error), *rest]

    def of_entry(self, entry: Entry) -> list[Any]:
        """The values of a journal's entry."""
        output = None
        if self._fields and entry.output is not None:
            output = _as_type(bytes(entry.output), self._output_type)
        error = {} if entry.error is None else msgspec.json.decode(entry.error)
        started = entry.started_at
        return [
            entry.key,
            entry.state,
            None if entry.output is None else bytes(entry.output).decode(errors="replace"),
            error.get("message"),
            error.get("type"),
            error.get("status"),
            entry.run_id,
            entry.attempts,
            None if started is None else datetime.fromtimestamp(started, UTC),
            entry.seconds,
            *self._field_values(output),
        ]

    def _field_values(self, output: Any) -> list[Any]:
        if output is None:
            return [None] * len(self._fields)
        return [_as_kind(getattr(output, name, None), kind) for name, kind in self._fields]


def as_json(value: Any) -> str:
    """`value` as JSON; if JSON cannot hold it, its `repr` as a JSON string."""
    try:
        return encode(value, "output").decode()
    except InvalidArgumentError:
        return msgspec.json.encode(repr(value)).decode()


def _as_type(output: bytes, output_type: Any) -> Any:
    """An output from a journal; None where it does not fit the type."""
    try:
        return decode_as(output, output_type, "the output in the journal")
    except (DynamiqError, *DECODE_ERRORS):
        return None


def _fields_of(output_type: Any) -> list[tuple[str, str]]:
    """The fields of a type, each with the kind of its column."""
    names: Sequence[str]
    base = get_origin(output_type) or output_type
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        names = base.__struct_fields__
    elif isinstance(base, type) and dataclasses.is_dataclass(base):
        names = [field.name for field in dataclasses.fields(base)]
    elif isinstance(base, type) and isinstance(
        fields := getattr(base, "model_fields", None), Mapping
    ):
        names = list(fields)
    else:
        return []
    hints = hints_of(base, include_extras=True)
    return [(name, _kind(hints.get(name, Any))) for name in names]


_KINDS = {
    str: "string",
    bool: "bool",
    int: "int64",
    float: "float64",
    bytes: "binary",
    datetime: "time",
    date: "date",
    timedelta: "duration",
    UUID: "string",
}


def _kind(hint: Any) -> str:
    """The kind of a column whose values have this type."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _kind(parts[0])
    if origin in (Union, types.UnionType):
        kinds = {_kind(part) for part in parts if part is not type(None)}
        if kinds == {"int64", "float64"}:
            return "float64"
        return kinds.pop() if len(kinds) == 1 else "json"
    if origin is Literal:
        kinds = {_kind(type(part)) for part in parts if part is not None}
        return kinds.pop() if len(kinds) == 1 else "json"
    if origin in (list, set, frozenset) or (origin is tuple and parts[1:] == (...,)):
        inner = _kind(parts[0])
        return "json" if inner.startswith(("list", "json")) else f"list {inner}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        kinds = {_kind(type(member.value)) for member in hint}
        return kinds.pop() if len(kinds) == 1 else "json"
    return _KINDS.get(hint, "json")


def _as_kind(value: Any, kind: str) -> Any:
    """A value in the form that its column's kind needs."""
    if value is None:
        return None
    if kind == "json":
        return as_json(value)
    if kind.startswith("list "):
        inner = kind.removeprefix("list ")
        return [_as_kind(item, inner) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, UUID) else value
