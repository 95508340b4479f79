"""What an App's return value means: the map of nodes that ends a stream, and what callers get.

The vendor says that a synchronous response is the workflow's output, and its samples of runs show
the workflow's own fields, never the map of nodes. Its checker says that a workflow without an
Output node returns nothing to its caller. So callers get the fields of the Output node: as the body
of a synchronous response, as a run's `output`, and as the `output` of a callback. We guess that the
last node is the Output node, and we guess the field name for a value that is not an object.

With `Emulator(outputs="nodes")` callers get the map of nodes instead: under `output` in a
synchronous response, and unwrapped elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from ..core.json import encode
from .messages import NODE, node_result

Outputs: TypeAlias = Literal["output_node", "nodes"]
"""What callers get."""

_NODE_STATUSES = {"success", "failure", "skip", "canceled", "undefined"}
_FIELD = "output"
"""The field for a value that is not an object. The vendor's chat widget reads it as text."""


class WorkflowOutput(msgspec.Struct, frozen=True):
    """An App may return this to give both the map of nodes and the output.

    Attributes:
        nodes: the map of nodes, for the end of a stream.
        output: the fields of the Output node, for all other responses.
    """

    nodes: Mapping[str, Any]
    output: Any


def workflow_output(value: Any, input: Mapping[str, Any]) -> WorkflowOutput:
    """Interpret a return value. Raises if it cannot become JSON."""
    if isinstance(value, WorkflowOutput):
        return WorkflowOutput(_plain(value.nodes), _plain(value.output))
    value = _plain(value)
    if isinstance(value, dict) and value and all(map(is_node, value.values())):
        return WorkflowOutput(value, _fields(last_output(value)))
    return WorkflowOutput({NODE: node_result("success", input, value)}, _fields(value))


def is_node(value: Any) -> bool:
    """Whether a value is a node's result."""
    return isinstance(value, Mapping) and value.get("status") in _NODE_STATUSES


def sync_body(output: Any, outputs: Outputs) -> Mapping[str, Any]:
    """The body of a synchronous response, for the output of a workflow that succeeded."""
    return {"output": output} if outputs == "nodes" else _fields(output)


def last_output(nodes: Mapping[str, Any]) -> Any:
    """The output of the last node."""
    return list(nodes.values())[-1].get("output") if nodes else None


def _plain(value: Any) -> Any:
    return msgspec.json.decode(encode(value))


def _fields(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {_FIELD: value}
