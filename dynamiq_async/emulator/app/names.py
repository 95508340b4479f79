"""The names of Apps, and their hostnames.

Each of the vendor's Apps has a hostname. Here the App `support` has the hostname
`support.localhost`; at any other hostname of the emulator it has the path `/support`. Names under
`.localhost` are this machine (RFC 6761, 6.3).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from ..core.hosts import name_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .state import Deployment

_SUFFIX = ".localhost"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TAKEN = ("", "v1", ".", "..", "_ui", "_emulator")  # by the default App, paths and the inspector


def can_be_named(name: str) -> bool:
    """Whether a name can be an App's own path segment."""
    return not (name in _TAKEN or "/" in name or name.startswith("~"))


def check_name(name: str) -> None:
    """Raises ValueError for a name that an App cannot have."""
    if not can_be_named(name):
        raise ValueError(
            f"{name!r} cannot be the name of an App: it is a part of its URL, which has no slash, "
            "does not begin with ~, and is not v1, _ui or _emulator"
        )


class AppNames:
    """Finds the App for a hostname or a path.

    Args:
        deployments: the Apps by their names, "" for the default one; this may change.
        others: hostnames of the emulator itself.
    """

    def __init__(self, deployments: Mapping[str, Deployment], others: Collection[str]) -> None:
        self._deployments = deployments
        self._others = {name.lower() for name in others}

    def at(self, host: str | None) -> str | None:
        """The name of the App that a `Host` is for; such an App may not exist. None if the path
        decides."""
        name = (name_of(host or "") or "").removesuffix(".")
        label = name.removesuffix(_SUFFIX)
        if label == name or "." in label or name in self._others:
            return None
        found = self._by_label(label)
        return label if found is None else found

    def of(self, segment: str) -> str | None:
        """The name of the App whose path begins with this segment, which is percent-encoded; None
        if there is none."""
        name = unquote(segment)
        return name if name and name in self._deployments else None

    def without_app(self, host: str | None) -> str | None:
        """A `Host` without the name of an App. The services that an App links to are there."""
        return host if self.at(host) is None else (host or "").partition(".")[2]

    def shown(self, name: str) -> str:
        """The name of an App in the records that tests see."""
        return self._deployments[name].name if name in self._deployments else name

    def url_for(self, name: str, url: str, *, hostname: bool) -> str:
        """The URL of an App; `url` is that of the emulator.

        Raises KeyError if there is no such App, ValueError if it has no hostname.
        """
        if name not in self._deployments:
            raise KeyError(name)
        if not hostname:
            return f"{url}/{quote(name, safe='')}" if name else url
        parts = urlsplit(url)
        return f"{parts.scheme}://{self._label_of(name)}{_SUFFIX}:{parts.port}"

    def _label_of(self, name: str) -> str:
        label = (name or self._deployments[name].name).lower()
        if not _LABEL.fullmatch(label) or self._by_label(label) != name:
            raise ValueError(f"{name!r} is no name of a host: the App is reached by its path only")
        return label

    def _by_label(self, label: str) -> str | None:
        """The App with this first label of a hostname. Hostnames ignore case, so the first of two
        Apps gets it. The default App has the name of its function, unless another App has it."""
        if label in self._deployments:
            return label
        names = (name for name in self._deployments if name.lower() == label)
        default = "" if self._deployments[""].name.lower() == label else None
        return next(names, default)
