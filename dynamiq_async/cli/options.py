"""The options that several commands share, and what they mean to the SDK."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from dynamiq_async.app import KEY_VARIABLE, URL_VARIABLE, AsyncApp
from dynamiq_async.cli import inputs
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.management.client import AsyncManagement
from dynamiq_async.management.settings import TOKEN_VARIABLE, is_configured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECTION = Group("Connection", sort_key=20)
CALL = Group("Call", sort_key=10)
OUTPUT = Group("Output", sort_key=15)
OTHER = Group("Other", sort_key=30)


def commands(name: str, help: str) -> App:
    """A command that is a group of subcommands."""
    group = App(name=name, help=help, version_flags=(), suppress_keyboard_interrupt=False)
    group["--help"].help = "Show this and exit."
    return group


_HOST = re.compile(
    r"\S*:\S*|(localhost|\d+(\.\d+){3}|[^\s/]+\.[^\W\d_][^\s/.]*\.?)(/\S*)?", re.IGNORECASE
)
"""Matches a host or a URL. Any other text is the name or id of an App.

A name may have dots and slashes, but no colon (seen in the vendor's command line). In a host, the
part after the last dot begins with a letter, unless the host is an IP address.
"""


def _is_name(app: str) -> bool:
    """Whether the text is the name or id of an App, to look up by the management API.

    Raises:
        InvalidArgumentError: it can only be a name or id, and there is no token to look it up.
    """
    if _HOST.fullmatch(app):
        return False
    configured = is_configured()
    if not configured and len(app.split()) > 1:
        raise InvalidArgumentError(
            f"{app!r} is no host; to call an App by its name, set {TOKEN_VARIABLE}",
            argument="host_or_url",
        )
    return configured


@Parameter(name="*", group=CONNECTION)
@dataclass(frozen=True)
class Network:
    """How to connect to a service."""

    allow_http: Annotated[
        bool, Parameter(help="Send the key over plain http to other machines too.")
    ] = False
    ca_file: Annotated[
        Path | None,
        Parameter(help="CA certificates to trust instead of the system's (a file or folder)."),
    ] = None
    proxy: Annotated[str | None, Parameter(help="The URL of an HTTP proxy.")] = None
    trust_env: Annotated[
        bool, Parameter(help="Take the proxy from HTTPS_PROXY, HTTP_PROXY and NO_PROXY.")
    ] = False

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the clients."""
        return {
            "allow_http": self.allow_http,
            "verify": self.ca_file,
            "proxy": self.proxy,
            "trust_env": self.trust_env,
        }


DEFAULT_NETWORK = Network()


@Parameter(name="*", group=CONNECTION)
@dataclass(frozen=True)
class Connection:
    """Which App to call, and how to connect to it."""

    app: Annotated[
        str | None,
        Parameter(
            name="--app",
            env_var=URL_VARIABLE,
            help="The App's hostname or URL, or, where `dynamiq-async apps list` works, its name "
            "or id.",
        ),
    ] = None
    key_file: Annotated[
        Path | None,
        Parameter(
            name="--key-file",
            help=f"A file that holds the access key. Without it, the key is taken from "
            f"{KEY_VARIABLE}.",
        ),
    ] = None
    public: Annotated[
        bool, Parameter(name="--public", help="The App is public: send no access key.")
    ] = False
    network: Network = DEFAULT_NETWORK

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncApp]:
        """A client for the App. It is closed at the end.

        Raises:
            InvalidArgumentError: no App or no key is given, or one of them cannot be used.
            DynamiqError: the App was named, and the management API did not return its host.
        """
        if self.app and _is_name(self.app):
            client = await self._open_by_name(self.app)
        else:
            client = AsyncApp(self.app, access_key=self.key(), **self.network.arguments())
        async with client:
            yield client

    async def _open_by_name(self, name: str) -> AsyncApp:
        try:
            async with AsyncManagement(**self.network.arguments()) as management:
                app = await management.find(name)
                key = self.key(public=app.is_public)
                return await management.open(app, access_key=key)
        except InvalidArgumentError as error:
            if error.argument in ("app", "project_id"):
                error.argument = "host_or_url"  # which is `--app`, as given to this command
            raise

    def key(self, *, public: bool = False) -> str | Literal[False]:
        """The key to send. False (send none) for a `public` App if no key is given."""
        if self.public:
            return False
        key = os.environ.get(KEY_VARIABLE)
        if self.key_file is not None:
            key = inputs.read_file(self.key_file, "key_file").decode(errors="replace").strip()
            if not key:
                raise InvalidArgumentError(f"{self.key_file} is empty", argument="key_file")
        if not key and public:
            return False
        if not key:
            raise InvalidArgumentError(
                f"no access key: set {KEY_VARIABLE}, name a file with --key-file, or pass "
                "--public for a public App"
            )
        return key


@Parameter(name="*", group=CALL)
@dataclass(frozen=True)
class Limits:
    """How long a call may take, and how often it may be tried."""

    timeout: Annotated[
        float | None, Parameter(help="Seconds for the whole call. [default: no such limit]")
    ] = None
    max_retries: Annotated[
        int | None,
        Parameter(help="How often to repeat a request that the App certainly did not accept."),
    ] = None
    retry: Annotated[
        bool | None,
        Parameter(
            negative="--no-retry",
            help="The call is safe to run twice: repeat it also when its outcome is unknown. "
            "With --no-retry, nothing is ever repeated.",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `AsyncApp`'s calls."""
        return {name: value for name, value in vars(self).items() if value is not None}


@Parameter(name="*", group=CALL)
@dataclass(frozen=True)
class Call(Limits):
    """The fields that go with the input of any call."""

    file: Annotated[tuple[Path, ...], Parameter(help="A file to send along. May be repeated.")] = ()
    user_id: Annotated[str | None, Parameter(help="Whom the call belongs to.")] = None
    session_id: Annotated[
        str | None, Parameter(help="The conversation that the call belongs to.")
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `AsyncApp`'s calls."""
        given = super().arguments()
        files = list(given.pop("file"))
        return {**given, "files": files} if files else given


@Parameter(name="*", group=CALL)
@dataclass(frozen=True)
class NodeOptions:
    """Options about the workflow's nodes, for calls that wait for the result."""

    last_node_output: Annotated[
        bool | None, Parameter(help="Return only the last node's output.")
    ] = None
    error_on_node_failure: Annotated[
        bool | None, Parameter(help="A failed node makes the call fail.")
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `AsyncApp`'s calls."""
        return vars(self)


DEFAULT_CONNECTION = Connection()
DEFAULT_LIMITS = Limits()
DEFAULT_CALL = Call()
DEFAULT_NODES = NodeOptions()

Input = Annotated[
    str,
    Parameter(
        allow_leading_hyphen=True,
        help="The fields of the workflow's Input node: a JSON object, `@FILE`, or `-` for stdin.",
    ),
]

RunId = Annotated[str, Parameter(help="The run's id.")]
