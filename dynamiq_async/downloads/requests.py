"""The requests of downloads.

A link is signed, expires, and leads to a host other than the API's. So downloads have separate
connections and a separate limit. Their requests also have separate headers: neither the key nor any
other header of the client is sent to that host. Retries and time limits are those of every call.
"""

from __future__ import annotations

import re
import string
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import quote, urljoin, urlsplit

from dynamiq_async import errors
from dynamiq_async._credentials import hidden
from dynamiq_async._hosts import Reach, reach_of
from dynamiq_async._http.client import Client
from dynamiq_async._http.error_responses import (
    beginning,
    content_type,
    error_class,
    read_envelope,
    request_id,
)
from dynamiq_async._http.headers import USER_AGENT
from dynamiq_async._http.limiter import Limiter
from dynamiq_async._http.request import Request
from dynamiq_async._http.response import BufferedResponse
from dynamiq_async._http.retry import parse_retry_after
from dynamiq_async._http.sender import Sender, read_beginning
from dynamiq_async.options import check_count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async._http.timers import TaskLimits
    from dynamiq_async.transport import Response

    Progress = Callable[[int, int | None], object]
    """Called with the number of received bytes, and with the size, if it is known."""


DEFAULT_MAX_BYTES = 1024 * 1024 * 1024
"""The most bytes to download, unless the caller allows more."""

EXPIRED_STATUS = frozenset({400, 401, 403, 404, 410})
"""The statuses with which storage services refuse an expired link. They do not agree on one."""

MAX_REDIRECTS = 3
MAX_WAIT = 60.0
"""The longest wait, in seconds, that a host may ask for before another attempt."""

_HEADERS = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
_WHOLE = frozenset({200, 203})
"""The statuses of a complete content. 206 is only a part, and 202 comes before there is any."""

_HOST = re.compile(r"[0-9a-z._~-]+|[0-9a-f:.]+")
_SIZE = re.compile(r"[0-9]{1,18}")


class Sink(Protocol):
    """A destination of content."""

    async def restart(self) -> None:
        """Discard the written bytes, because the content comes again from its start."""

    async def write(self, piece: bytes) -> None:
        """Take the next piece."""


class _DownloadRequest(Request):
    """The request for a link, and the sink for its response."""

    __slots__ = ("max_bytes", "progress", "sink")

    def __init__(
        self,
        url: str,
        sink: Sink,
        max_bytes: int,
        progress: Progress | None,
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
            near: the nearest kind of host that a link may lead to: as near as the API that it comes
                from. Likewise, a redirect must not lead nearer than the host that it comes from.
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

    async def get_or_renew(
        self,
        url: str,
        renew: Callable[[], Awaitable[str | None]],
        options: SendOptions,
        deadline: float | None,
        **target: Any,
    ) -> Downloaded:
        """Like `get`. If the host refuses the link as expired, try once more with the link that
        `renew` returns. If that returns none, raise the refusal."""
        try:
            return await self.get(url, options, deadline, **target)
        except errors.APIStatusError as error:
            refusal = error
        try:
            if refusal.status in EXPIRED_STATUS and (fresh := await renew()):
                return await self.get(fresh, options, deadline, **target)
            raise refusal
        finally:
            del refusal  # it refers to this frame

    async def read_body(
        self, request: Request, response: Response, limits: TaskLimits
    ) -> BufferedResponse:
        """Write the content to the request's sink, piece by piece. The returned body is empty."""
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
            limits.run("total")  # a slow disk is not a silent server
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
        """The error for a response without content. It does not contain the link."""
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


class DownloadingClient(Client):
    """A client of a service that also sends links. It follows them on separate connections, which
    use its `transport`, but not its key, its headers or its `session`."""

    def __init__(
        self,
        url: str,
        key: str | Literal[False] | None,
        *,
        max_downloads: int = 8,
        **options: Any,
    ) -> None:
        key = hidden(key)
        limiter = Limiter(check_count(max_downloads, "max_downloads"))
        super().__init__(url, key, **options)
        self._settings["max_downloads"] = max_downloads
        network = self._network._replace(session=None)
        self._downloader = Downloader(
            partial(network.open, None),
            limiter,
            secret=None,
            max_response_bytes=self._settings["max_response_bytes"],
            is_slow=network.is_slow_to_open,
        )

    async def aclose(self) -> None:
        """Close the connections, unless this is a view. May be called any number of times."""
        try:
            await super().aclose()
        finally:
            if self._owner:
                await self._downloader.aclose()

    def __del__(self) -> None:
        super().__del__()
        if self._owner:
            self._downloader.abandon()


class Downloaded:
    """The result of a download: the URL after all redirects, and the media type."""

    def __init__(self, url: str, media_type: str) -> None:
        self.url = url
        self.media_type = media_type


def _resolve(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # it is not a URL, which `_check_link` reports


def _check_link(url: str, near: Reach) -> tuple[str, Reach]:
    """`url` in the form for the wire, and the nearest kind of host that its redirects may lead to.

    Args:
        near: the nearest kind of host that the link may lead to: as near as the one it comes from.

    Raises:
        APIResponseError: it is not https (or http on this machine), has a password, or leads to
            this machine or a private address although it comes from further away.
    """
    text = quote(url, safe=string.punctuation).partition("#")[0]
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    reach = reach_of(host)
    secure = parts.scheme == "https" or (parts.scheme == "http" and reach is Reach.LOOPBACK)
    # URL parsers disagree about the meaning of a backslash, and so about the host after it.
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
    """A link without its query and password, with which anybody could open it."""
    return url.partition("?")[0].rpartition("@")[2][:200]


def _length(headers: Mapping[str, str]) -> int | None:
    """The size of the content in bytes, if known. The size of a compressed content is not."""
    text = headers.get("content-length", "")
    return int(text) if _SIZE.fullmatch(text) and "content-encoding" not in headers else None
