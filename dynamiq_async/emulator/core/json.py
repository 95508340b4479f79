"""JSON as the emulator writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

encode: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=str).encode
"""JSON as bytes. A value that JSON has no type for (an exception, a path) becomes its text."""
