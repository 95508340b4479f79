"""What every client of this package is made of: an address, a key, options and one caller.

A client and its `with_options` views share the caller, and with it the connections, the limit and
the cooldown. The view that made them owns them; closing another closes nothing.
"""

from __future__ import annotations

import copy
import math
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from msgspec import structs

from dynamiq_async import errors
from dynamiq_async._credentials import ACCESS_KEY, Credential, check_key
from dynamiq_async._http.headers import (
    _SECRET_HEADERS,
    JSON_TYPE,
    SSE_TYPE,
    USER_AGENT,
    check_headers,
)
from dynamiq_async._http.limiter import Gate
from dynamiq_async._http.request import Multipart, Request
from dynamiq_async._http.request_options import UNSET, CallOptions, Extras, TimeoutLike, _timeout
from dynamiq_async._http.response import decode_body
from dynamiq_async._http.retry import RetryPolicy
from dynamiq_async._http.sender import Caller
from dynamiq_async._http.urls import join_url
from dynamiq_async.options import (
    DEFAULT_TIMEOUT,
    check_count,
    check_seconds,
)
from dynamiq_async.transport.base import aiohttp_transport

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Mapping

    import aiohttp


T = TypeVar("T")


class Client:
    """The base of `AsyncApp` and its siblings; see there for the arguments."""

    _configuration: dict[str, Any]  # the arguments that made it, as far as they go into a pickle
    _credential: Credential = ACCESS_KEY
    _owner = False  # until the constructor is through

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout: TimeoutLike,
        max_retries: int,
        headers: Mapping[str, str] | None,
        max_connections: int,
        max_response_bytes: int,
        max_retry_after: float | None,
        session: aiohttp.ClientSession | None,
        verify: ssl.SSLContext | str | os.PathLike[str] | None,
        proxy: str | None,
        trust_env: bool,
        gate: Gate | None = None,
    ) -> None:
        if session is not None and (verify is not None or proxy is not None or trust_env):
            raise errors.InvalidArgumentError(
                "verify, proxy and trust_env are settings of the session; set them there",
                argument="session",
            )
        check_seconds(max_retry_after, "max_retry_after")
        longest = math.inf if max_retry_after is None else max_retry_after
        secret = check_key(key, self._credential.argument) if key is not None else None
        self._url = url
        self._headers = {"User-Agent": USER_AGENT}
        if secret is not None:
            self._headers["Authorization"] = f"Bearer {secret.reveal()}"
        self._options = CallOptions(
            timeout=_timeout(timeout, DEFAULT_TIMEOUT),
            policy=RetryPolicy(
                max_retries=check_count(max_retries, "max_retries", least=0),
                max_wait=longest,
            ),
            headers=check_headers(headers, "headers"),
        )
        settings = {
            "session": session,
            "tls": verify,
            "proxy": proxy,
            "trust_env": trust_env,
            "key": key,
        }
        self._caller = Caller(
            partial(aiohttp_transport, settings),
            gate or Gate(check_count(max_connections, "max_connections")),
            secret=secret,
            credential=self._credential,
            max_response_bytes=check_count(max_response_bytes, "max_response_bytes"),
        )
        self._owner = True
        self._prepare()

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return self._url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r})"

    def with_options(
        self,
        *,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """A view with other options on the same connections, limit and cooldown.

        Closing the view closes nothing.

        Args:
            timeout: a `Timeout`, or seconds for the whole of each call, or None for no limit.
            max_retries: as for the client.
            headers: added to the client's.

        Raises:
            InvalidArgumentError: an argument cannot be used; `argument` names it.
        """
        view = copy.copy(self)
        view._owner = False
        view._options = self._call_options(Extras(timeout, max_retries))
        if headers is not None:
            added = self._options.headers | check_headers(headers, "headers")
            view._options = structs.replace(view._options, headers=added)
        view._prepare()
        return view

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless this is a view. May be called any number of times."""
        if self._owner:
            await self._caller.aclose()

    def __del__(self) -> None:
        if self._owner and self._caller.abandon():
            warnings.warn(
                f"{self!r} was never closed; use `async with`, or await its aclose()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def __copy__(self) -> Self:
        view = object.__new__(type(self))
        # The view keeps its origin alive, which would close the connections if it were collected.
        vars(view).update(vars(self), _owner=False, _origin=self)
        return view

    def _settings(self) -> dict[str, Any]:
        """The arguments that make such a client anew: what goes into a pickle."""
        return self._configuration | {
            "timeout": self._options.timeout,
            "max_retries": self._options.policy.max_retries,
            "headers": {
                name: value
                for name, value in self._options.headers.items()
                if name.lower() not in _SECRET_HEADERS
            },
        }

    # Requests.

    def _prepare(self) -> None:
        """The headers that all requests of a kind share, put together once."""
        common = self._headers | {k.title(): v for k, v in self._options.headers.items()}
        self._get_headers = {"Accept": JSON_TYPE} | common
        self._json_headers = {"Accept": JSON_TYPE, "Content-Type": JSON_TYPE} | common
        # A compressed stream would be held back until a block of it is full.
        self._sse_headers = {
            "Accept": SSE_TYPE,
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
        } | common

    def _call_options(self, extras: Extras) -> CallOptions:
        options = self._options
        if extras.timeout is not UNSET:
            options = structs.replace(options, timeout=_timeout(extras.timeout, options.timeout))
        retries = 0 if extras.retry is False else extras.max_retries
        if retries is not None:
            policy = structs.replace(
                options.policy, max_retries=check_count(retries, "max_retries", least=0)
            )
            if extras.retry is False:
                policy = structs.replace(policy, patient=False)
            options = structs.replace(options, policy=policy)
        return options

    def _request(
        self,
        method: str,
        *path: str,
        extras: Extras,
        body: bytes | Multipart | None = None,
        query: Mapping[str, Any] | None = None,
        stream: bool = False,
        urgent: bool = False,
    ) -> Request:
        if stream:
            headers = self._sse_headers
            if isinstance(body, bytes):
                headers = headers | {"Content-Type": JSON_TYPE}
        else:
            headers = self._json_headers if isinstance(body, bytes) else self._get_headers
        if extras.headers:
            headers = headers | {
                k.title(): v for k, v in check_headers(extras.headers, "extra_headers").items()
            }
        if extras.query:
            query = {**(query or {}), **extras.query}
        # The root endpoint is what is called tens of thousands of times.
        url = f"{self._url}/" if path == ("",) and not query else None
        return Request(
            method,
            url or join_url(self._url, *path, query=query),
            headers,
            body,
            idempotent=method in ("GET", "DELETE") if extras.retry is None else extras.retry,
            urgent=urgent,
        )

    async def _fetch(self, request: Request, extras: Extras, type: type[T]) -> T:
        """Send, and decode the answer's JSON as `type`."""
        return await self._send(request, self._call_options(extras), type)

    async def _send(
        self,
        request: Request,
        options: CallOptions,
        type: type[T],
        *,
        deadline: float | None = None,
    ) -> T:
        answer = await self._caller.fetch(request, options, deadline=deadline)
        return decode_body(
            str(request),
            answer.body,
            type,
            status=answer.status,
            headers=answer.headers,
            key=self._caller.key,
        )
