"""From an App to a browser: streams as the bodies of a web backend's responses.

    from dynamiq_async.relay import resume
    from dynamiq_async.relay.starlette import RelayResponse

    @api.get("/events")
    async def events(run: str, request: Request):
        return RelayResponse(resume(app.runs, run, request.headers))

`relay` is the core, for any framework: an async iterator of bytes with a status and headers.
`dynamiq_async.relay.starlette` (FastAPI, too), `.aiohttp` and `.asgi` send it. What the bytes look
like is a format's business; `dynamiq_async.relay.formats` has ours, and what yours is made of.

It promises:

- The browser gets the end, or is told that there is none. It goes on where it was, if it was a run.
- The upstream is closed within a second after the browser has left, whatever was going on. Only
  for a run that is to be canceled and has not told its id it is read on, for five at most.
- A slow browser slows the upstream; nothing piles up in between.
- What the browser is told of an error names no host, no key and nothing of the run.
"""

from dynamiq_async.relay.core import Relay, relay
from dynamiq_async.relay.position import Position, resume, resume_position

__all__ = ["Position", "Relay", "relay", "resume", "resume_position"]
