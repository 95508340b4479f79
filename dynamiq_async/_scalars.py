"""Turns values of other libraries and of subclasses into builtin values that JSON can express.

Values of numpy and pandas are recognised by their types' names, so that neither is imported.
"""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

_FRAMES = frozenset({"numpy", "pandas"})
_MISSING = frozenset({"NAType", "NaTType"})


def library_of(value: object) -> str:
    """The top-level package of a value's type."""
    return type(value).__module__.partition(".")[0]


def is_of_a_frame(value: object) -> bool:
    """Whether a value's type comes from numpy or pandas, as in the rows of a frame."""
    return library_of(value) in _FRAMES


def plain(value: Any) -> Any:
    """`value` as a builtin value; NotImplemented where there is none.

    A missing value of a frame (NaN, NaT, NA) becomes None.

    Raises:
        ValueError: `value` is an infinity.
    """
    if is_of_a_frame(value):
        if type(value).__name__ in _MISSING:
            return None
        if hasattr(value, "dtype"):
            return _of_numpy(value)
    return _of_subclass(value)


def _of_numpy(value: Any) -> Any:
    if hasattr(value, "to_dict"):  # a row, as a Series
        return {name: _no_nan(item) for name, item in value.to_dict().items()}
    if value.dtype.kind in "mM":
        value = value.astype(f"{value.dtype.kind}8[us]")  # nanoseconds would be plain numbers
    found = value.tolist()
    if type(found) is type(value):  # a long double
        found = float(value)
    return _number(found) if isinstance(found, float) else found


def _no_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: float) -> float | None:
    if math.isinf(value):
        raise ValueError("JSON has no name for an infinity")
    return None if math.isnan(value) else value


def _of_subclass(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case float():
            number = float.__float__(value)
            return _number(number) if is_of_a_frame(value) else finite(number)
        case datetime():
            return datetime.combine(
                date(value.year, value.month, value.day),
                time(value.hour, value.minute, value.second, value.microsecond, fold=value.fold),
                value.tzinfo,
            )
        case date():
            return date(value.year, value.month, value.day)
        case timedelta():
            return timedelta(value.days, value.seconds, value.microseconds)
        case Decimal():
            return Decimal(Decimal.__str__(value))
        case bytes():
            return bytes(memoryview(value))
    return NotImplemented


def finite(value: float) -> float:
    """`value`. Raises ValueError for a NaN or infinity, which JSON has no name for."""
    if not math.isfinite(value):
        raise ValueError("JSON has no name for a NaN or infinity")
    return value
