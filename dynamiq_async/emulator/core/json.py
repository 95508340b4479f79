"""JSON as the emulator writes it."""

from __future__ import annotations

import msgspec

encode = msgspec.json.Encoder(enc_hook=str).encode
"""JSON as bytes. A value that JSON has no type for (an exception, a path) becomes its text."""
