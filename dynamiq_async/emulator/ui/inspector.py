"""The inspector's sources of data, and whether it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ..core.exchange import Exchange

if TYPE_CHECKING:
    from ..app.state import AppState
    from ..core.callers import Callers
    from ..core.fault_rules import FaultRules
    from ..core.log import Log
    from ..core.request_record import RequestRecord


class Inspector:
    """The data that the inspector shows.

    Args:
        wanted: whether the inspector is on; None: only if no other machine can reach the emulator.
    """

    def __init__(
        self,
        apps: AppState,
        requests: Log[RequestRecord],
        rules: FaultRules,
        callers: Callers,
        wanted: bool | None,
    ) -> None:
        self.apps = apps
        self.requests = requests
        self.rules = rules
        self.callers = callers
        self.wanted = wanted

    @property
    def on(self) -> bool:
        """Whether the inspector is on."""
        return self.callers.on_loopback if self.wanted is None else self.wanted


InspectorExchange: TypeAlias = Exchange[Inspector]
"""A request to the inspector."""
