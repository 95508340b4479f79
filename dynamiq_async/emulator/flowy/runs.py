"""Runs of Flowy. Nothing works on them: what a run is doing follows from the time of asking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from .apps import FlowyFailedError

if TYPE_CHECKING:
    from .apps import FlowyApp, FlowyContent


@dataclass(eq=False, kw_only=True)
class FlowyRun:
    """A run, which ends at `ends_at`. Times are Unix times."""

    app: FlowyApp
    inputs: Mapping[str, str]
    key: str
    created_at: float
    running_at: float
    ends_at: float
    id: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        self.outputs: Mapping[str, str | FlowyContent] = {}
        self.error: str | None = None
        try:
            self.outputs = self.app.make(self.inputs)
        except FlowyFailedError as error:
            self.error = str(error)

    def status(self, now: float) -> str:
        """The status at the time `now`."""
        if now < self.running_at:
            return "queued"
        if now < self.ends_at:
            return "running"
        return "completed" if self.error is None else "failed"
