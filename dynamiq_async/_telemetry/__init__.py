"""OpenTelemetry for the programs that use it, and the fields of log records for all.

OpenTelemetry is used only if the program has imported it, and its errors never fail a call.
"""

from dynamiq_async._telemetry.calls import Call, outside
from dynamiq_async._telemetry.logs import extra
from dynamiq_async._telemetry.names import FETCH, INVOKE
from dynamiq_async._telemetry.settings import OpenTelemetryOptions, portable, settings_of
from dynamiq_async._telemetry.telemetry import Batch, Telemetry

__all__ = [
    "FETCH",
    "INVOKE",
    "Batch",
    "Call",
    "OpenTelemetryOptions",
    "Telemetry",
    "extra",
    "outside",
    "portable",
    "settings_of",
]
