"""`AsyncManagement`: finds deployed Apps, and makes clients for them by name or id.

Besides arguments, it reads the settings of the vendor's own command line, so that users of that
need no others: environment variables, then the files `config.json` and `credentials.json` in
`$XDG_CONFIG_HOME/dynamiq`. The management API's token is sent only to that API. Calls to an App use
an Access Key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload
from uuid import UUID

from dynamiq_async import errors
from dynamiq_async._credentials import Credential, hidden, is_personal
from dynamiq_async._http.client import ClientOptions
from dynamiq_async._http.endpoints import request_of
from dynamiq_async._http.request_options import CallOptions
from dynamiq_async._http.urls import parse_base_url
from dynamiq_async.app import KEY_VARIABLE, AppOptions, AsyncApp
from dynamiq_async.downloads import DownloadingClient
from dynamiq_async.management.accounts import Orgs, Projects, User, fetch_user
from dynamiq_async.management.apps import Apps
from dynamiq_async.management.artifacts import Artifacts
from dynamiq_async.management.lists import MAX_PAGE_SIZE
from dynamiq_async.management.models import App, choose_app, describe_app
from dynamiq_async.management.sessions import Sessions
from dynamiq_async.management.settings import (
    ORGANISATION,
    PROJECT,
    TOKEN,
    TOKEN_VARIABLE,
    URL,
)
from dynamiq_async.management.traces import Traces
from dynamiq_async.options import Timeout, check_id
from dynamiq_async.streaming import EndpointStream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping

    from dynamiq_async._http.endpoints import Segment
    from dynamiq_async.sse import ServerSentEvent

E = TypeVar("E")

DEFAULT_URL = "https://api.getdynamiq.ai"

DEFAULT_TIMEOUT = Timeout(first_byte=30.0, idle=30.0)
"""The time limit, in seconds. No workflow runs here, so silence means trouble. The vendor's
command line waits as long."""


class AsyncManagement(DownloadingClient):
    """The management API.

        async with AsyncManagement() as management:
            async for app in management.apps.list():
                print(app.name, app.hostname)
            async with management.open("Support bot") as app:
                await app.invoke({"question": "…"})

    Args:
        base_url: by default from `DYNAMIQ_API_BASE_URL` or `DYNAMIQ_API_HOST`, then `api_host` in
            `credentials.json`, then the vendor's own. `https` is assumed.
        token: by default from `DYNAMIQ_API_TOKEN` or `DYNAMIQ_API_KEY`, then `api_key` in
            `credentials.json`. False sends none, such as behind a proxy that adds it.
        project_id: the project whose Apps are listed; by default from `DYNAMIQ_PROJECT_ID`, then
            `project_id` in `config.json`.
        max_downloads: how many artifacts are downloaded at once. Downloads use neither the token
            nor the headers nor the `session` of this client, but its `transport`.

    The other arguments are those of `AsyncApp`. By default, the client waits 30 s for a response.

    Raises:
        InvalidArgumentError: an argument or a file that is needed cannot be used.
    """

    _credential = Credential(
        "token",
        "token",
        TOKEN_VARIABLE,
        purpose=" for the management API",
        personal=True,
        find=TOKEN.find,
    )

    def __init__(
        self,
        base_url: str | None = None,
        *,
        token: str | Literal[False] | None = None,
        project_id: str | UUID | None = None,
        max_downloads: int = 8,
        **options: Unpack[ClientOptions],
    ) -> None:
        token = hidden(token)
        url = base_url if base_url is not None else URL.find() or DEFAULT_URL
        project = None if project_id is None else check_id(project_id, "project_id")
        options.setdefault("timeout", DEFAULT_TIMEOUT)
        super().__init__(url, token, max_downloads=max_downloads, **options)
        self._settings["project_id"] = project

    @property
    def apps(self) -> Apps:
        """The deployed Apps."""
        return Apps(self._api, lambda: self.project_id)

    @property
    def artifacts(self) -> Artifacts:
        """The files that runs have made."""
        return Artifacts(self._api, self._downloader)

    @property
    def traces(self) -> Traces:
        """The traces of calls: their inputs, outcomes and costs."""
        return Traces(self._api)

    @property
    def sessions(self) -> Sessions:
        """The conversations that Apps have had."""
        return Sessions(self._api)

    @property
    def orgs(self) -> Orgs:
        """The organisations that the token can access."""
        return Orgs(self._api)

    @property
    def projects(self) -> Projects:
        """The projects that the token can access."""
        return Projects(self._api)

    async def me(self, **options: Unpack[CallOptions]) -> User:
        """The user that the token belongs to.

        Args:
            options: `timeout` and `max_retries`, instead of the client's.

        Raises:
            AuthenticationError: the token is not accepted.
            PermissionDeniedError: the token is valid, but belongs to no user, such as the token of
                a service account (seen in the vendor's command line).

        And what else `AsyncApp.invoke` raises.
        """
        return await fetch_user(self._api, **options)

    @overload
    def events(
        self,
        method: str,
        *segments: Segment,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        retry: bool | None = None,
    ) -> EndpointStream[ServerSentEvent]: ...
    @overload
    def events(
        self,
        method: str,
        *segments: Segment,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        event_type: type[E],
        retry: bool | None = None,
    ) -> EndpointStream[E]: ...
    def events(
        self,
        method: str,
        *segments: Segment,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        event_type: Any = None,
        retry: bool | None = None,
    ) -> EndpointStream[Any]:
        """Read the event stream of an endpoint that has no method here, with this client's token,
        retries, limits and errors.

            path = ("v3", "conversations", id, "messages")
            async with management.events("POST", *path, body=…, event_type=RunEvent) as events:
                async for event in events:
                    print(event.text, end="")

        The stream ends when the HTTP body is complete, or at an event that `is_final`, as
        a `RunEvent` may be (the vendor documents that messages of conversations look like run
        events, but not which one is the last). Set the time limits of one stream by
        `with_options`. By default, a silence of 30 s ends the stream.

        Args:
            method, segments, query, body, retry: as for `request`.
            event_type: the type to decode each event's data to; any type that msgspec knows. By
                default, events are `ServerSentEvent`s, whose data is a text.

        Raises:
            InvalidArgumentError: an argument cannot be used. Nothing was sent.

        Iterating raises StreamInterruptedError if the body is not complete or has no event,
        ContentTypeError if it is not an event stream, EventDecodeError if an event does not fit the
        type, and what `request` raises.
        """
        request = request_of(
            self._api, method, segments, query=query, body=body, retry=retry, stream=True
        )
        return EndpointStream(self._api, request, event_type)

    @property
    def project_id(self) -> str | None:
        """The project whose Apps are listed, if one is set.

        Raises:
            InvalidArgumentError: the file that may hold it cannot be read.
        """
        return self._settings["project_id"] or PROJECT.find()

    @property
    def org_id(self) -> str | None:
        """The organisation whose projects are listed, if one is set: from `DYNAMIQ_ORG_ID`, then
        `org_id` in `config.json`.

        Raises:
            InvalidArgumentError: the file that may hold it cannot be read.
        """
        return ORGANISATION.find()

    async def find(self, app: App | str | UUID, *, project_id: str | UUID | None = None) -> App:
        """The App with an id, a name or a hostname.

        Args:
            app: its id (a UUID), its name, or its hostname or URL. If no name is equal, upper and
                lower case do not matter.
            project_id: the project to search, except for an id; by default the client's project.

        Raises:
            InvalidArgumentError: no App, or more than one, has that name, and the message lists the
                Apps. Or no project is set, and the message lists the projects.
            NotFoundError: no App has that id.

        And what else `apps.list` raises.
        """
        if isinstance(app, App):
            return app
        if _is_uuid(app):
            return await self.apps.get(app)
        name = check_id(app, "app")
        listed = self.apps.list(
            project_id=project_id, include_archived=True, page_size=MAX_PAGE_SIZE, prefetch=True
        )
        async with listed as found:
            return choose_app(name, [one async for one in found])

    def open(
        self,
        app: App | str | UUID,
        *,
        project_id: str | UUID | None = None,
        **options: Unpack[AppOptions],
    ) -> Opening:
        """A client for an App: `async with management.open(…) as app:`, or await it and close the
        client yourself.

        Calls to the App use an Access Key, from `access_key` or `DYNAMIQ_ACCESS_KEY`, and never
        this client's token. A public App needs no key. `transport`, `verify`, `proxy`, `trust_env`
        and `allow_http` are by default this client's. Its `session` is not passed on.

        Args:
            app: an `App`, or what `find` takes.
            project_id: the project in which to search a name; by default the client's project.
            options: the arguments of `AsyncApp`.

        Raises:
            InvalidArgumentError: on entering or awaiting: the App is archived, was never deployed
                or has a hostname that cannot be called; or there is no Access Key, or it looks like
                a Personal Access Token.

        And what `find` raises.
        """

        options = {**options, "access_key": hidden(options.get("access_key"))}

        async def make() -> AsyncApp:
            found = await self.find(app, project_id=project_id)
            arguments: dict[str, Any] = {"allow_http": self._settings["allow_http"], **options}
            # A session, and the user's own transport, have their own network settings.
            if arguments.get("session") is None and isinstance(
                arguments.get("transport"), str | None
            ):
                arguments = self._network._replace(session=None)._asdict() | arguments
            arguments["access_key"] = _access_key(options.get("access_key"), found)
            return AsyncApp(_app_url(found, allow_http=arguments["allow_http"]), **arguments)

        return Opening(make)


class Opening:
    """What `AsyncManagement.open` returns: enter it, or await it, for an `AsyncApp`.

    Entering or awaiting it makes a new client. After leaving it, you can enter it again.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, AsyncApp]]) -> None:
        self._make = make
        self._entered: list[AsyncApp] = []

    def __await__(self) -> Generator[Any, None, AsyncApp]:
        return self._make().__await__()

    async def __aenter__(self) -> AsyncApp:
        client = await self._make()
        if self._entered:  # otherwise leaving could not know which client to close
            raise errors.DynamiqError("this was entered already; call open() for another client")
        self._entered.append(client)
        return client

    async def __aexit__(self, *_: object) -> None:
        await self._entered.pop().aclose()


def _is_uuid(value: object) -> bool:
    """Whether the text has the form of an id. 32 hexadecimal digits without dashes are a name."""
    text = str(value).lower()
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _access_key(given: str | Literal[False] | None, app: App) -> str | Literal[False] | None:
    """The key for the App's own host."""
    if given is False:
        return False
    key = given if given is not None else hidden(os.environ.get(KEY_VARIABLE))
    if isinstance(key, str) and is_personal(key):
        raise errors.InvalidArgumentError(
            "access_key looks like a Personal Access Token, which is for the management API and "
            "never sent to an App: use an Access Key (dynamiq_acc_…)",
            argument="access_key",
        )
    return False if not key and app.is_public else key


def _app_url(app: App, *, allow_http: bool) -> str:
    """The URL to call the App at.

    Raises:
        InvalidArgumentError: the App cannot be called.
    """
    if app.is_archived:
        raise errors.InvalidArgumentError(
            f"the App {describe_app(app)} was archived at {app.archived_at} and takes no calls; "
            "restore it, or choose another",
            argument="app",
        )
    if not app.hostname:
        raise errors.InvalidArgumentError(
            f"the App {describe_app(app)} has no hostname yet: deploy it first", argument="app"
        )
    try:
        return parse_base_url(app.hostname, allow_http=allow_http, argument="hostname")
    except errors.InvalidArgumentError as error:
        raise errors.InvalidArgumentError(
            f"the App {describe_app(app)} cannot be called: its {error.message}", argument="app"
        ) from None
