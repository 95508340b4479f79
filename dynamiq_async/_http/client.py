"""`Client`: what `AsyncApp`, `AsyncManagement` and `AsyncFlowy` have in common.

A client and its `with_options` views share one sender, and with it the connections, the limit and
the cooldown. The client owns them; closing a view closes nothing.

An option of all clients is declared in two places: `ClientOptions` for type checkers, and
`Client.__init__`, which has its default and passes it on.
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from dynamiq_async._credentials import ACCESS_KEY, Credential, check_key, hidden
from dynamiq_async._http import endpoints
from dynamiq_async._http.api import Api
from dynamiq_async._http.headers import check_headers, without_secrets
from dynamiq_async._http.limiter import Limiter
from dynamiq_async._http.request_options import (
    UNSET,
    RequestOptions,
    SendOptions,
    TimeoutLike,
)
from dynamiq_async._http.retry import RetryPolicy
from dynamiq_async._http.sender import Sender
from dynamiq_async._http.urls import parse_base_url, without_userinfo
from dynamiq_async._telemetry import OpenTelemetryOptions, Telemetry, portable, settings_of
from dynamiq_async.options import check_count, check_seconds
from dynamiq_async.transport.choice import Network, TransportLike

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Mapping

    import aiohttp

    from dynamiq_async._http.endpoints import Segment
    from dynamiq_async._http.outage import Outage
    from dynamiq_async._http.paging import Pages

C = TypeVar("C", bound="Client")
T = TypeVar("T")

_MIB = 1024 * 1024


class ClientOptions(TypedDict, total=False):
    """The options that all clients have. `AsyncApp` says what they mean."""

    timeout: TimeoutLike
    max_retries: int
    headers: Mapping[str, str] | None
    max_connections: int
    max_response_bytes: int
    max_event_bytes: int
    max_retry_after: float | None
    transport: TransportLike
    session: aiohttp.ClientSession | None
    verify: ssl.SSLContext | str | os.PathLike[str] | None
    proxy: str | None
    trust_env: bool
    allow_http: bool
    open_telemetry: bool | OpenTelemetryOptions | None


class _EndpointOptions(TypedDict, total=False):
    """The arguments of `request` that do not affect its return type."""

    query: Mapping[str, Any] | None
    body: Any
    retry: bool | None


class Client:
    """The base of all clients. `AsyncApp` says what the options mean."""

    _credential: ClassVar[Credential] = ACCESS_KEY
    _url_argument: ClassVar[str] = "base_url"
    _propagates: ClassVar[bool] = False  # whether trace headers are sent to the service
    _api: Api
    _owner = False  # until the constructor has finished

    def __init_subclass__(cls) -> None:
        """Make `help()` show the options that a constructor only passes on."""
        signature = inspect.signature(cls.__init__)
        own = list(signature.parameters.values())
        if own[-1].kind is inspect.Parameter.VAR_KEYWORD:
            shared = inspect.signature(Client.__init__).parameters.values()
            shown = [option for option in shared if option.name in ClientOptions.__annotations__]
            cls.__init__.__signature__ = signature.replace(  # type: ignore[attr-defined]
                parameters=[*own[:-1], *shown]
            )

    def __init__(
        self,
        url: str,
        key: str | Literal[False] | None,
        *,
        limiter: Limiter | None = None,
        timeout: TimeoutLike = UNSET,
        max_retries: int = 2,
        headers: Mapping[str, str] | None = None,
        max_connections: int = 100,
        max_response_bytes: int = 64 * _MIB,
        max_event_bytes: int = 64 * _MIB,
        max_retry_after: float | None = 60.0,
        transport: TransportLike = None,
        session: aiohttp.ClientSession | None = None,
        verify: ssl.SSLContext | str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
        allow_http: bool = False,
        open_telemetry: bool | OpenTelemetryOptions | None = None,
    ) -> None:
        key = hidden(key)
        url = parse_base_url(url, allow_http=allow_http, argument=self._url_argument)
        given = self._credential.resolve(key)
        self._network = Network(transport, session, verify, proxy, trust_env)
        self._network.check()
        check_seconds(max_retry_after, "max_retry_after")
        secret = check_key(given, self._credential.argument) if given is not None else None
        options = SendOptions(
            policy=RetryPolicy(
                max_retries=check_count(max_retries, "max_retries", least=0),
                max_wait=math.inf if max_retry_after is None else max_retry_after,
            ),
        )
        if limiter is None:
            limiter = Limiter(check_count(max_connections, "max_connections"))
        sender = Sender(
            partial(self._network.open, secret),
            limiter,
            secret=secret,
            credential=self._credential,
            max_response_bytes=check_count(max_response_bytes, "max_response_bytes"),
            is_slow=self._network.is_slow_to_open,
            telemetry=Telemetry(settings_of(open_telemetry), url, propagates=self._propagates),
        )
        self._api = Api(
            url,
            sender,
            options.with_timeout(timeout),
            check_headers(headers, "headers"),
            max_event_bytes=check_count(max_event_bytes, "max_event_bytes"),
        )
        # These go into a pickle, besides the options that views may change.
        self._settings: dict[str, Any] = {
            "max_connections": max_connections,
            "max_response_bytes": max_response_bytes,
            "max_event_bytes": max_event_bytes,
            "max_retry_after": max_retry_after,
            **self._network.settings(),
            "allow_http": allow_http,
            "open_telemetry": portable(open_telemetry),
        }
        self._owner = True

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return self._api.url

    def __repr__(self) -> str:
        api = vars(self).get("_api")  # not there while the constructor fails
        return f"{type(self).__name__}({'' if api is None else repr(api.url)})"

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
        options = self._api.options.for_call(RequestOptions(timeout, max_retries))
        return self._with_api(self._api.view(options=options, headers=headers))

    @overload
    async def request(
        self,
        method: str,
        *segments: Segment,
        output_type: type[T],
        **options: Unpack[_EndpointOptions],
    ) -> T: ...
    @overload
    async def request(
        self,
        method: str,
        *segments: Segment,
        output_type: Any,
        **options: Unpack[_EndpointOptions],
    ) -> Any: ...
    @overload
    async def request(
        self, method: str, *segments: Segment, **options: Unpack[_EndpointOptions]
    ) -> Any: ...
    async def request(
        self,
        method: str,
        *segments: Segment,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        output_type: Any = Any,
        retry: bool | None = None,
    ) -> Any:
        """Call an endpoint that has no method here, with this client's key, retries, limits and
        errors. Use `with_options` to set a time limit or headers for one call.

            metrics = await management.request("GET", "v1", "apps", app.id, "metrics")

        Args:
            method: the HTTP method. GET, HEAD, OPTIONS, PUT and DELETE have no further effect when
                repeated (RFC 9110), and are sent again when needed. Others, such as POST, are sent
                again only when the server certainly did not take them.
            segments: the path after the base URL, one argument for each part. A slash within a part
                is escaped. No segments: the base URL itself.
            query: a list repeats its name, and None is left out.
            body: any value that JSON can express, sent as JSON; None for no body.
            output_type: what to decode the response to; any type that msgspec knows.
            retry: True declares the call safe to run twice, so that it is repeated even when its
                outcome is unknown; False forbids any repetition.

        Returns:
            The whole body, decoded, including a `data` wrapper; None where it is empty.

        Raises:
            InvalidArgumentError: an argument cannot be used, such as a part of the path that is
                empty; nothing was sent.

        And what `AsyncApp.invoke` raises for any request. A body that reports a failed workflow is
        returned like any other.
        """
        return await endpoints.call(
            self._api,
            method,
            segments,
            query=query,
            body=body,
            output_type=output_type,
            retry=retry,
        )

    @overload
    def pages(self, *segments: Segment, query: Mapping[str, Any] | None = None) -> Pages[Any]: ...
    @overload
    def pages(
        self, *segments: Segment, query: Mapping[str, Any] | None = None, item_type: type[T]
    ) -> Pages[T]: ...
    @overload
    def pages(
        self, *segments: Segment, query: Mapping[str, Any] | None = None, item_type: Any
    ) -> Pages[Any]: ...
    def pages(
        self,
        *segments: Segment,
        query: Mapping[str, Any] | None = None,
        item_type: Any = Any,
    ) -> Pages[Any]:
        """A list from an endpoint that has no method here: await it for a page, iterate it for all.

            async for trigger in management.pages("v1", "apps", app.id, "triggers"):
                ...

        An item with an `id` is returned once, even if it moves from one page to the next. A page
        without `pagination` is the last.

        Args:
            segments: as for `request`.
            query: as for `request`; `page` in it is the first page, 1 by default.
            item_type: what to decode each item to; any type that msgspec knows.

        Raises:
            InvalidArgumentError: an argument cannot be used. Awaiting and iterating raise what
                `request` raises.
        """
        return endpoints.listed(self._api, segments, query=query, item_type=item_type)

    def _with_api(self, api: Api) -> Self:
        view = copy.copy(self)
        view._api = api
        return view

    async def __aenter__(self) -> Self:
        await self._api.sender.prepare()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless this is a view. May be called any number of times."""
        if self._owner:
            await self._api.sender.aclose()

    def __del__(self) -> None:
        if self._owner and self._api.sender.abandon():
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

    def __deepcopy__(self, _: object) -> Self:
        """A view too, so that an object that holds a client can be deep-copied. A new client would
        only have the key of the environment, which may be another App's."""
        return copy.copy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        proxy = self._network.proxy
        settings = self._settings | {
            "proxy": proxy and without_userinfo(proxy),
            "timeout": self._api.options.timeout,
            "max_retries": self._api.options.policy.max_retries,
            "headers": without_secrets(self._api.headers),
        }
        return _rebuild, (type(self), self.url, self._api.sender.key is None, settings)


def _rebuild(kind: type[Client], url: str, public: bool, settings: dict[str, Any]) -> Client:
    """A client from a pickle: its settings, with the key that this process has."""
    # Without a key, requests fail with an error that says so. Unpickling must not.
    key = False if public or not kind._credential.is_set() else None
    named: dict[str, Any] = {kind._url_argument: url, kind._credential.argument: key}
    return kind(**named, **settings)


def api_of(client: Client) -> Api:
    """The `Api` by which `client` calls its service."""
    return client._api


def patient_view(client: C, given: RequestOptions, outage: Outage | None = None) -> C:
    """A view of `client` for one of many calls.

    Time that such a call waits for a slot, or because the server asked to slow down, does not count
    towards its time limit, and the wait is not a retry. The same holds for the time of an `outage`,
    in which it waits for a connection.
    """
    options = client._api.options.for_call(given._replace(retry=None))
    return client._with_api(client._api.view(options=options.for_many(outage)))
