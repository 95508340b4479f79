"""`AsyncApp.tool`: a function for an agent, which runs the App.

Agent frameworks read a tool from a function's name, signature, annotations and docstring. No
framework is imported, and none is needed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dynamiq_async import _json, errors
from dynamiq_async._http.request_options import SendingOptions
from dynamiq_async._http.status import Outcome, meaning_of
from dynamiq_async.events import RunEvent
from dynamiq_async.options import OnLeave, check_one_of
from dynamiq_async.runs.questions import OnQuestion, QuestionEvent
from dynamiq_async.tools.parameters import Inputs, docstring, inputs_of
from dynamiq_async.tools.types import holds_struct, portable

if TYPE_CHECKING:
    from uuid import UUID

    from dynamiq_async.runs.stream import RunStream

OnEvent = Callable[[RunEvent], Awaitable[None] | None]
"""A function that gets the events of a tool's run. It may be a coroutine function."""

Tool = Callable[..., Coroutine[Any, Any, Any]]

# The tool names that models' APIs accept.
_NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"


class ToolOptions(SendingOptions, total=False):
    """The arguments of `AsyncApp.tool` that do not change the type it returns."""

    user_id: str | None
    session_id: str | UUID | None
    mode: Literal["invoke", "run"]
    on_event: OnEvent | None
    on_question: OnQuestion | None
    on_leave: OnLeave
    on_error: Literal["raise", "return"]


class Calls(NamedTuple):
    """The two ways to call an App: `app.invoke` and `app.runs.stream`."""

    invoke: Callable[..., Awaitable[Any]]
    stream: Callable[..., RunStream[Any]]


def make_tool(
    calls: Calls,
    name: str,
    description: str,
    *,
    input: Any,
    output: Any = str,
    mode: Literal["invoke", "run"] = "invoke",
    on_event: OnEvent | None = None,
    on_question: OnQuestion | None = None,
    on_leave: OnLeave = "detach",
    on_error: Literal["raise", "return"] = "raise",
    **options: Any,
) -> Tool:
    """`AsyncApp.tool`; see there."""
    _check(name, output, mode, on_error, on_leave=on_leave, on_event=on_event, asks=on_question)
    inputs = inputs_of(input)
    given = {key: value for key, value in options.items() if value is not None or key == "timeout"}
    if mode == "run":
        following = _Following(calls.stream, output, on_event, on_question, on_leave, given)
        call: Callable[[Any], Awaitable[Any]] = following
    else:
        call = _Invoking(calls.invoke, output, given)
    signature = inspect.Signature(
        inputs.parameters(), return_annotation=Any if holds_struct(output) else portable(output)
    )

    async def tool(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs).arguments
        try:
            return await call(inputs.value(bound))
        except errors.DynamiqError as error:
            told = _told(name, error)
            if on_error == "return":
                return told.message
            raise told from error

    _dress(tool, name, description, inputs, signature)
    return tool


def check_name(name: object) -> None:
    """Raise InvalidArgumentError unless models accept this name for a tool."""
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        raise errors.InvalidArgumentError(
            "name must be a letter and then letters, digits, _ or -, 64 at most, as the interfaces "
            f"of models take it, not {name!r}",
            argument="name",
        )


def _check(
    name: str,
    output: Any,
    mode: str,
    on_error: str,
    *,
    on_leave: str,
    on_event: object,
    asks: object,
) -> None:
    check_name(name)
    check_one_of(mode, ("invoke", "run"), "mode")
    check_one_of(on_error, ("raise", "return"), "on_error")
    check_one_of(on_leave, ("detach", "cancel"), "on_leave")
    _json.check_type(output, "output")
    if on_error == "return" and output is not str:
        raise errors.InvalidArgumentError(
            "an error can be returned as a text only, so on_error='return' needs output=str",
            argument="on_error",
        )
    unused = {
        "on_event": on_event,
        "on_question": asks,
        "on_leave": None if on_leave == "detach" else on_leave,
    }
    for argument, value in unused.items():
        if mode == "invoke" and value is not None:
            raise errors.InvalidArgumentError(
                f"{argument} has no meaning in mode 'invoke', whose calls have no runs: use "
                "mode='run'",
                argument=argument,
            )


def _dress(
    tool: Any, name: str, description: str, inputs: Inputs, signature: inspect.Signature
) -> None:
    """Set the attributes of a function that frameworks read."""
    tool.__name__ = tool.__qualname__ = name
    tool.__doc__ = docstring(description, inputs.fields)
    tool.__signature__ = signature
    tool.__annotations__ = {
        **{field.name: field.annotation for field in inputs.fields},
        "return": signature.return_annotation,
    }


class _Invoking:
    """A tool's call in mode `invoke`."""

    def __init__(
        self, invoke: Callable[..., Awaitable[Any]], output: Any, given: dict[str, Any]
    ) -> None:
        self._invoke = invoke
        self._output = output
        self._given = given

    async def __call__(self, value: Any) -> Any:
        wanted = Any if self._output is str else self._output
        found = await self._invoke(value, output_type=wanted, **self._given)
        return text_of_output(found) if self._output is str else found


class _Following:
    """A tool's call in mode `run`."""

    def __init__(
        self,
        stream: Callable[..., RunStream[Any]],
        output: Any,
        on_event: OnEvent | None,
        on_question: OnQuestion | None,
        on_leave: OnLeave,
        given: dict[str, Any],
    ) -> None:
        self._stream = stream
        self._output = output
        self._on_event = on_event
        self._asks = on_question is not None
        self._given = {
            **given,
            "on_question": on_question,
            "on_leave": on_leave,
            # With a session of its own, a run whose create response was lost is found again.
            "dedupe": "session_id" not in given,
        }

    async def __call__(self, value: Any) -> Any:
        wanted = Any if self._output is str else self._output
        async with self._stream(value, output_type=wanted, **self._given) as stream:
            async for event in stream:
                if isinstance(event, QuestionEvent) and not self._asks:
                    raise errors.QuestionError(
                        f"run {stream.run_id} asks a person: {event.question.prompt!r}; "
                        "on_question is what answers",
                        run_id=stream.run_id,
                    )
                if self._on_event is not None:
                    done = self._on_event(event)
                    if inspect.isawaitable(done):
                        await done
            found = await stream.output()
        return text_of_output(found) if self._output is str else found


def text_of_output(output: Any) -> str:
    """An App's output as a text: the output if it is a text, else its field `output` if that is
    a text, else the output as JSON."""
    if isinstance(output, str):
        return output
    if isinstance(output, dict) and isinstance(found := output.get("output"), str):
        return found
    return bytes(_json.dumped(output)).decode()


_SAFE = "Nothing was run, so trying again later is safe."
_FIX = "Nothing was run: correct the input and try again."
_USELESS = "Trying again will not help."
_UNSAFE = "It may have run all the same, so do not try again unless running it twice does no harm."
_ANEW = "It did run, so trying again would run it a second time."

# The first class that matches decides.
_TOLD: tuple[tuple[type[errors.DynamiqError], str, str], ...] = (
    (errors.RunFailedError, "ran and failed", _ANEW),
    (errors.RunCanceledError, "was canceled while it ran", _ANEW),
    (errors.QuestionError, "asked a person, and there is nobody here to answer", _USELESS),
    (errors.PoolTimeoutError, "was not called, because too much is going on", _SAFE),
    (errors.RateLimitError, "takes no more requests now", _SAFE),
    (errors.PayloadTooLargeError, "was not called, because the input is too large", _FIX),
    (errors.BadRequestError, "did not accept the input", _FIX),
    (errors.UnprocessableEntityError, "did not accept the input", _FIX),
    (errors.AuthenticationError, "cannot be called from here", _USELESS),
    (errors.PaymentRequiredError, "cannot be called now", _USELESS),
    (errors.PermissionDeniedError, "cannot be called from here", _USELESS),
    (errors.NotFoundError, "was not found", _USELESS),
    (errors.GoneError, "was not found", _USELESS),
    (errors.ClientClosedError, "cannot be called any more", _USELESS),
    (errors.APIResponseError, "gave an answer that cannot be used", _ANEW),
    (errors.OutputMissingError, "gave no answer", _ANEW),
)

_RETRY: dict[str, Literal["safe", "unsafe", "useless"]] = {
    _SAFE: "safe",
    _FIX: "safe",
    _USELESS: "useless",
    _UNSAFE: "unsafe",
    _ANEW: "unsafe",
}


def error_text(error: errors.DynamiqError) -> tuple[str, str]:
    """An error as texts for a model: what happened, to follow the tool's name, and whether trying
    again is safe. No text comes from a server."""
    if isinstance(error, errors.InvalidArgumentError):
        return f"was not called: {error.message}", _FIX
    for kind, what, advice in _TOLD:
        if isinstance(error, kind):
            return what, advice
    taken = meaning_of(error).outcome is not Outcome.NOT_TAKEN
    if isinstance(error, errors.APITimeoutError):
        return "did not answer in time", _UNSAFE if taken else _SAFE
    if not taken:
        return "cannot be reached", _SAFE
    return "gave no proper answer", _UNSAFE


def _told(name: str, error: errors.DynamiqError) -> errors.ToolError:
    what, advice = error_text(error)
    return errors.ToolError(
        f"{name} {what}. {advice}",
        retry=_RETRY[advice],
        run_id=error.run_id,
        retry_after=error.retry_after,
    )
