"""Outputs brought from where their links lead: into memory or to disk, whole or not at all.

A link is signed, expires, and leads to another host than the API's. So downloads have connections
and a limit of their own, and their requests are made from nothing: neither the key nor any other
header of the client's goes there, wherever "there" is. The requests, retries and limits of time
are otherwise those of every call.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
import string
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, unquote, urljoin, urlsplit
from uuid import uuid4

from msgspec import structs

from dynamiq_async import errors
from dynamiq_async._calls import Answer, Caller, CallOptions, read_beginning
from dynamiq_async._client import USER_AGENT
from dynamiq_async._clock import deadline_in
from dynamiq_async._request import Request, is_loopback
from dynamiq_async._response import (
    beginning,
    content_type,
    error_class,
    read_envelope,
    request_id,
)
from dynamiq_async._retry import parse_retry_after
from dynamiq_async.options import check_count, check_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dynamiq_async._clock import Clock
    from dynamiq_async.flowy_models import FlowyOutput, FlowyRun
    from dynamiq_async.transport import Response

T = TypeVar("T")

MAX_REDIRECTS = 3
MAX_WAIT = 60.0
"""Seconds that a host may ask to wait before a download is tried again."""

EXPIRED_STATUS = frozenset({400, 401, 403, 404, 410})
"""What storage services answer for a link whose time is up: they do not agree on one."""

_HEADERS = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
_WRITE_BYTES = 1024 * 1024
_MAX_NAME_BYTES = 150
_UNUSABLE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\ud800-\udfff]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # by Windows


# --- requests --------------------------------------------------------------------------------


class Sink(Protocol):
    """Where content goes."""

    async def restart(self) -> None:
        """Forget what came so far: it comes again."""

    async def write(self, piece: bytes) -> None: ...


class _Get(Request):
    """The request for a link, and what becomes of its answer."""

    __slots__ = ("max_bytes", "progress", "sink")

    def __init__(
        self,
        url: str,
        sink: Sink,
        max_bytes: int,
        progress: Callable[[int, int | None], object] | None,
    ) -> None:
        super().__init__("GET", url, _HEADERS, idempotent=True)
        self.sink = sink
        self.max_bytes = max_bytes
        self.progress = progress


class _MovedError(errors.RedirectError):
    """The content is elsewhere, at `location`."""

    location = ""


class Downloader(Caller):
    """The one loop of all requests, with bodies that go to a sink."""

    async def get(self, url: str, options: CallOptions, deadline: float | None, **to: Any) -> Got:
        """Bring what a link leads to. Redirects are followed, since nothing secret is sent."""
        for _ in range(MAX_REDIRECTS + 1):
            url = _checked(url)
            try:
                answer = await self.fetch(_Get(url, **to), options, deadline=deadline)
            except _MovedError as moved:
                url = _joined(url, moved.location)
            else:
                return Got(url, content_type(answer.headers))
        raise errors.RedirectError(
            f"GET {_shown(url)}: there were more than {MAX_REDIRECTS} redirects", status=302
        )

    async def _read(self, request: Request, response: Response, clock: Clock) -> Answer:
        assert isinstance(request, _Get)  # noqa: S101 - for the type checker: it sends nothing else
        size, received = _length(response.headers), 0
        _check_size(request, response, size or 0)
        await request.sink.restart()
        while not response.at_end:
            if not response.received:
                clock.turn_to("idle")
            piece = await response.read()
            clock.turn_to("total")  # a slow disk is no silent server
            received += len(piece)
            _check_size(request, response, received)
            await request.sink.write(piece)
            if request.progress is not None:
                request.progress(received, size)
        return Answer(response.status, response.headers, b"")

    async def _refusal(
        self, request: Request, response: Response, clock: Clock
    ) -> errors.APIStatusError:
        clock.turn_to("total")
        status, headers = response.status, response.headers
        body = await read_beginning(response)
        said = read_envelope(body).message
        location = headers.get("location")
        moved = 300 <= status < 400 and location is not None
        kind = _MovedError if moved else error_class(status, None)
        error = kind(
            f"{request} was answered {status}{f': {said}' if said else ''}",
            status=status,
            request_id=request_id(headers),
            body=beginning(body, None),
            retry_after=parse_retry_after(headers, now=time.time()),
        )
        if isinstance(error, _MovedError):
            error.location = location or ""
        return error


def _check_size(request: _Get, response: Response, size: int) -> None:
    if size > request.max_bytes:
        raise errors.ResponseTooLargeError(
            f"{request}: the content is larger than max_bytes ({request.max_bytes})",
            status=response.status,
        )


class Got:
    """Where content came from in the end, and what it is."""

    def __init__(self, url: str, media_type: str) -> None:
        self.url = url
        self.media_type = media_type


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # which is no URL, and found to be none


def _checked(url: str) -> str:
    """`url` as it goes over the wire.

    Raises:
        APIResponseError: it is not https (or http on this machine), or holds a password.
    """
    text = quote(url, safe=string.punctuation).partition("#")[0]
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not host or not secure or parts.username is not None or parts.password is not None:
        raise errors.APIResponseError(
            f"the link {_shown(url)} cannot be used: it must be an https URL without a password"
        )
    return text


def _shown(url: str) -> str:
    """A link without what opens it to anybody."""
    return url.partition("?")[0].rpartition("@")[2][:200]


def _length(headers: Mapping[str, str]) -> int | None:
    """The size of the content, where it is told: that of a compressed one is not."""
    text = headers.get("content-length", "")
    return int(text) if text.isdecimal() and "content-encoding" not in headers else None


# --- where content goes --------------------------------------------------------------------------


class Memory:
    """Content in memory."""

    def __init__(self) -> None:
        self.content = bytearray()

    async def restart(self) -> None:
        self.content.clear()

    async def write(self, piece: bytes) -> None:
        self.content += piece


class PartFile:
    """Content in a file under a name of its own, until it is whole and published.

    Whatever else happens, `discard` leaves nothing of it. Files are dealt with in threads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f".{uuid4().hex}.part"
        self._buffer = bytearray()
        self._file: Any = None

    async def create(self) -> None:
        """Make it, so that a folder that cannot be written to is found before anything is sent."""
        await _in_thread(self._create)

    def _create(self) -> None:
        self._file = self._path.open("xb", buffering=0)

    async def restart(self) -> None:
        self._buffer.clear()
        await _in_thread(self._truncate)

    def _truncate(self) -> None:
        self._file.seek(0)
        self._file.truncate()

    async def write(self, piece: bytes) -> None:
        self._buffer += piece
        if len(self._buffer) >= _WRITE_BYTES:
            await _in_thread(self._flush)

    def _flush(self) -> None:
        view = memoryview(self._buffer)
        while view:
            view = view[self._file.write(view) :]
        view.release()
        self._buffer = bytearray()

    async def publish(self, path: Path) -> Path:
        """Give it its name, in place of what may have that now."""
        return await _in_thread(self._publish, path)

    async def publish_beside(self, name: str) -> Path:
        """Give it that name, or one with a number where that is taken."""
        return await _in_thread(self._publish_beside, name)

    def _publish(self, path: Path) -> Path:
        self._complete()
        return self._path.replace(path)

    def _complete(self) -> None:
        self._flush()
        self._file.close()

    def _publish_beside(self, name: str) -> Path:
        self._complete()  # before a name is taken, so that a full disk leaves no empty file
        path, number = self._folder / name, 1
        while True:
            try:
                path.open("xb").close()
            except FileExistsError:
                number += 1
                path = (self._folder / name).with_stem(f"{Path(name).stem}-{number}")
            else:
                return self._path.replace(path)

    def discard(self) -> None:
        """Leave nothing, unless it was published."""
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Run `work` in a thread, and wait for its end also when cancelled: it is not to meet a file
    that is being discarded."""
    future = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:  # which is raised in the end
                continue
        raise


# --- names ---------------------------------------------------------------------------------------


def file_name(url: str, media_type: str, fallback: str) -> str:
    """A name for what came from `url`, that is a name in any folder and nothing else."""
    last = unquote(urlsplit(url).path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _clean(last) or _clean(fallback) or "output"
    extension = mimetypes.guess_extension(media_type) or ""
    return name if Path(name).suffix else _clean(f"{name}{extension}")


def _clean(name: str) -> str:
    name = _UNUSABLE.sub("_", name.replace("/", "_").replace("\\", "_")).strip(" .")
    if _RESERVED.match(name):
        name = f"_{name}"
    stem, dot, extension = name.rpartition(".")
    if dot and len(extension.encode()) <= _MAX_NAME_BYTES // 4:
        room = _MAX_NAME_BYTES - len(extension.encode()) - 1
        return f"{_cut(stem, room)}.{extension}"
    return _cut(name, _MAX_NAME_BYTES)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


# --- outputs -------------------------------------------------------------------------------------


class Origin:
    """Where the content of one output of a run comes from; what `FlowyOutput` is bound to."""

    def __init__(
        self,
        downloader: Downloader,
        options: CallOptions,
        reread: Callable[[str, float | None], Awaitable[FlowyRun]],
        run: FlowyRun,
        position: int,
    ) -> None:
        self._downloader = downloader
        self._options = options
        self._reread = reread
        self._run_id = run.run_id
        self._position = position

    async def save(
        self,
        output: FlowyOutput,
        path: str | os.PathLike[str],
        *,
        max_bytes: int,
        timeout: float | None,
        progress: Callable[[int, int | None], object] | None,
    ) -> Path:
        check_seconds(timeout, "timeout")
        place, is_folder = await _in_thread(_placed, path)
        part = PartFile(place if is_folder else place.parent)
        try:
            await part.create()
            got = await self._bring(output, part, max_bytes, timeout, progress)
            if not is_folder:
                return await part.publish(place)
            fallback = output.node_id or "output"
            return await part.publish_beside(file_name(got.url, got.media_type, fallback))
        finally:
            part.discard()

    async def read(
        self,
        output: FlowyOutput,
        *,
        max_bytes: int,
        timeout: float | None,
        progress: Callable[[int, int | None], object] | None,
    ) -> bytes:
        check_seconds(timeout, "timeout")
        memory = Memory()
        await self._bring(output, memory, max_bytes, timeout, progress)
        return bytes(memory.content)

    async def _bring(
        self,
        output: FlowyOutput,
        sink: Sink,
        max_bytes: int,
        timeout: float | None,
        progress: Callable[[int, int | None], object] | None,
    ) -> Got:
        check_count(max_bytes, "max_bytes")
        # Beside the link to an image, a text (an empty one, too) is not what was made.
        if output.text is not None and (output.url is None or output.kind == "text"):
            return await self._write_text(output.text, sink, max_bytes, progress)
        if output.url is None:
            raise errors.OutputMissingError(
                f"node {output.node_id} of run {self._run_id} has neither a text nor a link",
                run_id=self._run_id,
            )
        options = self._limited(timeout)
        deadline = deadline_in(timeout)
        to = {"sink": sink, "max_bytes": max_bytes, "progress": progress}
        try:
            return await self._downloader.get(output.url, options, deadline, **to)
        except errors.APIStatusError as error:
            refused = error
        if refused.status in EXPIRED_STATUS:
            if url := await self._fresh_link(output, deadline):
                return await self._downloader.get(url, options, deadline, **to)
            raise self._expired(output, refused) from refused
        raise refused

    def _limited(self, timeout: float | None) -> CallOptions:
        """The client's options. Its patience is for another service, whose limits are known."""
        limits = structs.replace(self._options.timeout, total=timeout)
        policy = structs.replace(self._options.policy, patient=False, max_wait=MAX_WAIT)
        return structs.replace(self._options, timeout=limits, policy=policy)

    async def _write_text(
        self,
        text: str,
        sink: Sink,
        max_bytes: int,
        progress: Callable[[int, int | None], object] | None,
    ) -> Got:
        content = text.encode("utf-8", "replace")
        if len(content) > max_bytes:
            raise errors.ResponseTooLargeError(
                f"the text of run {self._run_id} is larger than max_bytes ({max_bytes})",
                run_id=self._run_id,
            )
        await sink.write(content)
        if progress is not None:
            progress(len(content), len(content))
        return Got("", "text/plain")

    async def _fresh_link(self, output: FlowyOutput, deadline: float | None) -> str | None:
        """Another link to the same content, if the run has one by now."""
        try:
            run = await self._reread(self._run_id, deadline)
        except errors.DynamiqError:
            return None  # that the link has expired is what the caller is told
        same = [o for o in run.outputs if (o.node_id, o.kind) == (output.node_id, output.kind)]
        if self._position < len(run.outputs) and run.outputs[self._position] in same:
            same.insert(0, run.outputs[self._position])
        return next((o.url for o in same if o.url and o.url != output.url), None)

    def _expired(self, output: FlowyOutput, refused: errors.APIStatusError) -> errors.DynamiqError:
        error = type(refused)(
            f"{refused.message}: the link to the output of node {output.node_id} of run "
            f"{self._run_id} has expired or is refused, and the run has no other. Links expire: "
            "save outputs soon after the run is completed"
        )
        vars(error).update(vars(refused) | {"message": error.message, "run_id": self._run_id})
        return error


def _placed(path: str | os.PathLike[str]) -> tuple[Path, bool]:
    """`path`, and whether it is a folder.

    Raises:
        InvalidArgumentError: there is no folder that it could be in.
    """
    try:
        place, text = Path(path), os.fspath(path)
        is_folder = place.is_dir()
        known = is_folder or (place.parent.is_dir() and not text.endswith(os.sep))
        known = known and "\0" not in text
    except (TypeError, OSError) as error:
        raise errors.InvalidArgumentError(
            f"path cannot be used: {error}", argument="path"
        ) from error
    if not known:
        raise errors.InvalidArgumentError(
            f"path {place} is in no folder that exists: make it first", argument="path"
        )
    return place, is_folder
