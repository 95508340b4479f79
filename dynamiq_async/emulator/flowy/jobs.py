"""Flowy's jobs: runs of apps, and generations without an app.

No task works on a job: its status follows from the time at which a client asks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core.ids import new_hex
from .apps import PNG, FlowyContent, FlowyFailedError

if TYPE_CHECKING:
    from .apps import FlowyApp, Outputs, Values


@dataclass(eq=False, kw_only=True)
class FlowyJob(ABC):
    """A run or a generation, which ends at `ends_at`. Times are Unix times.

    Attributes:
        credits: what it costs, unless it fails.
        links: the links to its outputs, by node, if each link is made only once.
    """

    key: str
    created_at: float
    running_at: float
    ends_at: float
    credits: int = 0
    id: str = field(default_factory=new_hex)
    links: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outputs: Outputs = {}
        self.error: str | None = None
        try:
            self.outputs = self.make()
        except FlowyFailedError as error:
            self.error = str(error)

    @abstractmethod
    def make(self) -> Outputs:
        """The outputs by node. Raises `FlowyFailedError`."""

    def status(self, now: float) -> str:
        """The status at the time `now`."""
        if now < self.running_at:
            return "queued"
        if now < self.ends_at:
            return "running"
        return "completed" if self.error is None else "failed"

    def cost(self, now: float) -> tuple[int, int]:
        """The credits that it has cost, and those that it blocks, at the time `now`."""
        if now < self.ends_at:
            return 0, self.credits
        return (self.credits if self.error is None else 0), 0

    def assets(self) -> dict[str, tuple[str, FlowyContent]]:
        """Its assets by id: each output that is not text, with its node."""
        return {
            f"{self.id}-{position}": (node, what)
            for position, (node, what) in enumerate(self.outputs.items(), start=1)
            if not isinstance(what, str)
        }


@dataclass(eq=False, kw_only=True)
class FlowyRun(FlowyJob):
    """A run of an app."""

    app: FlowyApp
    inputs: Values

    def make(self) -> Outputs:
        return self.app.make(self.inputs)


@dataclass(eq=False, kw_only=True)
class FlowyGeneration(FlowyJob):
    """A generation: one output made from a prompt, without an app."""

    wanted: dict[str, Any]

    def make(self) -> Outputs:
        """One output of the requested type, which contains the prompt; the prompt `fail` fails."""
        kind, prompt = self.wanted["type"], self.wanted["prompt"]
        if prompt == "fail":
            raise FlowyFailedError("the model is out of ideas")
        made = FlowyContent(content=PNG + prompt.encode(), kind=kind, name=f"{kind}.png")
        return {kind: made}
