"""The workflows of the management API.

The paths and the bodies were seen in the vendor's command line. Its help says that `flow.nodes` may
not be empty, and which characters a name may have. The statuses of a workflow and the response to a
release are our guess.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..core.fields import Fields, is_uuid
from ..core.pages import respond_page
from ..core.refusals import RefusalError, bad_fields
from .workflows import ManagedWorkflow

if TYPE_CHECKING:
    from ..core.exchange import Exchange
    from .apps import Management

_NAME = re.compile(r"[a-z0-9-]+")


async def list_workflows(exchange: Exchange[Management]) -> None:
    """`GET /v1/workflows`, by name."""
    project_id = exchange.record.query.get("project_id")
    if not project_id:
        raise bad_fields({"project_id": "cannot be blank"})
    found = [w for w in exchange.state.all_workflows() if w.project_id == project_id]
    found.sort(key=lambda workflow: workflow.name)
    await respond_page(exchange, found, ManagedWorkflow.public)


async def get_workflow(exchange: Exchange[Management], workflow_id: str) -> None:
    """`GET /v1/workflows/{id}`."""
    await exchange.respond(200, {"data": _find(exchange, workflow_id).public()})


async def create_workflow(exchange: Exchange[Management]) -> None:
    """`POST /v1/workflows`."""
    fields = Fields.of(exchange.record)
    name, project_id = _name(fields), fields.require("project_id", str) or ""
    if project_id and not is_uuid(project_id):
        fields.complaints["project_id"] = "must be a valid UUID"
    flow, flow_ui = _flow(fields)
    description = fields.get("description", str) or ""
    fields.check()
    workflow = ManagedWorkflow(
        name=name, project_id=project_id, description=description, flow=flow, flow_ui=flow_ui
    )
    exchange.state.workflows[workflow.id] = workflow
    await exchange.respond(201, {"data": workflow.public()})


async def update_workflow(exchange: Exchange[Management], workflow_id: str) -> None:
    """`PUT /v1/workflows/{id}`, which changes only the name and the description."""
    workflow, fields = _find(exchange, workflow_id), Fields.of(exchange.record)
    name, description = _name(fields), fields.get("description", str)
    fields.check()
    workflow.name = name
    workflow.description = workflow.description if description is None else description
    await exchange.respond(200, {"data": workflow.public()})


async def save_workflow(exchange: Exchange[Management], workflow_id: str) -> None:
    """`POST /v1/workflows/{id}/save`."""
    workflow, fields = _find(exchange, workflow_id), Fields.of(exchange.record)
    flow, flow_ui = _flow(fields)
    fields.check()
    workflow.save(flow, flow_ui)
    await exchange.respond(200, {"data": workflow.public()})


async def release_workflow(exchange: Exchange[Management], workflow_id: str) -> None:
    """`POST /v1/workflows/{id}/release`."""
    workflow, fields = _find(exchange, workflow_id), Fields.of(exchange.record)
    name = _name(fields)
    flow, flow_ui = _flow(fields)
    fields.check()
    workflow.name = name
    workflow.save(flow, flow_ui)
    workflow.release()
    await exchange.respond(200, {"data": workflow.versions[0].public(workflow.id)})


async def list_versions(exchange: Exchange[Management], workflow_id: str) -> None:
    """`GET /v1/workflows/{id}/versions`, the newest first."""
    workflow = _find(exchange, workflow_id)
    await respond_page(exchange, workflow.versions, lambda version: version.public(workflow.id))


def _find(exchange: Exchange[Management], id: str) -> ManagedWorkflow:
    workflow = exchange.state.workflow(id)
    if workflow is None:
        raise RefusalError(404, "not_found", "there is no such workflow")
    return workflow


def _name(fields: Fields) -> str:
    name = fields.require("name", str) or ""
    if name and not _NAME.fullmatch(name):
        fields.complaints["name"] = "must be lowercase letters, digits and hyphens"
    return name


def _flow(fields: Fields) -> tuple[dict[str, Any], dict[str, Any]]:
    flow, flow_ui = fields.require("flow", dict), fields.require("flow_ui", dict)
    if flow is not None and not flow.get("nodes"):
        fields.complaints["flow"] = "nodes: cannot be blank"
    return flow or {}, flow_ui or {}
