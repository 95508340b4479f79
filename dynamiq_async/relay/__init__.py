"""Sends an App's stream to a browser, as the body of a web backend's response.

    from dynamiq_async.relay import resume
    from dynamiq_async.relay.starlette import RelayResponse

    @api.get("/events")
    async def events(run: str, request: Request):
        return RelayResponse(resume(app.runs, run, request.headers))

For pages with `useChat` (the AI SDK) or AG-UI, the adapters' `chat_routes` makes all endpoints.

`relay` is the core, for any framework: an async iterator of bytes with a status and headers.
`dynamiq_async.relay.starlette` (also for FastAPI), `.aiohttp` and `.asgi` send it. A format encodes
the events; `dynamiq_async.relay.formats` has the built-in ones and the base class for your own.

A relay promises:

- The browser receives the end of the stream, or an error that says that the stream is incomplete.
  A browser that reconnects to a run's stream continues where it was.
- The upstream is closed within a second after the browser has disconnected. There is one exception:
  if the run is to be canceled and its id is not known yet, the upstream is read for the id, for
  five seconds at most.
- A slow browser slows the upstream; memory use is bounded.
- The errors that the browser receives name no host, no key and no details of the run.
"""

from dynamiq_async.relay.chat import Chat, ChatAnswer, ChatFile, Start, session_for
from dynamiq_async.relay.chat_requests import read_run_agent_input, read_ui_request
from dynamiq_async.relay.core import Relay, relay
from dynamiq_async.relay.position import Headers, Position, resume, resume_position
from dynamiq_async.relay.problems import ErrorReply, RefusedRequestError, error_reply

__all__ = [
    "Chat",
    "ChatAnswer",
    "ChatFile",
    "ErrorReply",
    "Headers",
    "Position",
    "RefusedRequestError",
    "Relay",
    "Start",
    "error_reply",
    "read_run_agent_input",
    "read_ui_request",
    "relay",
    "resume",
    "resume_position",
    "session_for",
]
