"""Limits of time for what must end, however slow the machine is: generous, and the same for all."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HANG_SECONDS = 60.0
"""How long a test waits for what takes a moment where it works, and for ever where it does not."""

AGAIN_SECONDS = 5.0  # an event loop reports what is raised in a callback, and goes on

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else ()


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Fail the test when the body takes longer.

    Only in the main thread, and only where the system has such alarms; elsewhere there is no limit.
    """
    if not hasattr(signal, "setitimer") or not _in_main_thread():
        yield
        return

    def fail(*_: Any) -> None:
        pytest.fail(f"it did not end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, fail)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, AGAIN_SECONDS if left else 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def signals_arrive() -> Iterator[None]:
    """Have the signals that stop a program do so, in this process and in those that it starts.

    One that was started in the background of a shell, or under nohup, ignores some of them, and
    hands that down.
    """
    ignored = [s for s in STOPPING if _in_main_thread() and signal.getsignal(s) == signal.SIG_IGN]
    for number in ignored:
        usual: Any = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
