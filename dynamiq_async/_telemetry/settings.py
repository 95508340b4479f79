"""The option `open_telemetry` of the clients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from dynamiq_async.errors import InvalidArgumentError

VARIABLE = "DYNAMIQ_OPEN_TELEMETRY"  # our own
_OFF = frozenset({"false", "0", "no", "off"})


class OpenTelemetryOptions(TypedDict, total=False):
    """The options in `open_telemetry`.

    Attributes:
        baggage: send the program's baggage to the App, besides the trace's ids. Baggage is any data
            that the program put there.
        agent_name: the App's name in spans; by default its host.
        tracer_provider, meter_provider: used instead of the global ones.
    """

    baggage: bool
    agent_name: str
    tracer_provider: Any
    meter_provider: Any


class Settings(NamedTuple):
    """The option, checked."""

    enabled: bool = True
    baggage: bool = False
    agent_name: str | None = None
    tracer_provider: Any = None
    meter_provider: Any = None


_KINDS: Mapping[str, type] = {"baggage": bool, "agent_name": str}


def settings_of(option: bool | OpenTelemetryOptions | None) -> Settings:
    """The checked `open_telemetry` option; for None, the environment decides.

    Raises:
        InvalidArgumentError: the option is neither a bool nor a mapping of known options.
    """
    if option is None:
        return Settings(os.environ.get(VARIABLE, "").strip().lower() not in _OFF)
    if isinstance(option, bool):
        return Settings(option)
    if not isinstance(option, Mapping):
        raise _wrong(f"must be True, False or a mapping, not {option!r}")
    if unknown := option.keys() - OpenTelemetryOptions.__annotations__.keys():
        known = ", ".join(OpenTelemetryOptions.__annotations__)
        raise _wrong(f"has no {', '.join(sorted(map(repr, unknown)))}; there are {known}")
    for name, kind in _KINDS.items():
        if not isinstance(option.get(name, kind()), kind):
            raise _wrong(f"has a {name} that is no {kind.__name__}")
    return Settings(True, **option)


def portable(option: bool | OpenTelemetryOptions | None) -> Any:
    """The option for a pickle, without the providers of this process."""
    if not isinstance(option, Mapping):
        return option
    return {name: value for name, value in option.items() if name in _KINDS}


def _wrong(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"open_telemetry {what}", argument="open_telemetry")
