"""The names of Apps, and the hostnames that they are reached by.

The vendor's Apps each have a hostname. Here `support.localhost` is that of the App `support`, which
is at the path `/support` of any other name as well. Names under `.localhost` are this machine (RFC
6761, 6.3).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.hosts import name_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .state import Deployment

_SUFFIX = ".localhost"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TAKEN = ("v1", ".", "..")  # of the default App, and of paths


def check_name(name: str) -> None:
    """Raises ValueError for a name that cannot be a part of a path."""
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise ValueError(
            f"{name!r} cannot be the name of an App: it is a part of its URL, of letters, digits "
            f"and ._-, and none of {', '.join(_TAKEN)}"
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

    def without_app(self, host: str | None) -> str | None:
        """A `Host` without the name of an App: where the services are that an App links to."""
        return host if self.at(host) is None else (host or "").partition(".")[2]

    def shown(self, name: str) -> str:
        """What an App is called in what a test sees."""
        return self._deployments[name].name if name in self._deployments else name

    def label_of(self, name: str) -> str:
        """The label of the hostname of an App.

        Raises ValueError where the App has none: it is reached by its path.
        """
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
