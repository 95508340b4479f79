"""Pages run without a network: a connection or a look-up that leaves this machine is an error.

As a script it runs a program, or a module by `-m`, in such a process:

    python tests/docs/loopback.py program.py
"""

from __future__ import annotations

import runpy
import socket
import sys
from typing import Any

_HERE = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "", None}


class NoNetworkError(AssertionError):
    """Code of a page wanted to leave this machine."""


def check(host: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name not in _HERE and not str(name).startswith("127."):
        raise NoNetworkError(f"the network is not there for code of the documentation: {name}")


class LoopbackSocket(socket.socket):
    """Connects to this machine only."""

    def connect(self, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(address[0])
        super().connect(address)


_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host: Any, *given: Any, **options: Any) -> Any:
    check(host)
    return _getaddrinfo(host, *given, **options)


PATCHES = {"socket": LoopbackSocket, "getaddrinfo": getaddrinfo}


def _run(arguments: list[str]) -> None:
    for name, patch in PATCHES.items():
        setattr(socket, name, patch)
    if arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], ""
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, ""
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    _run(sys.argv[1:])
