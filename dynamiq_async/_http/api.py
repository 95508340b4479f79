"""`Api`: one service at its base URL, as one view of a client calls it.

The parts of a client, such as `app.runs` and `app.files`, build and send their requests with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from dynamiq_async._http.headers import HeaderSets, check_headers, titled
from dynamiq_async._http.request import Request
from dynamiq_async._http.request_options import RequestOptions, SendOptions
from dynamiq_async._http.response import decode_apart
from dynamiq_async._http.urls import join_url
from dynamiq_async.options import check_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async._http.multipart import Multipart
    from dynamiq_async._http.sender import Sender

T = TypeVar("T")

_NO_OPTIONS = RequestOptions()

_IDEMPOTENT = frozenset({"GET", "DELETE", "PUT", "HEAD", "OPTIONS"})
"""The methods that have no further effect when they are repeated (RFC 9110, 9.2.2)."""


class Api:
    """One service, and the options of its requests.

    Args:
        url: the base URL, without a slash at its end.
        sender: sends the requests; all views of a client share it.
        options: for requests that set none of their own.
        headers: the user's, sent with every request.
        max_event_bytes: the largest event of a stream accepted, in bytes.
    """

    __slots__ = ("_header_sets", "_root", "headers", "max_event_bytes", "options", "sender", "url")

    def __init__(
        self,
        url: str,
        sender: Sender,
        options: SendOptions,
        headers: Mapping[str, str],
        *,
        max_event_bytes: int,
    ) -> None:
        self.url: str = url
        self._root = f"{url}/"
        self.sender: Sender = sender
        self.options: SendOptions = options
        self.headers: Mapping[str, str] = headers
        self.max_event_bytes: int = max_event_bytes
        self._header_sets = HeaderSets(sender.key, headers)

    def view(
        self, *, options: SendOptions | None = None, headers: Mapping[str, str] | None = None
    ) -> Api:
        """The same service with other options, or with headers added."""
        return Api(
            self.url,
            self.sender,
            self.options if options is None else options,
            {**self.headers, **check_headers(headers, "headers")},
            max_event_bytes=self.max_event_bytes,
        )

    def request(
        self,
        method: str,
        *path: str,
        given: RequestOptions = _NO_OPTIONS,
        body: bytes | Multipart | None = None,
        query: Mapping[str, Any] | None = None,
        stream: bool = False,
        urgent: bool = False,
    ) -> Request:
        """A request, ready to be sent.

        Args:
            path: segments after the base URL, each of which is quoted.
            given: the options that the call sets.
            stream: ask for an event stream.
            urgent: send the request without waiting for a slot or for the end of a cooldown.

        Raises:
            InvalidArgumentError: a header or a segment cannot be sent.
        """
        headers = self._header_sets.of(stream=stream, json=isinstance(body, bytes))
        if body is not None and not isinstance(body, bytes):
            headers = headers | {"Content-Type": body.content_type}
        if given.headers is not None:
            headers = headers | titled(check_headers(given.headers, "extra_headers"))
        if given.query is not None:
            query = {**(query or {}), **check_mapping(given.query, "extra_query")}
        # A batch calls the root endpoint tens of thousands of times: its URL needs no joining.
        url = self._root if path == ("",) and not query else None
        return Request(
            method,
            url or join_url(self.url, *path, query=query),
            headers,
            body,
            idempotent=method in _IDEMPOTENT if given.retry is None else given.retry,
            urgent=urgent,
        )

    async def fetch(
        self,
        request: Request,
        options: SendOptions,
        type: type[T],
        *,
        deadline: float | None = None,
    ) -> T:
        """Send a request, and decode the JSON of its response as `type`.

        Raises:
            DynamiqError: what `AsyncApp.invoke` raises for any request.
        """
        sender = self.sender
        with sender.telemetry.calling(request):
            response = await sender.fetch(request, options, deadline=deadline)
            return await decode_apart(request, response, type, key=sender.key)
