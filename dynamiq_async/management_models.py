"""What the management API says of Apps, and what an App says of its users' accounts, as plain data.

Any field may be missing or null, by the vendor's own word, so every one has a default. What is not
foreseen never keeps a caller from what is there: unknown fields are ignored, and a field of another
type than expected is left out. Times are RFC 3339 texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct, structs

from dynamiq_async import _json
from dynamiq_async._secret import MASK
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHOWN_NAMES = 8  # of the Apps that there are, where the one asked for is not among them


class AccessControl(Struct, frozen=True, kw_only=True):
    """Who may call an App: `access_type` is `private` (who has an Access Key) or `public`."""

    access_type: str | None = None


class AppRuntime(Struct, frozen=True, kw_only=True):
    """What an App runs on."""

    id: str | None = None
    version: str | int | None = None
    label: str | None = None


class AppWorkflow(Struct, frozen=True, kw_only=True):
    """The workflow that an App was deployed from."""

    id: str | None = None
    name: str | None = None
    description: str | None = None
    status: str | None = None
    project_id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class AppWorkflowVersion(Struct, frozen=True, kw_only=True):
    """The version of that workflow."""

    id: str | None = None
    version: str | int | None = None
    description: str | None = None
    workflow_id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class App(Struct, frozen=True, kw_only=True):
    """A deployed App, as the management API describes it.

    Attributes:
        hostname: where it is called, with or without `https://`; it selects the App and is stable
            across redeployments. An App that was never deployed has none.
        access_control: who may call it.
        archived_at, archived_by: an archived App takes no calls.
    """

    id: str | None = None
    name: str | None = None
    description: str | None = None
    project_id: str | None = None
    hostname: str | None = None
    runtime_id: str | None = None
    workflow_id: str | None = None
    workflow_version_id: str | None = None
    latest_deployment_id: str | None = None
    deployment_config: dict[str, Any] | None = None
    access_control: AccessControl | None = None
    created_at: str | None = None
    created_by: Any = None
    updated_at: str | None = None
    updated_by: Any = None
    archived_at: str | None = None
    archived_by: Any = None
    runtime: AppRuntime | None = None
    workflow: AppWorkflow | None = None
    workflow_version: AppWorkflowVersion | None = None

    @property
    def is_archived(self) -> bool:
        """Whether it was put away."""
        return bool(self.archived_at)

    @property
    def is_public(self) -> bool:
        """Whether it is called without an Access Key."""
        return self.access_control is not None and self.access_control.access_type == "public"


class Requirement(Struct, frozen=True, kw_only=True):
    """An account that each end user of an App has to connect.

    That there is a `title`, for the user to read, is seen in the vendor's command line; `type` and
    `description` are our guess.
    """

    id: str | None = None
    title: str | None = None
    type: str | None = None
    description: str | None = None


class RequirementsStatus(Struct, frozen=True, kw_only=True):
    """What one end user has still to connect.

    Attributes:
        unsatisfied: the requirements that are open; a run for the user fails before it starts as
            long as there are any.
    """

    unsatisfied: list[Requirement] = []

    @property
    def is_satisfied(self) -> bool:
        """Whether nothing is open."""
        return not self.unsatisfied


class ConnectLink(Struct, frozen=True, kw_only=True):
    """Where one end user connects their accounts: for that person and nobody else.

    Attributes:
        url: works once, and for minutes. It is a secret, so no repr shows it.
        expires_at: until when (our guess: not documented).
    """

    url: str
    expires_at: str | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, str | None]]:
        return [("url", MASK), ("expires_at", self.expires_at)]


_PARTS: Mapping[str, type[Struct]] = {
    "access_control": AccessControl,
    "runtime": AppRuntime,
    "workflow": AppWorkflow,
    "workflow_version": AppWorkflowVersion,
}


def app_of(data: Raw) -> App:
    """An App as it came, without the fields that are of an unforeseen type.

    Raises one of `_json.DECODE_ERRORS` when it is no object.
    """
    try:
        return _json.decode_with(_decode_app, data)
    except msgspec.ValidationError:
        content = _json.decode(data, dict[str, Any])
    parts = {
        name: _json.fitting(content.pop(name), kind)
        for name, kind in _PARTS.items()
        if isinstance(content.get(name), dict)
    }
    return structs.replace(_json.fitting(content, App), **parts)


_decode_app = msgspec.json.Decoder(App).decode


def choose_app(name: str, apps: Sequence[App]) -> App:
    """The App of a name. An archived one only counts where no other has the name.

    Raises:
        InvalidArgumentError: there is none, or several; the message says which there are.
    """
    same = [app for app in apps if name in (app.name, app.id)] or [
        app for app in apps if (app.name or "").casefold() == name.casefold()
    ]
    candidates = [app for app in same if not app.is_archived] or same
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise InvalidArgumentError(
            f"{len(candidates)} Apps are called {name!r}; use the id of one: "
            f"{', '.join(map(told, candidates))}",
            argument="app",
        )
    import difflib  # only here: most programs never get this far

    names = sorted({app.name for app in apps if app.name and not app.is_archived})
    shown = difflib.get_close_matches(name, names, n=_SHOWN_NAMES, cutoff=0.0)
    more = f", and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    there = f"there are {', '.join(map(repr, shown))}{more}" if shown else "it has no Apps"
    raise InvalidArgumentError(f"the project has no App called {name!r}: {there}", argument="app")


def told(app: App) -> str:
    """An App in a message."""
    return " ".join(filter(None, (repr(app.name) if app.name else "", f"({app.id})")))


class _Status(Struct):
    unsatisfied: list[Any] | None


class _Link(Struct):
    url: Annotated[str, Meta(min_length=1)]


def requirements_of(data: Any) -> list[Requirement]:
    """A list of requirements, each of them an object or (our guess) only an id. A null is none.

    Raises msgspec.ValidationError when it is no list: a shape that is not known must not pass for
    "there are none".
    """
    given = msgspec.convert(data, list[Any] | None) or []
    found = (item if isinstance(item, dict) else {"id": item} for item in given)
    return [_json.fitting(item, Requirement) for item in found]


def status_of(data: Any) -> RequirementsStatus:
    """What is unsatisfied. Raises msgspec.ValidationError when it is not said."""
    status = msgspec.convert(data, _Status)
    return RequirementsStatus(unsatisfied=requirements_of(status.unsatisfied))


def link_of(data: Any) -> ConnectLink:
    """A link. Raises msgspec.ValidationError when there is none."""
    msgspec.convert(data, _Link)
    return _json.fitting(data, ConnectLink)
