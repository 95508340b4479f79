"""The root endpoint: a POST runs the App and responds directly, as a stream, or by callbacks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.feed import Feed
from ..core.fields import Fields
from ..core.refusals import RefusalError
from .callbacks import Callback, deliver, parse_callbacks
from .invocations import Invocation, new_execution, run
from .outputs import last_output, sync_body
from .root_streaming import stream

if TYPE_CHECKING:
    from .execution import Execution
    from .state import AppExchange


# --- our guesses: the vendor documents none of this ----------------------------------------------

NODE_FAILURE_STATUS = 422
"""With `error_on_node_failure`: the status if the workflow or one of its nodes failed."""


def node_failure(execution: Execution) -> RefusalError:
    """The response with `error_on_node_failure` when the workflow or one of its nodes failed."""
    message = execution.error or "a node failed"
    return RefusalError(NODE_FAILURE_STATUS, "node_failure", message, execution.failed_nodes)


# -------------------------------------------------------------------------------------------------


class _Request(msgspec.Struct, kw_only=True):
    """What `POST /` asks for."""

    invocation: Invocation
    stream: bool
    asynchronous: bool
    callbacks: list[Callback]

    @classmethod
    def of(cls, exchange: AppExchange) -> _Request:
        """Raises `RefusalError` with a complaint for each bad field."""
        fields = Fields.of(exchange.record)
        invocation = Invocation.of(exchange, fields)
        mode = fields.get("execution_mode", str)
        asked = fields.get("callbacks", list)
        callbacks: list[Callback] = []
        if mode not in (None, "sync", "async"):
            fields.complaints.setdefault("execution_mode", "must be a valid value")
        if asked and mode != "async":
            fields.complaints.setdefault("callbacks", 'only with "execution_mode": "async"')
        elif asked:
            allow = exchange.state.settings.allow_loopback_callbacks
            callbacks, complaints = parse_callbacks(asked, allow_loopback=allow)
            fields.complaints.update(complaints)
        stream = fields.get("stream", bool) or False
        fields.check()
        return cls(
            invocation=invocation,
            stream=stream,
            asynchronous=mode == "async",
            callbacks=callbacks,
        )


async def invoke(exchange: AppExchange) -> None:
    """`POST /`."""
    request = _Request.of(exchange)
    invocation = request.invocation
    exchange.state.charge()
    if request.asynchronous:
        execution = new_execution(exchange, invocation)
        exchange.state.tasks.spawn(_run_for_callbacks(exchange, request, execution))
        await exchange.respond(202, {"id": execution.id, "status": "accepted"})
    elif request.stream:
        await stream(exchange, invocation)
    else:
        execution = new_execution(exchange, invocation)
        await run(exchange, invocation, execution, Feed(window=0))
        if invocation.error_on_node_failure and (execution.error or execution.failed_nodes):
            raise node_failure(execution)
        await exchange.respond(200, _sync_body(exchange, invocation, execution))


def _sync_body(exchange: AppExchange, invocation: Invocation, execution: Execution) -> Any:
    """The body of a response; for a failed or canceled workflow the library's whole result."""
    if execution.status != "success":
        return execution.failed_result()
    last = invocation.last_node_output
    output = last_output(execution.nodes or {}) if last else execution.output
    return sync_body(output, exchange.state.settings.outputs)


async def _run_for_callbacks(
    exchange: AppExchange, request: _Request, execution: Execution
) -> None:
    state = exchange.state
    await run(exchange, request.invocation, execution, Feed(window=0))
    trust = state.settings.callback_ssl
    for _ in range(state.settings.callback_deliveries):
        work = (deliver(callback, execution, trust) for callback in request.callbacks)
        for delivery in await asyncio.gather(*work):
            state.deliveries.add(delivery)
            state.changes.notify()
