"""The log of what happened."""

from __future__ import annotations

from dynamiq_async.emulator.core.log import Log


def test_a_log_keeps_the_newest_and_counts_all() -> None:
    log: Log[int] = Log(3)
    for number in range(5):
        log.add(number)
    assert list(log) == [2, 3, 4]
    assert (log[0], log[-1], log[:2]) == (2, 4, [2, 3])
    assert (len(log), log.total) == (3, 5)
    assert repr(log) == "<Log of 5>"
