"""The management API's Apps, as plain data.

The vendor documents the fields. Any may be missing or null, so every field has a default. Unknown
fields are ignored, and a field of an unexpected type is left out, so that a caller still gets the
rest. Times are RFC 3339 texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct, structs

from dynamiq_async import _json
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_SHOWN_NAMES = 8  # how many the message about an unknown name lists


class AccessControl(Struct, frozen=True, kw_only=True):
    """Who may call an App. `access_type` is `private` (needs an Access Key) or `public`."""

    access_type: str | None = None


class AppRuntime(Struct, frozen=True, kw_only=True):
    """The runtime of an App."""

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
    """The version of the workflow that an App was deployed from."""

    id: str | None = None
    version: str | int | None = None
    description: str | None = None
    workflow_id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class App(Struct, frozen=True, kw_only=True):
    """A deployed App, as the management API describes it.

    Attributes:
        hostname: the host to call, with or without `https://`. It selects the App, and stays the
            same across redeployments. An App that was never deployed has none.
        access_control: who may call it.
        archived_at, archived_by: set if the App is archived. Such an App accepts no calls.
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
        """Whether it was archived."""
        return bool(self.archived_at)

    @property
    def is_public(self) -> bool:
        """Whether it can be called without an Access Key."""
        return self.access_control is not None and self.access_control.access_type == "public"


_PARTS: Mapping[str, type[Struct]] = {
    "access_control": AccessControl,
    "runtime": AppRuntime,
    "workflow": AppWorkflow,
    "workflow_version": AppWorkflowVersion,
}


def app_of(data: Raw) -> App:
    """An App as it came, without fields of an unexpected type.

    Raises one of `_json.DECODE_ERRORS` if it is not an object.
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
    """The App with a name or a hostname. An archived App counts only if no other App has it.

    Raises:
        InvalidArgumentError: there is no such App, or more than one. The message lists the Apps.
    """
    same = [app for app in apps if name in (app.name, app.id)] or [
        app for app in apps if (app.name or "").casefold() == name.casefold()
    ]
    same = same or [app for app in apps if app.hostname and _host(app.hostname) == _host(name)]
    candidates = [app for app in same if not app.is_archived] or same
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise InvalidArgumentError(
            f"{len(candidates)} Apps are called {name!r}; use the id of one: "
            f"{', '.join(map(describe_app, candidates))}",
            argument="app",
        )
    import difflib  # imported here, since most programs never need it

    names = sorted({app.name for app in apps if app.name and not app.is_archived})
    shown = difflib.get_close_matches(name, names, n=_SHOWN_NAMES, cutoff=0.0)
    more = f", and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    there = f"there are {', '.join(map(repr, shown))}{more}" if shown else "it has no Apps"
    raise InvalidArgumentError(f"the project has no App called {name!r}: {there}", argument="app")


def _host(text: str) -> str:
    """A hostname or URL in a form to compare: without `https://` and a slash at the end."""
    return text.rpartition("://")[2].rstrip("/").lower()


def describe_app(app: App) -> str:
    """An App's name and id, for messages."""
    return " ".join(filter(None, (repr(app.name) if app.name else "", f"({app.id})")))
