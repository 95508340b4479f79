"""An emulator in a thread of its own, for tests whose main thread is taken by a command."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dynamiq_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def emulator_in_a_thread(app: Any = "llm", **options: Any) -> Iterator[Emulator]:
    """It runs while the block does. Only its logs and its URL are for other threads."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    emulator = Emulator(app, **options)
    try:
        asyncio.run_coroutine_threadsafe(emulator.start(), loop).result(60)
        yield emulator
    finally:
        asyncio.run_coroutine_threadsafe(emulator.aclose(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
