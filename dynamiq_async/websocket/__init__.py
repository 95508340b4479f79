"""The WebSocket of an App: one connection for runs one after another and for answers to questions.

It is experimental, because its messages are our guess, and needs the extra `websocket`.

A run ends with the workflow's final event, and then the socket is free for the next one. A close
before that is an error that says what is missing. The module `dynamiq_async.websocket.protocol`
contains all guesses about the messages.

The wire facts and their sources are in docs/contract.md.
"""

from dynamiq_async.websocket.protocol import SocketProtocol
from dynamiq_async.websocket.run import SocketRun
from dynamiq_async.websocket.socket import AppSocket

__all__ = ["AppSocket", "SocketProtocol", "SocketRun"]
