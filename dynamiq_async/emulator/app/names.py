"""The names of Apps, and the hostnames that they are reached by.

The vendor's Apps each have a hostname. Here `support.localhost` is that of the App `support`, which
is at the path `/support` of any other name as well. Names under `.localhost` are this machine (RFC
6761, 6.3).
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
    """Whether a name can be a part of a path of its own."""
    return not (name in _TAKEN or "/" in name or name.startswith("~"))


def check_name(name: str) -> None:
    """Raises ValueError for a name that an App cannot have."""
    if not can_be_named(name):
        raise ValueError(
            f"{name!r} cannot be the name of an App: it is a part of its URL, which has no slash, "
            "does not begin with ~, and is not v1, _ui or _emulator"
        )


class AppNames:
    """Which App a hostname is for.

    Args:
        deployments: the Apps by their names, "" for the default one; it may change.
        others: hostnames of the emulator itself.
    """

    def __init__(self, deployments: Mapping[str, Deployment], others: Collection[str]) -> None:
        self._deployments = deployments
        self._others = {name.lower() for name in others}

    def at(self, host: str | None) -> str | None:
        """The name of the App that a `Host` is for, which there may be none of; None where the path
        decides."""
        name = (name_of(host or "") or "").removesuffix(".")
        label = name.removesuffix(_SUFFIX)
        if label == name or "." in label or name in self._others:
            return None
        found = self._by_label(label)
        return label if found is None else found

    def of(self, segment: str) -> str | None:
        """The name of the App whose path begins with this segment, which is not decoded; None where
        there is none."""
        name = unquote(segment)
        return name if name and name in self._deployments else None

    def without_app(self, host: str | None) -> str | None:
        """A `Host` without the name of an App: where the services are that an App links to."""
        return host if self.at(host) is None else (host or "").partition(".")[2]

    def shown(self, name: str) -> str:
        """What an App is called in what a test sees."""
        return self._deployments[name].name if name in self._deployments else name

    def url_for(self, name: str, url: str, *, hostname: bool) -> str:
        """The URL of an App, where `url` is that of the emulator.

        Raises KeyError without such an App, ValueError where it has no hostname.
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
        """The App of a label. Case does not count in hostnames, so of two the first has it; the
        default App has it by the name of its function, unless another App is called so."""
        if label in self._deployments:
            return label
        names = (name for name in self._deployments if name.lower() == label)
        default = "" if self._deployments[""].name.lower() == label else None
        return next(names, default)
