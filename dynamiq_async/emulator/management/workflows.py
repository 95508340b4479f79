"""The workflows that Apps are deployed from.

The emulator runs Python, not the JSON of a flow. So a workflow that belongs to one of its Apps from
the start has a program, and a workflow that was made through the API has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..core.clock import utc_now
from ..core.ids import new_id


@dataclass(frozen=True, kw_only=True)
class WorkflowVersion:
    """A released version of a workflow."""

    number: int
    id: str = field(default_factory=new_id)
    created_at: datetime = field(default_factory=utc_now)

    def public(self, workflow_id: str) -> dict[str, Any]:
        """The version as the API shows it."""
        return {
            "id": self.id,
            "version": str(self.number),
            "description": "",
            "workflow_id": workflow_id,
            "created_at": self.created_at,
            "updated_at": self.created_at,
        }


@dataclass(eq=False, kw_only=True)
class ManagedWorkflow:
    """A workflow as the management API knows it.

    Attributes:
        flow, flow_ui: its nodes, and how they are drawn, as they were saved.
        program: the program of an App that is deployed from it; None: there is nothing to run.
        versions: the released versions, the newest first.
    """

    name: str
    project_id: str
    id: str = field(default_factory=new_id)
    description: str = ""
    flow: dict[str, Any] = field(default_factory=dict)
    flow_ui: dict[str, Any] = field(default_factory=dict)
    program: Any = None
    versions: list[WorkflowVersion] = field(default_factory=list)
    created_at: datetime = field(default_factory=utc_now)
    updated_at: datetime | None = None

    def save(self, flow: dict[str, Any], flow_ui: dict[str, Any]) -> None:
        """Replace its nodes."""
        self.flow, self.flow_ui, self.updated_at = flow, flow_ui, utc_now()

    def release(self) -> None:
        """Make a version of what is saved."""
        self.versions.insert(0, WorkflowVersion(number=len(self.versions) + 1))

    def public(self) -> dict[str, Any]:
        """The workflow as the API shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "status": "active" if self.versions else "draft",
            "project_id": self.project_id,
            "flow": self.flow,
            "flow_ui": self.flow_ui,
            "created_at": self.created_at,
            "updated_at": self.updated_at or self.created_at,
        }
