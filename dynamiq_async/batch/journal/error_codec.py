"""Errors as JSON, and back: a decoded error has the class that was raised.

The JSON has the name of the class and the attributes that are not None. An exception that is not
from `dynamiq_async.errors` is decoded to a DynamiqError that names its class.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec

from dynamiq_async import _json, errors
from dynamiq_async.runs.models import Run

_TYPE = "type"
_UNKEPT = frozenset({"events"})  # of a decoder's error: they were returned already
_TYPED: dict[str, Any] = {"run": Run | None, "data": bytes}


def describe(error: BaseException) -> dict[str, Any]:
    """The class and the known attributes of `error`, as plain data."""
    name = type(error).__name__
    if not isinstance(error, errors.DynamiqError):
        return {_TYPE: name, "message": str(error)}
    known = {
        attribute: value
        for attribute, value in vars(error).items()
        if value is not None and attribute not in _UNKEPT and not attribute.startswith("_")
    }
    return {_TYPE: name, **msgspec.to_builtins(known, enc_hook=repr, str_keys=True)}


def encode(error: BaseException) -> bytes:
    """`describe`, as JSON."""
    described = describe(error)
    try:
        return msgspec.json.encode(described)
    except UnicodeEncodeError:  # a lone surrogate, such as in the name of a file
        return _json.repair(json.dumps(described).encode())


def decode(data: bytes) -> errors.DynamiqError:
    """The error that was encoded, as far as the JSON allows."""
    known = _json.decode(data, dict[str, Any])
    name, message = known.pop(_TYPE, ""), str(known.pop("message", ""))
    kind = getattr(errors, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.DynamiqError)):
        return errors.DynamiqError(f"{name}: {message}" if message else name)
    error = kind(message)
    for attribute in vars(error).keys() & known.keys():
        value = known[attribute]
        if attribute in _TYPED:
            with suppress(msgspec.ValidationError):
                value = msgspec.convert(value, _TYPED[attribute])
        setattr(error, attribute, value)
    return error
