"""A workflow run directly, by the library alone: what the emulator has to agree with."""

from __future__ import annotations

import json
from queue import Queue
from threading import Event, Thread
from typing import Any

from dynamiq.callbacks.streaming import StreamingIteratorCallbackHandler
from dynamiq.runnables import RunnableConfig
from dynamiq.types.streaming import StreamingConfig

VOLATILE = ("run_id", "wf_run_id", "tool_run_id", "timestamp", "request_id", "created", "id")


def run_directly(
    workflow: Any,
    input: dict[str, Any],
    answers: dict[str, dict[str, Any]] | None = None,
    *,
    cancel_after: float | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run it to its end. Returns its messages, and its result.

    Args:
        answers: the data of the answer for each node that asks, by the node's id.
        cancel_after: seconds after which the run is canceled.
    """
    handler = StreamingIteratorCallbackHandler(Queue(), Event())
    config = RunnableConfig(callbacks=[handler])
    queues = {node: _open(workflow, node) for node in answers or {}}
    results: list[Any] = []
    thread = Thread(target=lambda: results.append(workflow.run_sync(input, config)), daemon=True)
    thread.start()
    if cancel_after is not None:
        Event().wait(cancel_after)
        config.cancellation.token.cancel()
    messages = []
    for event in handler:
        message = json.loads(event.to_json())
        messages.append(message)
        data = message["data"]
        if isinstance(data, dict) and (data.get("action") == "ask" or "template" in data):
            node = message["entity_id"]
            said = dict((answers or {})[node])
            if data.get("request_id"):
                said["request_id"] = data["request_id"]
            reply = {name: message[name] for name in ("wf_run_id", "entity_id", "event")}
            queues[node].put(json.dumps({**reply, "data": said}))
        if (message["source"] or {}).get("type") == "dynamiq.workflows.Workflow":
            break
    thread.join(30)
    return messages, json.loads(json.dumps(results[0].to_dict(), default=str))


def _open(workflow: Any, node_id: str) -> Queue[str]:
    queue: Queue[str] = Queue()
    [node] = [node for node in workflow.flow.nodes if node.id == node_id]
    given = node.streaming.model_dump(exclude={"input_queue", "input_queue_done_event"})
    node.streaming = StreamingConfig(**given, input_queue=queue)
    return queue


def steady(value: Any) -> Any:
    """A value without what is another in each run."""
    if isinstance(value, dict):
        return {name: steady(inner) for name, inner in value.items() if name not in VOLATILE}
    if isinstance(value, list):
        return [steady(inner) for inner in value]
    return value


def by_node(messages: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The messages of each node, in order: those of different nodes may come in any."""
    found: dict[str, list[Any]] = {}
    for message in messages:
        found.setdefault(str(message["entity_id"]), []).append(steady(message))
    return found
