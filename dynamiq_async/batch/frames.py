"""Frames as inputs: each row is a mapping, its values as JSON has them.

A frame is an object that exports its columns as an Arrow C stream (`__arrow_c_stream__`), such as
those of pandas, polars, pyarrow and DuckDB, or a dataset of pyarrow. Its rows are made as they are
needed, some hundred at a time, and never all at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async.batch._arrow import pyarrow
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = 256
"""The number of rows made at a time."""

_INDEX = "__index_level_"  # what pandas calls an index without a name

Row = dict[str, Any]


def is_frame(inputs: object) -> bool:
    """Whether these inputs are a frame. A single column of a frame is not."""
    kind = type(inputs)
    if kind.__module__.startswith("pyarrow."):
        return hasattr(kind, "schema") or hasattr(kind, "to_reader")
    return hasattr(kind, "__arrow_c_stream__") and not hasattr(kind, "dtype")


class FrameRows:
    """The rows of a frame, as mappings. `len()` works where the frame knows its length.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, frame: Any) -> None:
        self._arrow = pyarrow()
        self._frame = frame

    def __len__(self) -> int:
        """Raises TypeError where the length is not known without reading."""
        kind = type(self._frame)
        if kind.__module__.startswith(("duckdb", "_duckdb")):  # it would run the query
            raise TypeError("the number of rows is not known")
        return len(self._frame)

    def __iter__(self) -> Iterator[Row]:
        for batch in self._batches():
            yield from rows_of(batch)

    def _batches(self) -> Any:
        frame = self._frame
        try:
            if hasattr(frame, "to_reader"):  # a table or a scanner
                return iter(frame.to_reader())
            if hasattr(frame, "scanner"):  # a dataset
                return iter(frame.scanner().to_reader())
            if isinstance(frame, self._arrow.RecordBatch):
                return iter([frame])
            return iter(self._arrow.RecordBatchReader.from_stream(frame))
        except (self._arrow.ArrowException, TypeError) as error:
            raise InvalidArgumentError(
                f"this {type(frame).__name__} has columns of mixed types ({error}); hand in its "
                "rows as mappings, such as df.to_dict('records')",
                argument="inputs",
            ) from error


def rows_of(batch: Any) -> Iterator[Row]:
    """The rows of a `pyarrow.RecordBatch`."""
    kept = [n for n, name in enumerate(batch.schema.names) if not name.startswith(_INDEX)]
    names = [batch.schema.names[n] for n in kept]
    makers = [_maker(batch.schema.field(n).type) for n in kept]
    for start in range(0, batch.num_rows, ROWS):
        piece = batch.slice(start, ROWS)
        columns = [make(piece.column(n)) for n, make in zip(kept, makers, strict=True)]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def _maker(type: Any) -> Callable[[Any], list[Any]]:
    """A function that turns a column of this type into a list, with numbers, times and missing
    values as JSON has them."""
    arrow = pyarrow()
    types = arrow.types

    def to_list(column: Any) -> list[Any]:
        values: list[Any] = column.to_pylist(maps_as_pydicts="lossy")
        return values

    if types.is_floating(type):
        return lambda column: [_no_nan(value) for value in to_list(column)]
    if types.is_decimal(type):
        number = int if type.scale <= 0 else float
        return lambda column: [None if v is None else number(v) for v in to_list(column)]
    coarse = _in_microseconds(arrow, type)
    if types.is_nested(type):
        return lambda column: [_plain(v) for v in to_list(column.cast(coarse, safe=False))]
    if coarse == type:
        return to_list
    return lambda column: to_list(column.cast(coarse, safe=False))


def _no_nan(value: Any) -> Any:
    return None if value != value else value


def _plain(value: Any) -> Any:
    """A value within a list or a mapping."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "as_tuple"):  # a decimal
        return int(value) if value == value.to_integral_value() else float(value)
    return _no_nan(value)


def _in_microseconds(arrow: Any, type: Any) -> Any:
    """The type with its times in microseconds at the finest, as Python has them."""
    types = arrow.types
    if types.is_timestamp(type) and type.unit == "ns":
        return arrow.timestamp("us", tz=type.tz)
    if types.is_duration(type) and type.unit == "ns":
        return arrow.duration("us")
    if types.is_time64(type) and type.unit == "ns":
        return arrow.time64("us")
    if types.is_list(type):
        return arrow.list_(_in_microseconds(arrow, type.value_type))
    if types.is_large_list(type):
        return arrow.large_list(_in_microseconds(arrow, type.value_type))
    if types.is_struct(type):
        return arrow.struct([(f.name, _in_microseconds(arrow, f.type)) for f in type])
    return type
