"""One execution of an App, from its input to the end of the workflow."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import field

from ..core.clock import utc_now
from .artifacts import Artifact
from .messages import NODE, node_error, node_result
from .outputs import WorkflowOutput, is_node, workflow_output
from .questions import Question
from .run_context import App, RunContext, WorkflowCanceledError, WorkflowFailedError
from .signatures import Signature

if TYPE_CHECKING:
    from .outputs import Outputs

Status = Literal["running", "success", "failure", "canceled"]


class Execution(msgspec.Struct, eq=False, kw_only=True):
    """What an App was given, and how it ended.

    Attributes:
        id: the run's id.
        status: "canceled" also if the client left a run of the root endpoint.
        nodes: the workflow's map of nodes; None while it runs, and if it was canceled.
        output: what callers get; None while it runs, and if it did not succeed.
        error: the workflow's message about its failure or cancellation.
        result: the library's whole result, if the App gave it with its failure.
        questions: all questions that were asked; an open one waits for its answer.
        artifacts: the files that it made.
        usage: how many tokens it used, by kind of token.
        task: runs the App; None before and afterwards.
        canceling: `cancel` was called, and has not taken effect yet.
    """

    id: str
    app: str
    app_id: str = ""
    input: Mapping[str, Any]
    user_id: str | None = None
    session_id: str | None = None
    started_at: datetime = field(default_factory=utc_now)
    ended_at: datetime | None = None
    status: Status = "running"
    nodes: Mapping[str, Any] | None = None
    output: Any = None
    error: str | None = None
    result: Mapping[str, Any] | None = None
    questions: Sequence[Question] = ()
    artifacts: Sequence[Artifact] = ()
    usage: Mapping[str, int] = field(default_factory=dict)
    task: asyncio.Task[Any] | None = None
    canceling: bool = False

    def cancel(self) -> None:
        """Cancel only the App, so that the caller still gets a response, which says canceled."""
        if self.status == "running" and self.task is not None and not self.canceling:
            self.canceling = True
            self.task.cancel()

    def take_back(self) -> bool:
        """Undo what `cancel` did to the task. Returns whether only `cancel` had canceled it."""
        asked, self.canceling = self.canceling, False
        return asked and self.task is not None and not self.task.uncancel()

    def end(self, status: Status, nodes: Mapping[str, Any] | None, error: str | None) -> None:
        """Note the end."""
        self.status = status
        self.nodes = nodes
        self.error = error
        self.ended_at = utc_now()

    @property
    def failed_nodes(self) -> dict[str, str]:
        """The nodes that failed, with their error messages."""
        return {
            node: str((result.get("error") or {}).get("message", "failed"))
            for node, result in (self.nodes or {}).items()
            if is_node(result) and result["status"] == "failure"
        }

    def terminal_data(self) -> dict[str, Any]:
        """The `data` of the workflow's own message."""
        if self.status == "success":
            return dict(self.nodes or {})
        if self.status == "failure":
            return {"error": self.error}
        return {"canceled": True, "error": {"message": self.error}}

    def failed_result(self) -> Mapping[str, Any]:
        """The library's whole result of a workflow that failed or was canceled."""
        if self.result is not None:
            return self.result
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
            "output": self.nodes,
            "error": error,
        }


async def execute(app: App, execution: Execution, context: RunContext, outputs: Outputs) -> None:
    """Run `app` and note its end. Raises only `CancelledError`, unless it is from `cancel`."""
    given = dict(execution.input)
    execution.task = asyncio.current_task()
    value: Any = None
    result: WorkflowOutput | None = None
    try:
        value = Signature.of(app).call(given, context)
        value = await value if inspect.isawaitable(value) else value
        result = workflow_output(value, given)
    except asyncio.CancelledError:
        execution.end("canceled", None, canceled_message(execution.app))
        if not execution.take_back():
            raise
    except WorkflowCanceledError as error:
        execution.result = error.result
        execution.end("canceled", None, _said(error) or canceled_message(execution.app))
    except WorkflowFailedError as error:
        execution.result = error.result
        execution.end("failure", error.nodes or {}, _said(error))
    except Exception as error:  # noqa: BLE001 - whatever an App raises is its failure
        failure = node_error(type(error).__name__, _said(error))
        nodes = {NODE: node_result("failure", given, None, failure)}
        execution.end("failure", nodes, failed_message(execution.app))
    else:
        execution.end("success", result.nodes, None)
    finally:
        execution.take_back()  # if the App ignored the cancellation
        execution.task = None  # it would keep the request alive as long as the record
    if context.final is not None:
        _end_as_said(execution, context.final["data"])
    if execution.status == "success":
        if result is None or (value is None and context.final is not None):
            result = workflow_output(execution.nodes, given)
        execution.output = result.output
    if outputs == "nodes":
        execution.output = execution.nodes


def _said(error: Exception) -> str:
    """The text of an error, with lone surrogates replaced, which JSON cannot have."""
    return str(error).encode("utf-8", "replace").decode()


def _end_as_said(execution: Execution, data: Any) -> None:
    """Note the end according to the workflow's own message, which overrides how the App ended."""
    data = data if isinstance(data, Mapping) else {}
    error = data.get("error")
    said = error.get("message") if isinstance(error, Mapping) else error
    if data.get("canceled") is True:
        execution.end("canceled", None, str(said or canceled_message(execution.app)))
    elif "error" in data and not is_node(error):
        execution.end("failure", execution.nodes or {}, str(said))
    else:
        execution.end("success", data, None)


def failed_message(*nodes: str) -> str:
    """The library's message for a workflow that failed."""
    return f"Flow execution failed due to node failures: {', '.join(nodes)}"


def canceled_message(workflow: str) -> str:
    """The library's message for a workflow that was canceled."""
    return f"Workflow '{workflow}' was canceled during execution"
