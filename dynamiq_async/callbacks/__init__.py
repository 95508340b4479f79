"""Receives callbacks: the results of submitted calls, which Apps post.

`CallbackReceiver` is for web backends: it is an ASGI application (Starlette, FastAPI, ...), and has
a handler for aiohttp's server and a method for any other framework. `CallbackInbox` is for programs
that wait for the results of their own calls. Both use `CallbackVerifier`, which needs no network.

No web framework is imported before it is used.

The wire facts and their sources are in docs/contract.md.
"""

from .inbox import CallbackInbox
from .receiver import CallbackReceiver
from .results import CallbackResult
from .sqlite import SQLiteStore
from .stores import CallbackStore, Claim, MemoryStore
from .verifier import CallbackRefusedError, CallbackReply, CallbackVerifier

__all__ = [
    "CallbackInbox",
    "CallbackReceiver",
    "CallbackRefusedError",
    "CallbackReply",
    "CallbackResult",
    "CallbackStore",
    "CallbackVerifier",
    "Claim",
    "MemoryStore",
    "SQLiteStore",
]
