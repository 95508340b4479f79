"""A language model on this machine: OpenAI's chat completions, as far as the library asks for them.

What it says follows from what it is told: the last thing said, or for an agent first a call of the
tool `lookup`, and then what it has found. A model that is told `status 500` fails so.
"""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

CALL = 'Thought: I should look it up.\nAction: lookup\nAction Input: {"customer_id": "7421"}\n'
ANSWER = "Thought: I know it now.\nAnswer: The customer is on the pro tier."


class Model:
    """The server, in a thread. `url` is what a connection of the library is given."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Model:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(messages: list[dict[str, Any]]) -> str:
    """What the model says."""
    told = "\n".join(_text(message["content"]) for message in messages)
    if "Action Input" not in told:
        return f"Hello from the stub. You said: {_text(messages[-1]['content'])}"
    return ANSWER if "Observation" in _text(messages[-1]["content"]) else CALL


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or [])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = re.search(r"status (\d+)$", _text(body["messages"][-1]["content"]))
        if status:
            self._send(int(status[1]), "application/json", b'{"error": {"message": "no luck"}}')
            return
        text = reply(body["messages"])
        if body.get("stream"):
            self._send(200, "text/event-stream", _events(text))
        else:
            choice = {"index": 0, "finish_reason": "stop"}
            message = {"role": "assistant", "content": text}
            whole = _chunk("chat.completion", {**choice, "message": message})
            self._send(200, "application/json", json.dumps(whole).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _events(text: str) -> bytes:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += ({"content": text[start : start + 7]} for start in range(0, len(text), 7))
    chunks = [
        _chunk("chat.completion.chunk", {"index": 0, "delta": delta, "finish_reason": None})
        for delta in deltas
    ]
    chunks.append(
        _chunk("chat.completion.chunk", {"index": 0, "delta": {}, "finish_reason": "stop"})
    )
    lines = [*map(json.dumps, chunks), "[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def _chunk(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    head = {"id": "chatcmpl-stub", "object": kind, "created": 1795303986, "model": "gpt-4o-mini"}
    return {**head, "choices": [choice], "usage": usage if kind == "chat.completion" else None}
