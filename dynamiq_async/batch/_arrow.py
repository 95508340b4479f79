"""The only module that imports `pyarrow`, which the extra `arrow` installs.

`pyarrow` is imported when a frame is first read or a table first written, so that other programs do
not pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamiq_async.batch.columns import Column


READ_ROWS = 1024


def pyarrow() -> Any:
    """The library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError(
            "frames and tables need the package pyarrow: pip install 'dynamiq-async[arrow]'"
        ) from error
    return pyarrow


def schema(columns: Sequence[Column]) -> Any:
    """The `pyarrow.Schema` of these columns."""
    arrow = pyarrow()
    return arrow.schema([(column.name, _type(arrow, column.kind)) for column in columns])


def _type(arrow: Any, kind: str) -> Any:
    if kind.startswith("list "):
        return arrow.list_(_type(arrow, kind.removeprefix("list ")))
    if kind == "time":
        return arrow.timestamp("us", tz="UTC")
    if kind == "duration":
        return arrow.duration("us")
    return arrow.type_for_alias({"json": "string", "date": "date32"}.get(kind, kind))


def record_batch(schema: Any, rows: Sequence[Sequence[Any]]) -> Any:
    """A `pyarrow.RecordBatch`. A value that its column cannot hold is null there."""
    arrow = pyarrow()
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return arrow.RecordBatch.from_arrays(
        [_array(arrow, values, field.type) for values, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def _array(arrow: Any, values: Sequence[Any], type: Any) -> Any:
    try:
        return arrow.array(values, type)
    except (arrow.ArrowException, OverflowError, TypeError, ValueError):
        return arrow.array([_fitting(arrow, value, type) for value in values], type)


def _fitting(arrow: Any, value: Any, type: Any) -> Any:
    try:
        return arrow.scalar(value, type)
    except (arrow.ArrowException, OverflowError, TypeError, ValueError):
        return None


def parquet_writer(file: Any, schema: Any) -> Any:
    """Writes a Parquet file, a row group for each batch."""
    pyarrow()
    from pyarrow import parquet

    return parquet.ParquetWriter(file, schema)


def arrow_writer(file: Any, schema: Any) -> Any:
    """Writes an Arrow file."""
    arrow = pyarrow()
    from pyarrow import ipc

    return ipc.new_file(arrow.PythonFile(file, mode="w"), schema)


def parquet_batches(file: Any) -> Any:
    """The record batches of a Parquet file, of at most `READ_ROWS` rows each.

    Raises:
        ValueError: it is not a Parquet file.
    """
    pyarrow()
    from pyarrow import parquet

    return parquet.ParquetFile(file).iter_batches(batch_size=READ_ROWS)


def arrow_batches(file: Any) -> Any:
    """The record batches of an Arrow file or stream.

    Raises:
        ValueError: it is neither.
    """
    arrow = pyarrow()
    from pyarrow import ipc

    try:
        reader = ipc.open_file(file)
    except arrow.ArrowInvalid:
        file.seek(0)
        return iter(ipc.open_stream(file))
    return (reader.get_batch(n) for n in range(reader.num_record_batches))
