"""Deploying Apps and deleting them.

The paths, the bodies and the 201 were seen in the vendor's command line. The response to a further
deployment, the fields of a deployment, its status and the 204 are our guess.

A workflow has the program of the App that it belongs to from the start. To deploy a workflow as
another App, the emulator runs the same program at a new path. It builds no image, and a workflow
without a program cannot be deployed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.fields import Fields, is_uuid
from ..core.ids import new_id
from ..core.pages import respond_page
from .absent import not_emulated
from .apps import ManagedApp

if TYPE_CHECKING:
    from ..core.exchange import Exchange
    from .apps import AppDeployment, Management
    from .workflows import ManagedWorkflow

_NAME = re.compile(r"[\w ./'-]+")
_MAX_DESCRIPTION = 512
_TYPES = ("serverless", "server_based")


class _Wanted(NamedTuple):
    """What is to be deployed."""

    workflow: ManagedWorkflow | None
    version_id: str
    runtime_id: str | None

    @property
    def program(self) -> Any:
        """The program to run. Raises `RefusalError` (501) if there is none."""
        assert self.workflow is not None  # noqa: S101 - there was a complaint else
        if self.workflow.program is None:
            raise not_emulated(
                f"the emulator keeps the flow of {self.workflow.name}, and cannot run it; serve "
                "the workflow itself, by `dynamiq-async serve module:workflow` or "
                "`Emulator(apps=…)`, or deploy the workflow of one of the Apps that are there"
            )
        return self.workflow.program


async def deploy_app(exchange: Exchange[Management]) -> None:
    """`POST /v1/apps`: make an App of a workflow, and serve it."""
    management, fields = exchange.state, Fields.of(exchange.record)
    name = fields.require("name", str) or ""
    if name and not _NAME.fullmatch(name):
        fields.complaints["name"] = "may have letters, digits, spaces and . / _ ' -"
    project_id = fields.require("project_id", str) or ""
    if project_id and not is_uuid(project_id):
        fields.complaints["project_id"] = "must be a valid UUID"
    wanted, public = _wanted(management, fields), _is_public(fields)
    description, config = _description(fields), _config(fields)
    fields.check()
    id = new_id()
    app = ManagedApp(
        name=name,
        app=management.host.add(name, wanted.program, id=id, project_id=project_id, public=public),
        id=id,
        project_id=project_id,
        access_type="public" if public else "private",
        description=description,
        deployment_config=config,
    )
    app.deployments.clear()
    _note(app, wanted)
    management.apps.append(app)
    await exchange.respond(201, {"data": app.public(exchange.url)})


async def redeploy_app(exchange: Exchange[Management], app_id: str) -> None:
    """`POST /v1/apps/{id}/deploy`: run a workflow under the App's id and hostname."""
    app, fields = exchange.state.get(app_id), Fields.of(exchange.record)
    wanted = _wanted(exchange.state, fields)
    fields.check()
    exchange.state.host.replace(app.app, wanted.program)
    _note(app, wanted)
    await exchange.respond(200, {"data": app.public(exchange.url)})


async def list_deployments(exchange: Exchange[Management], app_id: str) -> None:
    """`GET /v1/apps/{id}/deployments`, the newest first."""
    app = exchange.state.get(app_id)

    def show(deployment: AppDeployment) -> dict[str, Any]:
        return {
            "id": deployment.id,
            "app_id": app.id,
            "workflow_id": deployment.workflow_id,
            "workflow_version_id": deployment.version_id,
            "runtime_id": deployment.runtime_id,
            "status": "deployed",
            "created_at": deployment.created_at,
            "created_by": "emulator",
        }

    await respond_page(exchange, app.deployments, show)


async def delete_app(exchange: Exchange[Management], app_id: str) -> None:
    """`DELETE /v1/apps/{id}`: its hostname leads nowhere from then on."""
    exchange.state.delete(exchange.state.get(app_id))
    await exchange.wire.start(204, {}, length=0)
    await exchange.wire.finish()


def _wanted(management: Management, fields: Fields) -> _Wanted:
    """What is to be deployed. Notes complaints."""
    workflow_id = fields.require("workflow_id", str)
    version_id = fields.get("workflow_version_id", str)
    runtime_id = fields.get("runtime_id", str)
    workflow = None if workflow_id is None else management.workflow(workflow_id)
    known = [] if workflow is None else [version.id for version in workflow.versions]
    if workflow is None:
        fields.complaints.setdefault("workflow_id", "there is no such workflow")
    elif not known:
        fields.complaints["workflow_id"] = "it has no released version"
    elif version_id is not None and version_id not in known:
        fields.complaints["workflow_version_id"] = "there is no such version"
    return _Wanted(workflow, version_id or next(iter(known), ""), runtime_id)


def _note(app: ManagedApp, wanted: _Wanted) -> None:
    assert wanted.workflow is not None  # noqa: S101 - there was a complaint else
    app.deployed(wanted.workflow.id, wanted.version_id, runtime_id=wanted.runtime_id)


def _description(fields: Fields) -> str:
    description = fields.get("description", str) or ""
    if len(description) > _MAX_DESCRIPTION:
        fields.complaints["description"] = f"must be {_MAX_DESCRIPTION} characters at most"
    return description


def _is_public(fields: Fields) -> bool:
    access = fields.get("access_control", dict) or {"access_type": "private"}
    if access.get("access_type") not in ("private", "public"):
        fields.complaints["access_control"] = "access_type must be private or public"
    return access.get("access_type") == "public"


def _config(fields: Fields) -> dict[str, Any]:
    config = fields.get("deployment_config", dict)
    if config is None:
        return {"deployment_type": _TYPES[0], "config": {}}
    if config.get("deployment_type") not in _TYPES:
        fields.complaints["deployment_config"] = f"deployment_type must be {' or '.join(_TYPES)}"
    return config
