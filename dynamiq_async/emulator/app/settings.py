"""How deployed Apps behave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import ssl

    from .outputs import Outputs


@dataclass(kw_only=True)
class Settings:
    """How the emulator behaves; see `Emulator`. May be changed while it runs."""

    access_key: str | None
    pace: float
    heartbeat: float | None
    root_heartbeat: float | None
    newline: Literal["\n", "\r\n", "\r"]
    event_line: bool
    outputs: Outputs
    quota: int | None
    allow_loopback_callbacks: bool
    callback_deliveries: int
    callback_ssl: ssl.SSLContext | None
    event_window: int | None
    max_file_bytes: int
    list_lag: float
