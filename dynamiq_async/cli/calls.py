"""The commands that run an App by its root endpoint: `invoke`, `stream`, `submit`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import mutually_exclusive

from dynamiq_async.cli import inputs, live, output
from dynamiq_async.cli.options import (
    DEFAULT_CALL,
    DEFAULT_CONNECTION,
    DEFAULT_NODES,
    OUTPUT,
    Call,
    Connection,
    Input,
    NodeOptions,
)
from dynamiq_async.streaming.app_stream import FinalEvent
from dynamiq_async.submission import Callback

if TYPE_CHECKING:
    from dynamiq_async.submission import Accepted

_FORMAT = Group("Format", show=False, validator=mutually_exclusive)


def invoke(
    input: Input,
    /,
    *,
    call: Call = DEFAULT_CALL,
    nodes: NodeOptions = DEFAULT_NODES,
    connection: Connection = DEFAULT_CONNECTION,
) -> None:
    """Run the App, wait for its answer and print it.

    The answer is JSON: indented on a terminal, on one line anywhere else.

    ```
    dynamiq-async invoke '{"question": "What can you do?"}'
    dynamiq-async invoke @input.json --file invoice.pdf --timeout 120
    echo '{"question": "Hi"}' | dynamiq-async invoke - | jq .output
    ```
    """
    output.check()
    value = inputs.read_json(input)
    arguments = call.arguments() | nodes.arguments()

    async def call_app() -> Any:
        async with connection.open() as app:
            with output.waiting_for(app.url):
                return await app.invoke(value, **arguments)

    output.print_json(asyncio.run(call_app()))


def stream(
    input: Input,
    /,
    *,
    text: Annotated[
        bool,
        Parameter(group=(OUTPUT, _FORMAT), help="Only the answer's text, also on a terminal."),
    ] = False,
    json: Annotated[
        bool,
        Parameter(group=(OUTPUT, _FORMAT), help="One event's JSON a line, also on a terminal."),
    ] = False,
    event: Annotated[
        str | None,
        Parameter(group=OUTPUT, help="Only events of this configured name, and the final one."),
    ] = None,
    node: Annotated[
        str | None,
        Parameter(group=OUTPUT, help="Only events of the node with this id, and the final one."),
    ] = None,
    final_event: Annotated[
        FinalEvent,
        Parameter(
            help="Whether a stream that ends without the workflow's final event is an error. "
            "auto takes one that is whole by HTTP's framing, with a warning. [default: auto]"
        ),
    ] = "auto",
    call: Call = DEFAULT_CALL,
    nodes: NodeOptions = DEFAULT_NODES,
    connection: Connection = DEFAULT_CONNECTION,
) -> None:
    """Run the App and print its answer as it arrives.

    On a terminal: the answer's text, an agent's reasoning (dimmed) and its tool calls. Anywhere
    else: JSON lines, one event a line. If the stream breaks off, that is an error.

    ```
    dynamiq-async stream '{"question": "What can you do?"}'
    dynamiq-async stream @input.json --text > answer.txt
    dynamiq-async stream @input.json | jq -c .source.name
    ```
    """
    output.check()
    value = inputs.read_json(input)
    arguments = call.arguments() | nodes.arguments()
    view: live.View
    if text:
        view = live.PlainText()
    elif json or not output.is_terminal():
        view = live.JSONLines()
    else:
        view = live.LiveView(output.console())

    async def follow() -> None:
        async with connection.open() as app:
            events = app.stream(value, event=event, final_event=final_event, **arguments)
            with output.waiting_for(app.url):
                await events.open()
            async with events:
                try:
                    async for one in events:
                        if node is None or one.entity_id == node or one.is_final:
                            view.show(one)
                            await output.drain()
                finally:
                    view.end()
                events.raise_for_failure()

    asyncio.run(follow())


def submit(
    input: Input,
    /,
    *,
    callback: Annotated[
        tuple[str, ...],
        Parameter(help="Where to post the result: a public HTTPS URL. May be repeated."),
    ],
    callback_token_env: Annotated[
        str | None,
        Parameter(
            help="The environment variable that holds a token, which the callback brings along "
            "as `Authorization: Bearer`."
        ),
    ] = None,
    callback_metadata: Annotated[
        str | None,
        Parameter(help="A JSON object, `@FILE` or `-`, which the callback brings along."),
    ] = None,
    json: Annotated[bool, Parameter(group=OUTPUT, help="Print the whole answer as JSON.")] = False,
    call: Call = DEFAULT_CALL,
    connection: Connection = DEFAULT_CONNECTION,
) -> None:
    """Start the App, print the accepted id and return at once.

    The result is posted to the callbacks when the App is done.

    ```
    dynamiq-async submit '{"topic": "sales"}' --callback https://example.com/done
    dynamiq-async submit @input.json --callback https://example.com/done \\
        --callback-token-env CALLBACK_TOKEN
    ```
    """
    output.check()
    value = inputs.read_json(input)
    token = metadata = None
    if callback_token_env is not None:
        token = inputs.read_variable(callback_token_env, "callback_token_env")
    if callback_metadata is not None:
        metadata = inputs.read_json(callback_metadata, "callback_metadata")
    callbacks = [Callback(url, token, metadata) for url in callback]

    async def start_app() -> Accepted:
        async with connection.open() as app:
            return await app.submit(value, callbacks=callbacks, **call.arguments())

    accepted = asyncio.run(start_app())
    if json:
        output.print_json(accepted)
    else:
        output.write_line(accepted.id)
