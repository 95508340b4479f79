"""Downloads of outputs by their links: into memory or to a file, whole or not at all.

A link is signed, expires, and leads to another host than the API's. So downloads have connections
and a limit of their own. Their requests have headers of their own too: neither the key nor any
other header of the client is sent to that host. Retries and limits of time are those of every call.
"""

from __future__ import annotations

import mimetypes
import os
import re
import string
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, unquote, urljoin, urlsplit
from uuid import uuid4

from dynamiq_async import errors
from dynamiq_async._files import create, give_name
from dynamiq_async._hosts import Reach, reach_of
from dynamiq_async._http.error_responses import (
    beginning,
    content_type,
    error_class,
    read_envelope,
    request_id,
)
from dynamiq_async._http.headers import USER_AGENT
from dynamiq_async._http.request import Request
from dynamiq_async._http.response import BufferedResponse
from dynamiq_async._http.retry import parse_retry_after
from dynamiq_async._http.sender import Sender, read_beginning
from dynamiq_async._tasks import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async._http.timers import TaskLimits
    from dynamiq_async.transport import Response


T = TypeVar("T")

MAX_REDIRECTS = 3
MAX_WAIT = 60.0
"""Seconds that a host may ask to wait before a download is tried again."""

_HEADERS = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
_WHOLE = frozenset({200, 203})
"""The statuses of a whole content: 206 is a part, 202 comes before there is any."""

_WRITE_BYTES = 1024 * 1024
_MAX_NAME_BYTES = 150
_HOST = re.compile(r"[0-9a-z._~-]+|[0-9a-f:.]+")
_SIZE = re.compile(r"[0-9]{1,18}")
_UNUSABLE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\ud800-\udfff]')
_RESERVED = re.compile(
    r"(?i)(con|prn|aux|nul|con(in|out)\$|clock\$|(com|lpt)[\d¹²³]) *(\.|$)"
)  # by Windows
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # such as what turns the direction of a text


# --- requests --------------------------------------------------------------------------------


class Sink(Protocol):
    """A destination of content."""

    async def restart(self) -> None:
        """Discard what was written: the content is sent again from its beginning."""

    async def write(self, piece: bytes) -> None: ...


class _DownloadRequest(Request):
    """The request for a link, and what its response is written to."""

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
    """A redirect to `location`, which `Downloader.get` follows."""

    location = ""


class Downloader(Sender):
    """A sender that writes the bodies of responses to a sink."""

    async def get(
        self, url: str, options: SendOptions, deadline: float | None, *, near: Reach, **target: Any
    ) -> Downloaded:
        """Download what a link leads to. Redirects are followed, since nothing secret is sent.

        Args:
            near: how near a link may lead: as near as the API that it comes from. A redirect leads
                no nearer than the host that it comes from, too.
            target: the `sink`, `max_bytes` and `progress` of the download.
        """
        for _ in range(MAX_REDIRECTS + 1):
            url, near = _check_link(url, near)
            try:
                request = _DownloadRequest(url, **target)
                response = await self.fetch(request, options, deadline=deadline)
            except _MovedError as moved:
                url = _resolve(url, moved.location)
            else:
                return Downloaded(url, content_type(response.headers))
        raise errors.RedirectError(
            f"GET {_redacted(url)}: there were more than {MAX_REDIRECTS} redirects", status=302
        )

    async def read_body(
        self, request: Request, response: Response, limits: TaskLimits
    ) -> BufferedResponse:
        assert isinstance(request, _DownloadRequest)  # noqa: S101 - tells the type checker that no other is sent
        if response.status not in _WHOLE:
            raise errors.APIResponseError(
                f"{request} was answered {response.status}, which has not the whole content",
                status=response.status,
                request_id=request_id(response.headers),
            )
        size, received = _length(response.headers), 0
        _check_size(request, response, size or 0)
        await request.sink.restart()
        limits.run("idle")
        while piece := await response.read():
            limits.run("total")  # a slow disk is no silent server
            received += len(piece)
            _check_size(request, response, received)
            await request.sink.write(piece)
            if request.progress is not None:
                request.progress(received, size)
            limits.run("idle")
        return BufferedResponse(response.status, response.headers, b"")

    async def refusal(
        self, request: Request, response: Response, limits: TaskLimits
    ) -> errors.APIStatusError:
        limits.run("total")
        status, headers = response.status, response.headers
        body = await read_beginning(response)
        reported = read_envelope(body).message
        location = headers.get("location")
        moved = 300 <= status < 400 and location is not None
        kind = _MovedError if moved else error_class(status, None)
        error = kind(
            f"{request} was answered {status}{f': {reported}' if reported else ''}",
            status=status,
            request_id=request_id(headers),
            body=beginning(body, None),
            retry_after=parse_retry_after(headers),
        )
        if isinstance(error, _MovedError):
            error.location = location or ""
        return error


def _check_size(request: _DownloadRequest, response: Response, size: int) -> None:
    if size > request.max_bytes:
        raise errors.ResponseTooLargeError(
            f"{request}: the content is larger than max_bytes ({request.max_bytes})",
            status=response.status,
        )


class Downloaded:
    """What was downloaded: the URL it came from, behind all redirects, and its media type."""

    def __init__(self, url: str, media_type: str) -> None:
        self.url = url
        self.media_type = media_type


def _resolve(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # it is no URL, which `_check_link` reports


def _check_link(url: str, near: Reach) -> tuple[str, Reach]:
    """`url` as it goes over the wire, and how near its redirects may lead.

    Args:
        near: how near the link may lead: as near as where it comes from.

    Raises:
        APIResponseError: it is not https (or http on this machine), holds a password, or leads to
            this machine or a private address from further away.
    """
    text = quote(url, safe=string.punctuation).partition("#")[0]
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    reach = reach_of(host)
    secure = parts.scheme == "https" or (parts.scheme == "http" and reach is Reach.LOOPBACK)
    # Parsers of URLs disagree about what a backslash means, and so about the host behind it.
    clear = _HOST.fullmatch(host) and "\\" not in text.partition("?")[0]
    if not clear or not secure or parts.username is not None or parts.password is not None:
        raise errors.APIResponseError(
            f"the link {_redacted(url)} cannot be used: it must be an https URL without a password"
        )
    if reach > near:
        raise errors.APIResponseError(
            f"the link {_redacted(url)} is not followed: it leads to "
            f"{'this machine' if reach is Reach.LOOPBACK else 'a private address'}, and comes from "
            "elsewhere"
        )
    return text, min(near, reach)


def _redacted(url: str) -> str:
    """A link without its query and password, which open it to anybody."""
    return url.partition("?")[0].rpartition("@")[2][:200]


def _length(headers: Mapping[str, str]) -> int | None:
    """The size of the content in bytes, where it is known: that of a compressed one is not."""
    text = headers.get("content-length", "")
    return int(text) if _SIZE.fullmatch(text) and "content-encoding" not in headers else None


# --- sinks ---------------------------------------------------------------------------------------


class Memory:
    """Content in memory."""

    def __init__(self) -> None:
        self.content = bytearray()

    async def restart(self) -> None:
        self.content.clear()

    async def write(self, piece: bytes) -> None:
        self.content += piece


class PartFile:
    """A file without a name, or under a temporary one where the system cannot do that, until it is
    whole and published under its own.

    Where it is not published, `discard` removes it. Work on the file is done in threads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f".{uuid4().hex}.part"
        self._buffer = bytearray()
        self._file: Any = None
        self._named = False

    async def create(self) -> None:
        """Create it, so that a folder that cannot be written to is found before a request."""
        await in_thread(self._create)

    def _create(self) -> None:
        descriptor, self._named = create(self._path)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)

    async def restart(self) -> None:
        self._buffer.clear()
        await in_thread(self._truncate)

    def _truncate(self) -> None:
        self._file.seek(0)
        self._file.truncate()

    async def write(self, piece: bytes) -> None:
        self._buffer += piece
        if len(self._buffer) >= _WRITE_BYTES:
            await in_thread(self._flush)

    def _flush(self) -> None:
        view = memoryview(self._buffer)
        while view:
            view = view[self._file.write(view) :]
        view.release()
        self._buffer = bytearray()

    async def publish(self, path: Path) -> Path:
        """Rename it to `path`, which it replaces if it is there."""
        return await in_thread(self._publish, path)

    async def publish_beside(self, name: str) -> Path:
        """Rename it to `name`, or to that with a number where there is such a file."""
        return await in_thread(self._publish_beside, name)

    def _publish(self, path: Path) -> Path:
        self._complete()
        return self._path.replace(path)

    def _complete(self) -> None:
        self._flush()
        if not self._named:
            give_name(self._file.fileno(), self._path)
            self._named = True
        self._file.close()

    def _publish_beside(self, name: str) -> Path:
        self._complete()  # before the name is reserved, so that a full disk leaves no empty file
        path, number = self._folder / name, 1
        while True:
            try:
                path.open("xb").close()  # reserves the name
            except FileExistsError:
                number += 1
                path = (self._folder / name).with_stem(f"{Path(name).stem}-{number}")
            else:
                return self._path.replace(path)

    def discard(self) -> None:
        """Remove it, unless it was published."""
        if self._file is not None:
            self._file.close()
            if self._named:
                self._path.unlink(missing_ok=True)


# --- names ---------------------------------------------------------------------------------------


def file_name(url: str, media_type: str, fallback: str) -> str:
    """A name for what came from `url`: on any system it is a file's name, and never a path."""
    last = unquote(urlsplit(url).path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _clean(last) or _clean(fallback) or "output"
    extension = mimetypes.guess_extension(media_type) or ""
    return name if Path(name).suffix else _clean(f"{name}{extension}")


def _clean(name: str) -> str:
    name = _UNUSABLE.sub("_", name.replace("/", "_").replace("\\", "_"))
    shown = ("_" if unicodedata.category(letter) in _INVISIBLE else letter for letter in name)
    name = "".join(shown).strip(" .")
    if _RESERVED.match(name) or name.startswith("-"):  # programs take the latter for an option
        name = f"_{name}"
    stem, dot, extension = name.rpartition(".")
    if dot and len(extension.encode()) <= _MAX_NAME_BYTES // 4:
        room = _MAX_NAME_BYTES - len(extension.encode()) - 1
        return f"{_cut(stem, room)}.{extension}"
    return _cut(name, _MAX_NAME_BYTES)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def check_destination(path: str | os.PathLike[str]) -> tuple[Path, bool]:
    """`path`, and whether it is a folder.

    Raises:
        InvalidArgumentError: it is neither a folder nor in a folder that exists.
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
