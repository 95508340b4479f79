"""The time at which something happens here."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

utc_now: Callable[[], datetime] = partial(datetime.now, UTC)
"""The time, in UTC."""
