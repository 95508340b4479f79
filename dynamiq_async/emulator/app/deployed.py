"""The Apps of an emulator, from what it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .builtin import BUILTIN
from .state import deployments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .run_context import App
    from .state import Deployment


def deployed(default: str | App, apps: Mapping[str, str | App]) -> dict[str, Deployment]:
    """The Apps by name, the built-in ones among them; the default one's is empty.

    Raises `ValueError` for the name of a built-in App that is none.
    """
    named = {**BUILTIN, **{name: _app(given) for name, given in apps.items()}}
    return deployments(_app(default), named)


def _app(given: str | App) -> App:
    if not isinstance(given, str):
        return given
    if given not in BUILTIN:
        raise ValueError(f"no such App: {given!r}; there are {', '.join(BUILTIN)}")
    return BUILTIN[given]
