"""Whether and how a workflow failed, whichever way it was run.

Calls, runs, streams, batches, relays and callbacks ask `failure_of`, so that a failure is the same
everywhere. A failed node does not make the workflow failed: the library can be told to tolerate
it. The shapes were seen in the vendor's library (docs/contract.md).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from dynamiq_async import _json
from dynamiq_async._credentials import mask
from dynamiq_async.errors import RunCanceledError, RunError, RunFailedError

NO_REASON = "no reason given"

_ENDS = {"failed": False, "canceled": True}
_REASON = ("error", "message", "detail", "type")


class _Result(Struct):
    """The result of a whole workflow that failed or was canceled, as the library writes it."""

    status: Literal["failure", "canceled"]
    input: Any
    output: Any
    error: Any = None


class Failure(NamedTuple):
    """How a workflow failed.

    Attributes:
        canceled: whether it was canceled rather than failed.
        reason: why, as a sentence.
        cause: the `error` that the service sent, unchanged.
    """

    canceled: bool
    reason: str
    cause: Any = None

    def error(self, what: str, key: str | None = None, **known: Any) -> RunError:
        """The exception for it. Its message begins with `what`, and does not show `key`."""
        kind = RunCanceledError if self.canceled else RunFailedError
        message = f"{what} {'was canceled' if self.canceled else 'failed'}"
        if not (self.canceled and self.reason == NO_REASON):
            message += f": {self.reason}"
        return kind(mask(message, key), **known)


def failure_of(
    output: Any, *, status: str = "", error: Any = None, final: bool = False
) -> Failure | None:
    """How the workflow with this output failed; None if it did not fail.

    Args:
        output: a body, a run's output, or the data of a stream's last message.
        status: the run's status.
        error: the run's `error`.
        final: `output` is the data of a workflow's last message, which says `{"error": …}` or
            `{"canceled": true}` when it failed.
    """
    if status in _ENDS:
        return Failure(_ENDS[status], _reason(error, output), error)
    if not isinstance(output, dict):
        return None
    with suppress(msgspec.ValidationError):  # an output of another shape is the workflow's own
        return _failed_result(msgspec.convert(output, _Result))
    cause, canceled = output.get("error"), output.get("canceled") is True
    # A node may bear the id `error`, but its result is an object with a status.
    if final and (canceled or ("error" in output and not is_node(cause))):
        return Failure(canceled, _reason(cause, output, bare=True), cause)
    return None


def failure_in(body: _json.Buffer) -> Failure | None:
    """`failure_of` for the JSON of an output. Where nothing failed, it decodes nothing."""
    found = bytes(body)
    if b'"failure"' not in found and b'"canceled"' not in found:
        return None
    try:
        return _failed_result(_json.decode(found, _Result))
    except _json.DECODE_ERRORS:
        return None


def _failed_result(result: _Result) -> Failure:
    why = _reason(result.error, result.output, bare=True)
    return Failure(result.status == "canceled", why, result.error)


def is_node(value: Any) -> bool:
    """Whether a value in a workflow's map of nodes is a node's result."""
    return isinstance(value, dict) and isinstance(value.get("status"), str)


def failed_nodes(output: Any) -> dict[str, Any]:
    """The results of the failed nodes, by their ids, where `output` is a workflow's map of nodes,
    or an object with that map as its `output`."""
    if not isinstance(output, dict):
        return {}
    within = output.get("output")
    nodes = within if isinstance(within, dict) and not is_node(within) else output
    return {id: node for id, node in nodes.items() if is_node(node) and node["status"] == "failure"}


def sentence(reason: Any) -> str:
    """The sentence in a reason from a service, which is a text or an object that contains one;
    `""` where there is none."""
    while isinstance(reason, dict):
        reason = next((reason[key] for key in _REASON if reason.get(key)), None)
    return reason if isinstance(reason, str) else ""


def told(error: Any) -> str:
    """An `error` as a sentence, else as its `str`; `""` where there is no error."""
    return sentence(error) or ("" if error is None else str(error))


def _reason(error: Any, output: Any, *, bare: bool = False) -> str:
    """Why a workflow failed: the sentence in its error, else in a failed node's error, else in its
    output. With `bare`, an error without a sentence is shown as it is."""
    nodes = (told(node.get("error")) for node in failed_nodes(output).values())
    tried = (sentence(error), *nodes, sentence(output))
    shown = str(error) if bare and error and not isinstance(error, dict) else NO_REASON
    return next(filter(None, tried), shown)
