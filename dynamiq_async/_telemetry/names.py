"""The names of spans, attributes and metrics, in one place.

Names that begin with `gen_ai.` come from OpenTelemetry's conventions for generative AI (version 0.1
of `semantic-conventions-genai`, in development). The package that had them as constants has
deprecated them, so they are written out here.
"""

from __future__ import annotations

from typing import NamedTuple

INVOKE = "invoke_agent"
FETCH = "fetch_response"
BATCH = "dynamiq.batch"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
AGENT = "gen_ai.agent.name"
CONVERSATION = "gen_ai.conversation.id"
STREAM = "gen_ai.request.stream"
CURSOR = "gen_ai.request.stream_cursor"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_STATUS = "gen_ai.response.status"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"

ADDRESS = "server.address"
PORT = "server.port"
ERROR = "error.type"
METHOD = "http.request.method"
TEMPLATE = "url.template"
RESENDS = "http.request.resend_count"
STATUS = "http.response.status_code"

RECONNECTS = "dynamiq.reconnects"
SEQUENCE = "dynamiq.sequence"

DURATION = "gen_ai.client.operation.duration"
TIME_TO_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
IN_FLIGHT = "dynamiq.client.in_flight"
COOLDOWN = "dynamiq.client.cooldown"
ITEMS = "dynamiq.batch.items"
OUTCOME = "dynamiq.batch.outcome"

BUCKETS = tuple(0.01 * 2**power for power in range(14))
"""In seconds; the conventions define these buckets for durations."""


class Operation(NamedTuple):
    """The operation of a request: the name of its span, and the template of its path."""

    name: str
    template: str = ""

    @property
    def is_agents(self) -> bool:
        """Whether the conventions have a name for it."""
        return self.name in (INVOKE, FETCH)


# The paths are documented by the vendor (docs/contract.md). `*` is one segment, an id.
_OPERATIONS = {
    "POST /": INVOKE,
    "GET /": "dynamiq.connect",
    "POST /v1/runs": INVOKE,
    "GET /v1/runs": "dynamiq.runs.list",
    "GET /v1/runs/*": "dynamiq.runs.get",
    "GET /v1/runs/*/events": "dynamiq.runs.events",
    "GET /v1/runs/*/stream": FETCH,
    "POST /v1/runs/*/cancel": "dynamiq.runs.cancel",
    "POST /v1/runs/*/input": "dynamiq.runs.answer",
    "POST /v1/files": "dynamiq.files.upload",
    "GET /v1/apps": "dynamiq.apps.list",
    "GET /v1/apps/*": "dynamiq.apps.get",
    "GET /apps": "dynamiq.flowy.apps.list",
    "GET /apps/*": "dynamiq.flowy.apps.get",
    "POST /apps/*/runs": "dynamiq.flowy.runs.start",
    "GET /runs/*": "dynamiq.flowy.runs.get",
}
_BY_SHAPE = {
    (method, tuple(path.strip("/").split("/"))): Operation(name, path)
    for key, name in _OPERATIONS.items()
    for method, path in [key.split(" ")]
}
_OTHER = Operation("dynamiq.request")


def operation_of(method: str, path: str) -> Operation:
    """The operation of a request.

    Args:
        path: the path after the base URL, without a query.
    """
    parts = tuple(path.strip("/").split("/"))
    for (wanted, shape), operation in _BY_SHAPE.items():
        same = wanted == method and len(shape) == len(parts)
        if same and all(a in ("*", b) for a, b in zip(shape, parts, strict=True)):
            return operation
    return _OTHER
