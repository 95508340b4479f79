"""The WebSocket of an App: run after run on one connection, and questions answered on it.

It is experimental, since what is said on it is guessed, and needs the extra `websocket`.

A run ends with the workflow's final event, and then the socket is free for the next one. A close
before that is an error that says what is missing. What the messages look like is guessed in
`dynamiq_async.websocket.protocol`, and nowhere else.

The wire facts and their sources are in docs/contract.md.
"""

from dynamiq_async.websocket.protocol import SocketProtocol
from dynamiq_async.websocket.run import SocketRun
from dynamiq_async.websocket.socket import AppSocket

__all__ = ["AppSocket", "SocketProtocol", "SocketRun"]
