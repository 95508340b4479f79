"""The base of the streams of workflows and of runs: text, usage, failure and output.

The events of both have the same properties, so this code is shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from msgspec import Raw, Struct

from dynamiq_async import _json, errors
from dynamiq_async._credentials import mask
from dynamiq_async._failures import told
from dynamiq_async._http.error_responses import beginning
from dynamiq_async.events import Event
from dynamiq_async.streaming.event_stream import EventStream, View

if TYPE_CHECKING:
    from dynamiq_async.events import Usage

E = TypeVar("E", bound=Event)
V = TypeVar("V")
if TYPE_CHECKING:
    import typing_extensions

    # So that `AppStream` alone is `AppStream[Any]`, as Python 3.13 can say itself.
    T_co = typing_extensions.TypeVar("T_co", covariant=True, default=Any)
else:
    T_co = TypeVar("T_co", covariant=True)


class _RawNode(Struct):
    status: str
    output: Raw = Raw(b"null")
    error: Any = None


class OutputStream(EventStream[E], Generic[E, T_co]):
    """A stream of events with an output at its end.

    Attributes:
        run_id: the run's id, once it is known.
        final: the final event, once it has arrived.
    """

    _whose = "the workflow's output"

    def __init__(self, label: str, key: str | None, output_type: Any) -> None:
        _json.check_type(output_type)
        super().__init__(label)
        self._key = key
        self._output_type = output_type
        self._usage: Usage | None = None
        self.run_id: str | None = None
        self.final: E | None = None

    @property
    def usage(self) -> Usage | None:
        """The tokens consumed, summed over the events so far; None while no event has any."""
        return self._usage

    def text(self, *, entity_id: str | None = None) -> TextStream:
        """The pieces of the answer meant for the reader, as they come.

        Args:
            entity_id: only the text of this node; texts of parallel nodes interleave otherwise.

        Iterating raises RunFailedError or RunCanceledError if the run failed or was canceled.
        """
        return TextStream(self, entity_id)

    @overload
    async def output(self, node: None = None) -> T_co: ...
    @overload
    async def output(self, node: str) -> Any: ...
    @overload
    async def output(self, node: str | None = None, *, output_type: type[V]) -> V: ...
    @overload
    async def output(self, node: str | None = None, *, output_type: Any) -> Any: ...
    async def output(self, node: str | None = None, *, output_type: Any = None) -> Any:
        """Read to the end and return the output.

        Args:
            node: the id of the node whose output is wanted, where the output is the map of nodes,
                `{node: {"status", "input", "output"}}`; without it, the whole output.
            output_type: what to decode it to, any type that msgspec knows. By default, the whole
                output has the type that the stream was asked for.

        Raises:
            RunFailedError, RunCanceledError: the run, or the given node, failed or was canceled.
            OutputMissingError: the stream had no final event, or there is no such node.
            ResponseDecodeError: the output does not fit `output_type`.
        """
        _json.check_type(output_type)
        await self._read_to_end()
        self.raise_for_failure()
        output = await self._raw_output()
        if node is not None:
            output, whose = self._output_of(node, output), f"the output of node {node!r}"
            return self._decoded(output, Any if output_type is None else output_type, whose)
        wanted = self._output_type if output_type is None else output_type
        return self._decoded(output, wanted, self._whose)

    def raise_for_failure(self) -> None:
        """Raise if the final event has arrived and reports a failure or a cancellation.

        Raises:
            RunFailedError, RunCanceledError: the run failed or was canceled.
            APIStatusError: an error took the final event's place, of the class it has over HTTP.
        """
        if self.final is not None and self.final.error is not None:
            raise self._failed(self.final)

    # What a subclass defines.

    def _known(self) -> dict[str, Any]:
        """The attributes that an error of this stream carries."""
        raise NotImplementedError

    def _failed(self, final: E) -> errors.DynamiqError:
        """The error for a final event that reports a failure."""
        raise NotImplementedError

    async def _raw_output(self) -> Raw:
        """The JSON of the output, once the stream was read to its end and nothing failed."""
        raise NotImplementedError

    # What EventStream requires.

    @property
    def _complete(self) -> bool:
        return self.final is not None or self._ended

    def _facts(self) -> dict[str, Any]:
        used = self._usage
        return {
            "RESPONSE_ID": self.run_id,
            "INPUT_TOKENS": None if used is None else used.prompt_tokens,
            "OUTPUT_TOKENS": None if used is None else used.completion_tokens,
        }

    def _outcome(self) -> BaseException | None:
        final = self.final
        return None if final is None or final.error is None else self._failed(final)

    # Inside.

    async def _read_to_end(self) -> None:
        while self.final is None or not self.closed:
            if await self._take() is None:
                return

    def _note_usage(self, event: E) -> None:
        """Add an event's usage, if it has any. Few events do, and searching the bytes is cheaper
        than decoding them."""
        # Searched from the end, where usage tends to be.
        if bytes(event.raw_data).rfind(b'"usage"') >= 0 and (told := event.usage) is not None:
            self._usage = told if self._usage is None else self._usage + told

    def _nodes(self, output: Raw) -> dict[str, _RawNode]:
        nodes: dict[str, _RawNode] = self._decoded(output, dict[str, _RawNode], self._whose)
        return nodes

    def _output_of(self, node: str, output: Raw) -> Raw:
        nodes = self._nodes(output)
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
            what = f"{self._label}: node {node!r} ended in {result.status}: {told(result.error)}"
            raise kind(self._masked(what), **self._known())
        return result.output

    def _decoded(self, raw: Raw, output_type: Any, what: str) -> Any:
        known = {"body": beginning(bytes(raw), self._key), **self._known()}
        return _json.decode_as(
            raw, output_type, f"{self._label}: {what}", masked=self._masked, **known
        )

    def _masked(self, text: str) -> str:
        return mask(text, self._key)


class TextStream(View[str, Any]):
    """The reader's text of a stream, piece by piece; never empty, never an object."""

    _stream: OutputStream[Any, Any]

    def __init__(self, stream: OutputStream[Any, Any], entity_id: str | None) -> None:
        super().__init__(stream)
        self._entity_id = entity_id

    async def __anext__(self) -> str:
        stream, wanted = self._stream, self._entity_id
        async for event in stream:
            if (wanted is None or event.entity_id == wanted) and (text := event.text):
                piece: str = text
                return piece
        stream.raise_for_failure()
        raise StopAsyncIteration
