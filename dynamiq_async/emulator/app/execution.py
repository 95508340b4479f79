"""One execution of an App, from its input to the end of the workflow."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from ..core.json import encode
from .artifacts import Artifact
from .messages import NODE, node_error, node_result
from .questions import Question
from .run_context import App, RunContext, WorkflowCanceledError, WorkflowFailedError

Status = Literal["running", "success", "failure", "canceled"]

_NODE_STATUSES = {"success", "failure", "skip", "canceled", "undefined"}


@dataclass(eq=False, kw_only=True)
class Execution:
    """What an App was given, and how it ended.

    Attributes:
        id: the run's id.
        status: "canceled" also when the client left a run of the root endpoint.
        output: the workflow's map of nodes; None while it runs and when it was canceled.
        error: the workflow's message about its failure or cancellation.
        questions: all that were asked; an open one waits for its answer.
        artifacts: the files that it made.
        usage: how many tokens it took, by what they are.
    """

    id: str
    app: str
    app_id: str = ""
    input: Mapping[str, Any]
    user_id: str | None = None
    session_id: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended_at: datetime | None = None
    status: Status = "running"
    output: Mapping[str, Any] | None = None
    error: str | None = None
    questions: list[Question] = field(default_factory=list)
    artifacts: Sequence[Artifact] = ()
    usage: Mapping[str, int] = field(default_factory=dict)

    def end(self, status: Status, output: Mapping[str, Any] | None, error: str | None) -> None:
        """Note the end."""
        self.status = status
        self.output = output
        self.error = error
        self.ended_at = datetime.now(UTC)

    @property
    def failed_nodes(self) -> dict[str, str]:
        """The nodes that failed, with their error messages."""
        return {
            node: str((result.get("error") or {}).get("message", "failed"))
            for node, result in (self.output or {}).items()
            if result.get("status") == "failure"
        }

    def terminal_data(self) -> dict[str, Any]:
        """The `data` of the workflow's own message."""
        if self.status == "success":
            return dict(self.output or {})
        if self.status == "failure":
            return {"error": self.error}
        return {"canceled": True, "error": {"message": self.error}}

    def failed_result(self) -> dict[str, Any]:
        """The library's whole result of a workflow that failed or was canceled."""
        canceled = self.status == "canceled"
        error = node_error(
            "CanceledException" if canceled else "FlowNodeFailureException", self.error or ""
        )
        error["failed_nodes"] = [
            {"id": node, "name": node, "error_message": message}
            for node, message in self.failed_nodes.items()
        ]
        return {
            "status": self.status,
            "input": None if canceled else self.input,
            "output": self.output,
            "error": error,
        }


async def execute(app: App, execution: Execution, context: RunContext) -> None:
    """Run `app` and note its end. Raises only `CancelledError`."""
    given = dict(execution.input)
    try:
        value = app(given, context)
        output = _as_nodes(await value if inspect.isawaitable(value) else value, given)
    except asyncio.CancelledError:
        execution.end("canceled", None, canceled_message(execution.app))
        raise
    except WorkflowCanceledError as error:
        execution.end("canceled", None, str(error) or canceled_message(execution.app))
    except WorkflowFailedError as error:
        execution.end("failure", error.nodes or {}, str(error))
    except Exception as error:  # noqa: BLE001 - whatever an App raises is its failure
        failure = node_error(type(error).__name__, str(error))
        nodes = {NODE: node_result("failure", given, None, failure)}
        execution.end("failure", nodes, failed_message(execution.app))
    else:
        execution.end("success", output, None)


def failed_message(*nodes: str) -> str:
    """The library's message for a workflow that failed."""
    return f"Flow execution failed due to node failures: {', '.join(nodes)}"


def canceled_message(workflow: str) -> str:
    """The library's message for a workflow that was canceled."""
    return f"Workflow '{workflow}' was canceled during execution"


def _as_nodes(value: Any, input: Mapping[str, Any]) -> Mapping[str, Any]:
    """The map of nodes that an App's value stands for. Raises when the value cannot become JSON."""
    value = msgspec.json.decode(encode(value))
    if isinstance(value, Mapping) and value and all(map(_is_node, value.values())):
        return value
    return {NODE: node_result("success", input, value)}


def _is_node(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("status") in _NODE_STATUSES
