"""The program's OpenTelemetry: its providers, if it configured any, and its propagators.

The API is used if the program imported it, and is not imported otherwise. Until a provider is
configured, the API has a default one that records nothing; then nothing is done here.
"""

from __future__ import annotations

import logging
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dynamiq_async._telemetry import names
from dynamiq_async._telemetry.logs import extra
from dynamiq_async._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dynamiq_async._telemetry.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

SCOPE = "dynamiq_async"
_OWN = ("opentelemetry.trace", "opentelemetry.metrics")  # providers from these record nothing
_SENT = frozenset({"traceparent", "tracestate"})

log = logging.getLogger("dynamiq_async")


def never_raises(work: Callable[P, R]) -> Callable[P, R | None]:
    """`work`, but returning None where it would raise. Samplers, exporters and propagators are
    foreign code, which must not fail a call."""

    @wraps(work)
    def call(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return work(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - foreign code must not fail the call
            log.debug("OpenTelemetry failed: %s", type(error).__name__, extra=extra(error))
            return None

    return call


def is_imported() -> bool:
    """Whether the program uses OpenTelemetry."""
    modules = sys.modules
    return "opentelemetry.trace" in modules or "opentelemetry.metrics" in modules


class Instruments:
    """The metrics of one meter."""

    def __init__(self, provider: Any) -> None:
        meter = provider.get_meter(SCOPE, __version__)
        self.duration: Any = self._seconds(meter, names.DURATION, "How long a call took.")
        self.first_chunk: Any = self._seconds(
            meter, names.TIME_TO_FIRST_CHUNK, "From a stream's request to its first event."
        )
        self.cooldown: Any = self._seconds(
            meter, names.COOLDOWN, "For how long a service asked this client to slow down."
        )
        self.in_flight: Any = meter.create_up_down_counter(
            names.IN_FLIGHT, "{call}", "The calls under way, streams included."
        )
        self.items: Any = meter.create_counter(names.ITEMS, "{item}", "The results of batches.")

    def _seconds(self, meter: Any, name: str, told: str) -> Any:
        buckets = names.BUCKETS
        return meter.create_histogram(name, "s", told, explicit_bucket_boundaries_advisory=buckets)


class Api:
    """The OpenTelemetry API for one client.

    Args:
        settings: the providers to use; the global ones if it has none.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._traced: tuple[Any, Any] = (None, None)  # a provider and its tracer
        self._metered: tuple[Any, Instruments | None] = (None, None)

    def tracer(self) -> Any:
        """The tracer; None while no provider is configured."""
        provider = self._settings.tracer_provider or _configured(
            "opentelemetry.trace", "get_tracer_provider"
        )
        if provider is None:
            return None
        if provider is not self._traced[0]:
            self._traced = provider, provider.get_tracer(SCOPE, __version__)
        return self._traced[1]

    def instruments(self) -> Instruments | None:
        """The metrics; None while no provider is configured."""
        provider = self._settings.meter_provider or _configured(
            "opentelemetry.metrics", "get_meter_provider"
        )
        if provider is None:
            return None
        if provider is not self._metered[0]:
            self._metered = provider, Instruments(provider)
        return self._metered[1]

    @never_raises
    def inject(self, headers: Mapping[str, str]) -> dict[str, str]:
        """`headers` with the trace headers of the current span. The caller's headers win."""
        # This reads the program's choice of propagators, so only if there is something to send.
        from opentelemetry import propagate

        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        sent = _SENT | {"baggage"} if self._settings.baggage else _SENT
        told = {n.title(): value for n, value in carrier.items() if n.lower() in sent}
        return {**told, **headers}


def _configured(module: str, find: str) -> Any:
    api = sys.modules.get(module)
    if api is None:
        return None
    provider = getattr(api, find)()
    return None if type(provider).__module__.startswith(_OWN) else provider
