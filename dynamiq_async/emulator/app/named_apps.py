"""The Apps of an emulator, from the arguments of `Emulator`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .builtin import BUILTIN
from .names import check_name
from .signatures import check_app
from .state import deployments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .run_context import App
    from .state import Deployment


def named_apps(default: str | App, apps: Mapping[str, str | App]) -> dict[str, Deployment]:
    """The Apps by name, including the built-in ones; the name of the default App is empty.

    Raises:
        NotAnAppError: one of them cannot be an App.
        ValueError: there is no such built-in App, or a name is not allowed.
    """
    for name in apps:
        check_name(name)
    named = {**BUILTIN, **{name: _app(given) for name, given in apps.items()}}
    return deployments(_app(default), named)


def _app(given: str | App) -> App:
    if not isinstance(given, str):
        check_app(given)
        return given
    if given not in BUILTIN:
        raise ValueError(f"no such App: {given!r}; there are {', '.join(BUILTIN)}")
    return BUILTIN[given]
