"""The frames of RFC 6455, by the sans-IO protocol of `websockets`. Only this module imports it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dynamiq_async.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.client import ClientProtocol
    from websockets.frames import Frame

# Frames hold users' texts, which must not be logged.
_SILENT = logging.Logger("dynamiq_async.websocket", logging.CRITICAL + 1)


def check_installed() -> None:
    """Raises:
    MissingExtraError: `websockets` is not installed.
    """
    try:
        import websockets.client  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "app.connect() needs the package websockets: pip install 'dynamiq-async[websocket]'"
        ) from error


def open_protocol(max_size: int, on_close: Callable[[bytes], bytes]) -> ClientProtocol:
    """The protocol of a client's frames, after the handshake.

    Args:
        max_size: the most bytes that a message may have.
        on_close: called with the payload of a close frame; returns the payload of the reply.
    """
    from websockets.client import ClientProtocol
    from websockets.frames import Opcode
    from websockets.protocol import State
    from websockets.uri import parse_uri

    class Frames(ClientProtocol):
        """Accepts any close frame, because servers send codes that the standard forbids."""

        def recv_frame(self, frame: Frame) -> None:
            if frame.opcode is Opcode.CLOSE:
                frame.data = on_close(bytes(frame.data))
            super().recv_frame(frame)

        def fail(self, code: int, reason: str = "") -> None:
            super().fail(code)  # without a reason: the code is enough

    return Frames(parse_uri("ws://unused/"), state=State.OPEN, max_size=max_size, logger=_SILENT)
