"""Programs without OpenTelemetry import nothing of it, and those without a provider pay little.

Each is a process of its own, since providers are global."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dynamiq_async

CALLS = """
import asyncio, sys
from dynamiq_async import AsyncApp
from dynamiq_async.emulator import Emulator

async def calls(set_up=lambda: None, **options):
    async with Emulator("llm") as emulator:
        async with AsyncApp(emulator.url, access_key=emulator.access_key, **options) as app:
            await app.invoke({})
            set_up()
            await app.invoke({})
            async for _ in app.stream({}):
                pass
            await app.batch([{}])
        return [dict(seen.headers).get("traceparent") for seen in emulator.requests]
"""

SDK = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
def set_up():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
"""


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CALLS + code],
        capture_output=True,
        text=True,
        cwd=Path(dynamiq_async.__file__).parent.parent,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_where_it_is_not_used_nothing_is_imported() -> None:
    code = """
assert asyncio.run(calls()) == [None] * 4
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    assert run(code) == "[]"


def test_where_only_the_api_is_there_there_is_no_span_and_no_header() -> None:
    code = """
from opentelemetry import metrics, trace
assert asyncio.run(calls()) == [None] * 4
print("opentelemetry.propagate" in sys.modules)
"""
    assert run(code) == "False"


def test_a_provider_that_is_configured_late_is_found() -> None:
    code = """
found = asyncio.run(calls(set_up))
print([bool(header) for header in found], len(exporter.get_finished_spans()))
"""
    assert run(SDK + code) == "[False, True, True, True] 4"


def test_it_can_be_switched_off() -> None:
    code = """
set_up()
assert asyncio.run(calls(open_telemetry=False)) == [None] * 4
print(asyncio.run(calls()), len(exporter.get_finished_spans()))
"""
    off = "[None, None, None, None] 0"
    assert run(SDK + code, DYNAMIQ_OPEN_TELEMETRY="false") == off


def test_propagators_that_cannot_be_loaded_fail_no_call() -> None:
    code = """
set_up()
print(asyncio.run(calls()), len(exporter.get_finished_spans()))
"""
    found = run(SDK + code, OTEL_PROPAGATORS="no_such_thing")
    assert found == "[None, None, None, None] 5"
