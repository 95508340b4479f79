"""The decoders of other packages, each on the same chunks, in the way its own client uses it.

A peer that is not installed is left out and said to be so.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Chunks = list[bytes]
    Decode = Callable[[Any], Any]


class Peer:
    """One package's decoder. `events` gives its events, which have their data as text."""

    package: str
    needs: tuple[str, ...]

    def __init__(self) -> None:
        for module in self.needs:
            setattr(self, module.replace(".", "_"), importlib.import_module(module))

    def events(self, chunks: Chunks) -> Iterable[Any]:
        raise NotImplementedError

    def plain(self, chunks: Chunks) -> list[Any]:
        """The data of the events, as it came."""
        return [event.data for event in self.events(chunks)]

    def own_json(self, chunks: Chunks) -> list[Any]:
        """The data of the events, decoded in the package's own way, or with `json` if it leaves
        that to its user."""
        loads = json.loads
        return [loads(event.data) for event in self.events(chunks)]

    def given(self, chunks: Chunks, decode: Decode) -> list[Any]:
        """The same, decoded by another function."""
        return [decode(event.data) for event in self.events(chunks)]


class HttpxSse(Peer):
    package = "httpx-sse"
    needs = ("httpx", "httpx_sse")
    httpx: Any
    httpx_sse: Any

    def events(self, chunks: Chunks) -> Iterable[Any]:
        headers = {"content-type": "text/event-stream"}
        response = self.httpx.Response(200, headers=headers, content=iter(chunks))
        events: Iterable[Any] = self.httpx_sse.EventSource(response).iter_sse()
        return events


class OpenAI(Peer):
    package = "openai"
    needs = ("openai._streaming",)
    openai__streaming: Any

    def events(self, chunks: Chunks) -> Iterable[Any]:
        events: Iterable[Any] = self.openai__streaming.SSEDecoder().iter_bytes(iter(chunks))
        return events

    def own_json(self, chunks: Chunks) -> list[Any]:
        return [event.json() for event in self.events(chunks)]


class Anthropic(OpenAI):
    package = "anthropic"
    needs = ("anthropic._streaming",)
    anthropic__streaming: Any

    def events(self, chunks: Chunks) -> Iterable[Any]:
        events: Iterable[Any] = self.anthropic__streaming.SSEDecoder().iter_bytes(iter(chunks))
        return events


class LangGraph(Peer):
    """Its decoder decodes the JSON itself, with orjson; another one is put in orjson's place."""

    package = "langgraph-sdk"
    needs = ("langgraph_sdk.sse",)
    langgraph_sdk_sse: Any

    def events(self, chunks: Chunks) -> Iterator[Any]:
        to_lines = self.langgraph_sdk_sse.BytesLineDecoder()
        to_event = self.langgraph_sdk_sse.SSEDecoder().decode
        for chunk in [*chunks, None]:
            for line in to_lines.flush() if chunk is None else to_lines.decode(chunk):
                if (event := to_event(line)) is not None:
                    yield event

    def own_json(self, chunks: Chunks) -> list[Any]:
        return self.plain(chunks)

    def given(self, chunks: Chunks, decode: Decode) -> list[Any]:
        module = self.langgraph_sdk_sse
        orjson, module.orjson = module.orjson, _Loads(decode)
        try:
            return self.plain(chunks)
        finally:
            module.orjson = orjson


class _Loads:
    JSONDecodeError = ValueError

    def __init__(self, loads: Decode) -> None:
        self.loads = loads


class LaunchDarkly(Peer):
    package = "launchdarkly-eventsource"
    needs = ("ld_eventsource.reader", "ld_eventsource.actions")
    ld_eventsource_reader: Any
    ld_eventsource_actions: Any

    def events(self, chunks: Chunks) -> Iterable[Any]:
        lines = self.ld_eventsource_reader._BufferedLineReader.lines_from(iter(chunks))
        event = self.ld_eventsource_actions.Event
        found = self.ld_eventsource_reader._SSEReader(lines).events_and_comments()
        return (item for item in found if type(item) is event)


class AiohttpSseClient(Peer):
    """Its client reads lines from aiohttp's body, into which the chunks are fed."""

    package = "aiohttp-sse-client2"
    needs = ("aiohttp", "aiohttp_sse_client2.client")
    aiohttp: Any
    aiohttp_sse_client2_client: Any

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._session = object()  # never asked for anything

    def events(self, chunks: Chunks) -> Iterable[Any]:
        reader = self.aiohttp.StreamReader(_Protocol(), 2**30, loop=self._loop)
        source = self.aiohttp_sse_client2_client.EventSource(
            "http://127.0.0.1/", session=self._session, on_error=_ended
        )
        source._response = _Response(reader)
        return _fed(source.__anext__, reader, iter(chunks))


class _Protocol:
    connected = True
    _reading_paused = False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self, *_: Any, **__: Any) -> None:
        pass


class _Response:
    status = 200

    def __init__(self, content: Any) -> None:
        self.content = content


class _EndedError(Exception):
    pass


def _ended() -> None:
    raise _EndedError


def _fed(call: Callable[[], Any], reader: Any, chunks: Iterator[bytes]) -> Iterator[Any]:
    """What awaiting the calls gives, until the body ends; a chunk for each time one waits."""
    while True:
        waiting = call()
        try:
            while True:
                waiting.send(None)
                if chunk := next(chunks, b""):
                    reader.feed_data(chunk)
                else:
                    reader.feed_eof()
        except StopIteration as done:
            yield done.value
        except _EndedError:
            return


class SseClient(Peer):
    package = "sseclient-py"
    needs = ("sseclient",)
    sseclient: Any

    def events(self, chunks: Chunks) -> Iterable[Any]:
        events: Iterable[Any] = self.sseclient.SSEClient(iter(chunks)).events()
        return events


_KINDS: tuple[type[Peer], ...] = (
    HttpxSse,
    OpenAI,
    Anthropic,
    LangGraph,
    LaunchDarkly,
    AiohttpSseClient,
    SseClient,
)


def peers() -> tuple[dict[str, Peer], dict[str, str]]:
    """Those that are installed, and a note for each of the others."""
    found: dict[str, Peer] = {}
    missing: dict[str, str] = {}
    for kind in _KINDS:
        try:
            found[kind.package] = kind()
        except ImportError:
            missing[kind.package] = "not installed"
    return found, missing


def optional(module: str) -> Any:
    """A module that a contender needs, or None if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None
