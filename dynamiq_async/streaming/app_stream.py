"""The stream of an App's root endpoint, and the promise that it never ends quietly.

It ends with the workflow's final event, or with a body that HTTP itself says is whole and that
cuts no event; anything else raises `StreamInterruptedError`. The final event decides, because the
vendor does not promise that the platform passes it on.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, TypeVar, overload

from msgspec import Raw, Struct

from dynamiq_async import _json, errors
from dynamiq_async._credentials import mask
from dynamiq_async._http.error_responses import beginning, stream_error
from dynamiq_async._http.timers import IdleWatch, deadline_in
from dynamiq_async.events.app_events import (
    ERROR_EVENT,
    WORKFLOW_TYPE,
    BrokenEvent,
    NodeResult,
    StreamEvent,
    stream_event,
)
from dynamiq_async.sse import SSEDecoder
from dynamiq_async.streaming.event_reader import EventReader, event_stream_info, read_event
from dynamiq_async.streaming.event_stream import Batches, EventStream, Source, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async._http.response import ResponseInfo
    from dynamiq_async._http.sender import Sender

__all__ = ["AppStream", "Batches", "EventStream", "TextStream", "WorkflowStream"]

T = TypeVar("T")

OnBadEvent = Literal["raise", "pass"]


class Batched(Source, Protocol):
    """Where a workflow's events come from, a list for each read."""

    async def batch(self) -> list[StreamEvent] | None:
        """The next events; None when no more come."""


class WorkflowStream(EventStream[StreamEvent]):
    """The events of one run of a workflow, however they come.

    Attributes:
        run_id: the workflow run's id, once an event has told it.
        final: the workflow's final event, once it has arrived.
    """

    _reader: Batched | None = None
    _advice = ""  # what to do when it is interrupted

    def __init__(self, sender: Sender, label: str, *, event: str | None) -> None:
        super().__init__(label)
        self._sender = sender
        self._key = sender.key
        self._event = event
        self.run_id: str | None = None
        self.final: StreamEvent | None = None

    def text(self, *, entity_id: str | None = None) -> TextStream:
        """The pieces of the answer meant for the reader, as they come.

        Args:
            entity_id: only the text of this node; texts of parallel nodes interleave otherwise.

        Iterating raises RunFailedError or RunCanceledError if the run ends so.
        """
        return TextStream(self, entity_id)

    @overload
    async def output(self, node: str | None = None) -> Any: ...
    @overload
    async def output(self, node: str | None = None, *, output_type: type[T]) -> T: ...
    async def output(self, node: str | None = None, *, output_type: Any = Any) -> Any:
        """Read to the end and return what the workflow's final event says.

        Args:
            node: the id of the node whose output is wanted; without it, the map of all nodes,
                `{node: {"status", "input", "output"}}`.
            output_type: what to decode it to; any type that msgspec knows.

        Raises:
            RunFailedError, RunCanceledError: the run, or the node asked for, ended so.
            OutputMissingError: the stream had no final event, or there is no such node.
            ResponseDecodeError: the output does not fit `output_type`.
        """
        _json.check_type(output_type)
        while self.final is None or not self.closed:
            if await self._take() is None:
                break
        final = self.final
        if final is None:
            raise errors.OutputMissingError(
                f"{self._label}: the stream ended properly, but without the workflow's final "
                "event, so there is no output to return",
                **self._known(),
            )
        self.raise_for_failure()
        if node is not None:
            return self._node_output(final, node, output_type)
        return self._decoded(final.raw_data, output_type, "the workflow's output")

    def raise_for_failure(self) -> None:
        """Raise if the final event has arrived and reports a failure or a cancellation.

        Raises:
            RunFailedError, RunCanceledError: so it ended.
            APIStatusError: an error took the final event's place, of the class it has over HTTP.
        """
        final = self.final
        if final is None or final.error is None:
            return
        if final.source is None:
            failure = stream_error(
                final.data, run_id=self.run_id, request=self._label, key=self._key
            )
            failure.request_id = self._known()["request_id"]
            raise failure
        kind = errors.RunCanceledError if final.canceled else errors.RunFailedError
        what = "was canceled" if final.canceled else "failed"
        raise kind(
            self._masked(f"{self._label}: the workflow {what}: {final.error_message}"),
            body=beginning(bytes(final.raw_data), self._key),
            **self._known(),
        )

    # What a subclass says.

    def _known(self) -> dict[str, Any]:
        """What an error of this stream carries."""
        raise NotImplementedError

    def _check_whole(self) -> None:
        """At the end of the events, without the final one: raise if some are missing."""
        raise NotImplementedError

    # What EventStream asks for.

    @property
    def _complete(self) -> bool:
        return self.final is not None or self._ended

    async def _next(self) -> list[StreamEvent] | None:
        reader = self._reader
        while self.final is None and reader is not None:
            try:
                batch = await reader.batch()
            except errors.DynamiqError as error:
                raise self._explained(error) from error.__cause__
            if batch is None:
                self._check_whole()
                return None
            if self.run_id is None:
                self.run_id = next((e.wf_run_id for e in batch if e.wf_run_id is not None), None)
            batch = self._up_to_final(batch)
            if self._event is not None:
                batch = [e for e in batch if e.event == self._event or e is self.final]
            if batch:
                return batch
        return None

    def _up_to_final(self, batch: list[StreamEvent]) -> list[StreamEvent]:
        # Written out rather than with `is_final`: this is looked at for every event.
        for event in batch:
            source = event.source
            if source.type == WORKFLOW_TYPE if source is not None else event.event == ERROR_EVENT:
                self.final = event
                return batch[: batch.index(event) + 1]
        return batch

    def _explained(self, error: errors.DynamiqError) -> errors.DynamiqError:
        """`error` with what this stream knows; a broken connection as what it means here."""
        if self._sender.closed and isinstance(error, errors.APIConnectionError):
            error = self._sender.closed_error(self._label)
        elif type(error) is errors.APIConnectionError:
            error = errors.StreamInterruptedError(f"{error.message}. {self._advice}")
        return error.add(**self._known())

    def _node_output(self, final: StreamEvent, node: str, output_type: Any) -> Any:
        nodes = self._decoded(final.raw_data, dict[str, _RawNode], "the workflow's output")
        result = nodes.get(node)
        if result is None:
            raise errors.OutputMissingError(
                self._masked(
                    f"{self._label}: the workflow has no node {node!r}; it has "
                    f"{', '.join(sorted(nodes)) or 'none'}"
                ),
                **self._known(),
            )
        if result.status in ("failure", "canceled"):
            kind = errors.RunCanceledError if result.status == "canceled" else errors.RunFailedError
            why = NodeResult(status=result.status, error=result.error).error_message
            raise kind(
                self._masked(f"{self._label}: node {node!r} ended in {result.status}: {why}"),
                **self._known(),
            )
        return self._decoded(result.output, output_type, f"the output of node {node!r}")

    def _decoded(self, raw: Raw, output_type: Any, what: str) -> Any:
        body = beginning(bytes(raw), self._key)
        known = {"body": body, **self._known()}
        return _json.decode_as(
            raw, output_type, f"{self._label}: {what}", masked=self._masked, **known
        )

    def _masked(self, text: str) -> str:
        return mask(text, self._key)


class AppStream(WorkflowStream):
    """The events of one streamed call, from `AsyncApp.stream`.

    Iterate it, or enter it with `async with` to send the request at once and to be sure that the
    connection is free afterwards. The workflow's final event is handed out like any other, then
    the iteration stops; `text()` and `output()` raise if it reports a failure.

    Attributes:
        response: status, headers, request id and attempts, once the headers have arrived.
        run_id: the workflow run's id, once an event has told it.
        final: the workflow's final event, once it has arrived.
    """

    _reader: EventReader[StreamEvent] | None = None
    _advice = (
        "The App may have run to its end all the same, and a stream of the root endpoint cannot be "
        "resumed; the streams of app.runs can"
    )

    def __init__(
        self,
        sender: Sender,
        request: Request,
        options: SendOptions,
        *,
        event: str | None,
        on_bad_event: OnBadEvent,
        max_event_bytes: int,
    ) -> None:
        super().__init__(sender, str(request), event=event)
        self._request = request
        self._options = options
        self._decoder = SSEDecoder(
            StreamEvent,
            max_event_bytes=max_event_bytes,
            recover=recovery(stream_event, on_bad_event, sender.key),
        )
        self.response: ResponseInfo | None = None

    async def answer(self, *_: Any, **__: Any) -> NoReturn:
        """Questions of a root stream cannot be answered over HTTP; this says what can be done.

        Raises:
            QuestionError: always.
        """
        raise errors.QuestionError(
            f"{self._label}: a question on this stream cannot be answered over HTTP. Start the "
            "workflow as a run (app.runs), whose questions can be, or over the App's WebSocket "
            "(app.connect)",
            **self._known(),
        )

    def _known(self) -> dict[str, Any]:
        info = self.response
        return {
            "run_id": self.run_id,
            "request_id": info.request_id if info is not None else None,
            "status": info.status if info is not None else None,
            "attempts": info.attempts if info is not None else None,
        }

    # What EventStream asks for.

    async def _open(self) -> None:
        timeout = self._options.timeout
        deadline = deadline_in(timeout.total)
        opened = await self._sender.open(self._request, self._options, deadline=deadline)
        try:
            self.response = await event_stream_info(opened, self._label, self._sender.key)
            watch = IdleWatch(
                opened,
                self._label,
                idle=timeout.idle,
                total=timeout.total,
                deadline=deadline,
            )
        except BaseException:
            opened.close()
            raise
        self._reader = EventReader(opened, self._decoder, watch)

    def _check_whole(self) -> None:
        reader = self._reader
        if reader is None or reader.whole:
            return
        if reader.decoder.pending:
            what = "in the middle of an event"
        else:
            what = "without the workflow's final event, and HTTP does not tell whether it was whole"
        raise errors.StreamInterruptedError(
            f"{self._label}: the stream ended {what}. {self._advice}", **self._known()
        )


class TextStream(View[str, StreamEvent]):
    """The reader's text of a stream, piece by piece; never empty, never an object."""

    _stream: WorkflowStream

    def __init__(self, stream: WorkflowStream, entity_id: str | None) -> None:
        super().__init__(stream)
        self._entity_id = entity_id

    async def __anext__(self) -> str:
        stream, wanted = self._stream, self._entity_id
        async for event in stream:
            if (wanted is None or event.entity_id == wanted) and (text := event.text):
                return text
        stream.raise_for_failure()
        raise StopAsyncIteration


class _RawNode(Struct):
    status: str
    output: Raw = Raw(b"null")
    error: Any = None


def recovery(
    read: Callable[[bytes], StreamEvent | None], on_bad_event: OnBadEvent, key: str | None
) -> Callable[[bytes, Exception], StreamEvent | None]:
    """What becomes of a message that is not as it should be: the event that `read` still finds in
    it, or what the caller wants for one that is broken.

    Raises:
        InvalidArgumentError: `on_bad_event` is not one of the two.
    """
    if on_bad_event not in ("raise", "pass"):
        raise errors.InvalidArgumentError(
            f"on_bad_event must be 'raise' or 'pass', not {on_bad_event!r}",
            argument="on_bad_event",
        )
    return partial(_pass_on, read) if on_bad_event == "pass" else partial(read_event, read, key)


def _pass_on(
    read: Callable[[bytes], StreamEvent | None], data: bytes, _: Exception
) -> StreamEvent | None:
    try:
        return read(data)
    except _json.DECODE_ERRORS:
        return BrokenEvent(raw_data=Raw(data))
