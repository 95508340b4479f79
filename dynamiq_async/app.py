"""`AsyncApp`: one deployed App, called over HTTP.

The wire facts and their sources are in docs/contract.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from dynamiq_async import errors
from dynamiq_async._credentials import ACCESS_KEY, hidden
from dynamiq_async._http.bodies import root_body
from dynamiq_async._http.client import ClientOptions
from dynamiq_async._http.limiter import Limiter
from dynamiq_async._http.request_options import (
    UNSET,
    RequestOptions,
    SendingOptions,
    TimeoutLike,
)
from dynamiq_async._http.response import OnFailure, decode_output
from dynamiq_async._json import check_type
from dynamiq_async.batch import Batching
from dynamiq_async.files import Files
from dynamiq_async.options import check_count, check_one_of, check_seconds
from dynamiq_async.requirements import Requirements
from dynamiq_async.runs.runs import Runs
from dynamiq_async.streaming.app_stream import AppStream, FinalEvent, FinalEvents
from dynamiq_async.streaming.event_reader import OnBadEvent
from dynamiq_async.submission import Accepted, Callback, callback_objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynamiq_async.tools.tool import Tool, ToolOptions
    from dynamiq_async.websocket import AppSocket
    from dynamiq_async.websocket.protocol import SocketProtocol


T = TypeVar("T")

KEY_VARIABLE = ACCESS_KEY.variable
URL_VARIABLE = "DYNAMIQ_APP_URL"  # our own


class AppOptions(ClientOptions, total=False):
    """The arguments of `AsyncApp` except its host."""

    access_key: str | Literal[False] | None
    max_streams: int
    final_event: FinalEvent


class _WorkflowOptions(SendingOptions, total=False):
    """The arguments that `invoke` and `stream` share, and that do not change what they return."""

    files: Any
    user_id: str | None
    session_id: str | None
    last_node_output: bool | None
    error_on_node_failure: bool | None
    retry: bool | None


class _InvokeOptions(_WorkflowOptions, total=False):
    """The arguments of `invoke` that do not change the type it returns."""

    on_failure: OnFailure


class _StreamOptions(_WorkflowOptions, total=False):
    """The arguments of `stream` that do not change the type it returns."""

    event: str | None
    on_bad_event: OnBadEvent
    final_event: FinalEvent | None


class AsyncApp(Batching):
    """A deployed App.

    Use it as `async with AsyncApp(...) as app:`, or call `aclose()` when done. One instance serves
    any number of tasks; it keeps one pool of connections for each event loop it is used in.

    Args:
        host_or_url: the App's hostname or URL; by default from `DYNAMIQ_APP_URL`. `https` is
            assumed; `http` is for loopback, or anywhere with `allow_http`. A path is kept as
            a prefix.
        access_key: by default from `DYNAMIQ_ACCESS_KEY`; False sends none, for a public App.
        final_event: whether a stream that ends without the workflow's final event is an error.
            "required": always. "auto": once any stream of this client or of its views has shown
            a final event; until then, the first stream without one is logged as a warning.
            "optional": never, as long as the body is complete by HTTP's framing. A stream without
            any event is always an error. We infer that the platform sends the final event, because
            the vendor's chat widget needs it.
        timeout: a `Timeout`, or seconds for the whole of each call, or None for no limit.
        max_retries: how often a request is sent again. Only a request that the server certainly
            did not take, or that does no harm when repeated, is sent again.
        headers: sent with every request.
        max_connections: how many requests may run at once. Further requests wait for one to end;
            a wait of 5 s is logged as a warning. Streams and WebSockets are counted separately.
            Cancelling, answering and `runs.get` do not wait. A batch with a higher concurrency
            replaces this limit.
        max_streams: how many streams may be open at once. Further streams wait in the same way.
        max_response_bytes: the largest response accepted, in bytes.
        max_event_bytes: the largest event of a stream accepted, in bytes.
        max_retry_after: seconds; when a server asks to wait longer, the call raises at once. None
            waits however long the server says.
        transport: what speaks HTTP. "direct" uses aiohttp's connections; "session" uses its
            `ClientSession`, which a session of your own and a proxy need. None chooses "direct"
            where that is possible, except while `ClientSession` is patched, as mocks and tracing
            agents do. Or a transport of your own, as `dynamiq_async.transport` describes: it is
            used as it is, you close it, and none of the next four arguments may be given with it.
        session: your own `aiohttp.ClientSession`. It is used as it is, and you close it.
        verify: a file or folder of CA certificates, or an `ssl.SSLContext`; by default the
            system's certificates.
        proxy: the URL of an HTTP proxy. `http` is assumed where it has no scheme.
        trust_env: take the proxy from `HTTPS_PROXY` or `HTTP_PROXY`, else from `ALL_PROXY`, except
            for the hosts, addresses and networks in `NO_PROXY`. Variables in lower case win. SOCKS
            is not supported.
        allow_http: send the key over plain http to other machines too.
        open_telemetry: whether calls become spans and metrics, in a program that has configured
            OpenTelemetry. By default True, unless `DYNAMIQ_OPEN_TELEMETRY` is `false`. Inputs and
            outputs are never recorded. `traceparent` and `tracestate` are sent to the App's host
            only. A mapping may set `baggage` (True sends that header too), `agent_name` (the App's
            name in spans; by default its host), `tracer_provider` and `meter_provider`.

    Raises:
        InvalidArgumentError: an argument cannot be used; `argument` names it.
    """

    _url_argument = "host_or_url"
    _propagates = True

    def __init__(
        self,
        host_or_url: str | None = None,
        *,
        access_key: str | Literal[False] | None = None,
        final_event: FinalEvent = "auto",
        max_streams: int = 1000,
        **options: Unpack[ClientOptions],
    ) -> None:
        access_key = hidden(access_key)
        url = host_or_url if host_or_url is not None else os.environ.get(URL_VARIABLE)
        if not url:
            raise errors.InvalidArgumentError(
                f"no App: pass its host or URL, or set {URL_VARIABLE}", argument="host_or_url"
            )
        self._final_events = FinalEvents(final_event)
        limiter = Limiter(
            check_count(options.get("max_connections", 100), "max_connections"),
            max_streams=check_count(max_streams, "max_streams"),
        )
        super().__init__(url, access_key, limiter=limiter, **options)
        self._settings |= {"final_event": final_event, "max_streams": max_streams}

    @property
    def runs(self) -> Runs:
        """The App's runs."""
        return Runs(self._api)

    @property
    def files(self) -> Files:
        """The App's files."""
        return Files(self._api)

    @property
    def requirements(self) -> Requirements:
        """The accounts that the App's end users have to connect."""
        return Requirements(self._api)

    @overload
    async def invoke(
        self, input: Any, *, output_type: type[T], **options: Unpack[_InvokeOptions]
    ) -> T: ...
    @overload
    async def invoke(
        self, input: Any, *, output_type: Any, **options: Unpack[_InvokeOptions]
    ) -> Any: ...
    @overload
    async def invoke(self, input: Any, **options: Unpack[_InvokeOptions]) -> Any: ...
    async def invoke(
        self,
        input: Any,
        *,
        output_type: Any = Any,
        on_failure: OnFailure = "raise",
        files: Any = None,
        user_id: str | None = None,
        session_id: str | None = None,
        last_node_output: bool | None = None,
        error_on_node_failure: bool | None = None,
        retry: bool | None = None,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the App and wait for its response.

        Args:
            input: the fields of the workflow's Input node: a mapping, msgspec Struct, dataclass
                or pydantic model.
            output_type: what to decode the response to; any type that msgspec knows.
            on_failure: what to do when the body says that the workflow failed: "raise" an error,
                or "return" the body like any other.
            files: one or several paths, bytes, binary file objects, async iterables of bytes,
                `(name, content)` tuples or `Upload`s. The request is then multipart, as the
                vendor's chat widget sends it.
            user_id, session_id: the user and the conversation that the call belongs to.
            last_node_output: return the last node's output only (the field is documented, its
                effect is our guess).
            error_on_node_failure: a failed node makes the call fail (the field is documented, its
                effect is our guess).
            retry: True declares the call safe to run twice, so that it is repeated even when its
                outcome is unknown; False forbids any repetition.
            timeout, max_retries: for this call instead of the client's.
            extra_body, extra_headers, extra_query: added to the request, for anything that has no
                argument here.

        Returns:
            The body, decoded. Its shape is up to the workflow (any JSON value).

        Raises:
            InvalidArgumentError: an argument cannot be used; nothing was sent.
            APIStatusError: the response is not a 2xx; the subclass tells which status it has.
            AmbiguousOutcomeError: the request was sent and its outcome is unknown.
            APIConnectionError, APITimeoutError: the connection failed, or a limit passed.
            RunFailedError, RunCanceledError: the body reports that the run failed or was canceled.
            APIResponseError: the response is not JSON, is too large or does not fit `output_type`.
        """
        check_type(output_type)
        check_one_of(on_failure, ("raise", "return"), "on_failure")
        given = RequestOptions(timeout, max_retries, retry, extra_headers, extra_query)
        body = root_body(
            input,
            files=files,
            user_id=user_id,
            session_id=session_id,
            last_node_output=last_node_output,
            error_on_node_failure=error_on_node_failure,
            extra_body=extra_body,
        )
        request = self._api.request("POST", "", body=body, given=given)
        sender, options = self._api.sender, self._api.options.for_call(given)
        with sender.telemetry.calling(request):
            response = await sender.fetch(request, options)
            return await decode_output(
                request, response, output_type, key=sender.key, on_failure=on_failure
            )

    @overload
    def stream(
        self, input: Any, *, output_type: type[T], **options: Unpack[_StreamOptions]
    ) -> AppStream[T]: ...
    @overload
    def stream(
        self, input: Any, *, output_type: Any, **options: Unpack[_StreamOptions]
    ) -> AppStream[Any]: ...
    @overload
    def stream(self, input: Any, **options: Unpack[_StreamOptions]) -> AppStream[Any]: ...
    def stream(
        self,
        input: Any,
        *,
        output_type: Any = Any,
        event: str | None = None,
        on_bad_event: OnBadEvent = "raise",
        final_event: FinalEvent | None = None,
        files: Any = None,
        user_id: str | None = None,
        session_id: str | None = None,
        last_node_output: bool | None = None,
        error_on_node_failure: bool | None = None,
        retry: bool | None = None,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
    ) -> AppStream[Any]:
        """Run the App and read its events as they arrive.

        The request is sent with the first read, or on entering `async with`. Iterating raises what
        `invoke` raises, and also: StreamInterruptedError when the stream breaks off,
        IdleTimeoutError, EventDecodeError, EventTooLargeError, and StreamClosedError when another
        task closes the stream.

        Args:
            output_type: what the stream's `output()` is decoded to: any type that msgspec knows.
            event: only events of this configured name (and the final one).
            on_bad_event: "raise" for an event that is not JSON, or "pass" to get it as
                a `BrokenEvent`.
            final_event: for this stream instead of the client's.

        The other arguments are those of `invoke`.

        Raises:
            InvalidArgumentError: an argument cannot be used.
        """
        given = RequestOptions(timeout, max_retries, retry, extra_headers, extra_query)
        body = root_body(
            input,
            files=files,
            stream=True,
            user_id=user_id,
            session_id=session_id,
            last_node_output=last_node_output,
            error_on_node_failure=error_on_node_failure,
            extra_body=extra_body,
        )
        return AppStream(
            self._api.sender,
            self._api.request("POST", "", body=body, stream=True, given=given),
            self._api.options.for_call(given),
            event=event,
            on_bad_event=on_bad_event,
            final_event=final_event,
            final_events=self._final_events,
            max_event_bytes=self._api.max_event_bytes,
            output_type=output_type,
        )

    @overload
    def tool(
        self,
        name: str,
        description: str,
        *,
        input: Any,
        output: type[T],
        **options: Unpack[ToolOptions],
    ) -> Callable[..., Coroutine[Any, Any, T]]: ...
    @overload
    def tool(
        self,
        name: str,
        description: str,
        *,
        input: Any,
        output: Any,
        **options: Unpack[ToolOptions],
    ) -> Tool: ...
    @overload
    def tool(
        self, name: str, description: str, *, input: Any, **options: Unpack[ToolOptions]
    ) -> Callable[..., Coroutine[Any, Any, str]]: ...
    def tool(
        self, name: str, description: str, *, input: Any, output: Any = str, **options: Any
    ) -> Tool:
        """The App as a tool for an agent: a coroutine function. Its signature and docstring
        describe its parameters in the form that pydantic-ai, openai-agents, LangChain, anthropic,
        google-genai and mcp read.

        Args:
            name: the name by which the model calls the tool.
            description: the description that the model reads.
            input: the fields of the workflow's Input node, which become the parameters:
                a TypedDict, msgspec Struct, dataclass, pydantic model or a mapping of names to
                types. Descriptions of fields (`msgspec.Meta`, pydantic's `Field`, a text in
                `Annotated`) go into the docstring. Arguments that do not fit are not sent.
            output: `str` returns the App's output if that is a text, else its field `output` if
                that is a text, else the output as JSON. Any other type: the output is decoded to
                it. Frameworks built on pydantic cannot encode a Struct: for them, use a dataclass
                or a pydantic model.
            mode: "invoke" waits for the response. "run" starts a run and follows it. Only then do
                `on_event`, `on_question` and `on_leave` have an effect, and only then is the call
                continued after a lost connection.
            on_event: called with each `RunEvent`, to see the reasoning and the tool calls behind
                the answer. An async function is awaited.
            on_question: as for `runs.stream`. Without it, a question ends the call.
            on_leave: as for `runs.stream`: "cancel" cancels the run when the call is cancelled or
                times out.
            on_error: "raise" a `ToolError`; or "return" its message, for frameworks that end the
                agent's run when a tool raises (pydantic-ai, LangChain).
            user_id, session_id, timeout, max_retries, extra_body, extra_headers, extra_query: for
                each call, as for `invoke`.

        Returns:
            A coroutine function. It raises `ToolError`, whose message is for the model: it says
            whether trying again is safe, and repeats no text from a server. Its `__cause__` is what
            `invoke` or `runs.stream` raised.

        Raises:
            InvalidArgumentError: an argument cannot be used.
        """
        from dynamiq_async.tools.tool import Calls, make_tool  # few programs have tools

        calls = Calls(self.invoke, self.runs.stream)
        return make_tool(calls, name, description, input=input, output=output, **options)

    def connect(
        self,
        *,
        protocol: SocketProtocol | None = None,
        heartbeat: float | None = 20.0,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
    ) -> AppSocket:
        """A WebSocket to the App: one connection for runs one after another and for the answers to
        their questions.

        Experimental: the vendor documents that the App has a WebSocket, but its messages are our
        guess. The connection is made on entering `async with`, or with the first run.

        Args:
            protocol: the format of the messages, if your App's differs from our guess.
            heartbeat: seconds of silence after which the server is pinged. If no byte comes from it
                for as long again, the connection is given up. None: no pings.
            timeout: a `Timeout`, or seconds for the whole of the handshake and of each run.
            max_retries: for the handshake, which starts no run.
            extra_headers, extra_query: added to the handshake.

        Raises:
            InvalidArgumentError: an argument cannot be used.
            MissingExtraError: the extra `websocket` is not installed.
        """
        from dynamiq_async.websocket import AppSocket  # few programs have WebSockets
        from dynamiq_async.websocket.handshake import Handshake
        from dynamiq_async.websocket.protocol import SocketProtocol

        check_seconds(heartbeat, "heartbeat")
        given = RequestOptions(timeout, max_retries, None, extra_headers, extra_query)
        return AppSocket(
            self._api.sender,
            Handshake(self._api.request("GET", "", given=given)),
            self._api.options.for_call(given),
            protocol=protocol if protocol is not None else SocketProtocol(),
            heartbeat=heartbeat,
            max_event_bytes=self._api.max_event_bytes,
        )

    async def submit(
        self,
        input: Any,
        *,
        callbacks: Sequence[Callback] = (),
        files: Any = None,
        user_id: str | None = None,
        session_id: str | None = None,
        retry: bool | None = None,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
    ) -> Accepted:
        """Start the App and return at once. Its result is posted to the callbacks.

        Args:
            callbacks: at most five, at public HTTPS addresses (documented by the vendor). For an
                App on loopback, such as the emulator's, loopback addresses too.

        The other arguments are those of `invoke`.

        Raises what `invoke` raises.
        """
        given = RequestOptions(timeout, max_retries, retry, extra_headers, extra_query)
        body = root_body(
            input,
            files=files,
            execution_mode="async",
            callbacks=callback_objects(callbacks, app_url=self.url),
            user_id=user_id,
            session_id=session_id,
            extra_body=extra_body,
        )
        request = self._api.request("POST", "", body=body, given=given)
        return await self._api.fetch(request, self._api.options.for_call(given), Accepted)
