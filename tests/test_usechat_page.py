"""The Python code of docs/usechat.md runs as it stands there, and its backend serves a chat."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async import AsyncApp
from dynamiq_async.emulator import Emulator
from tests.support.frontends import UIReader

PAGE = Path(__file__).parent.parent / "docs" / "usechat.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def run(word: str, **names: Any) -> dict[str, Any]:
    """What the block that holds this word has made."""
    (block,) = (block for block in BLOCKS if word in block)
    exec(compile(block, PAGE.name, "exec"), names)
    return names


async def test_the_backend_serves_a_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.testclient import TestClient

    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Where is it?"}]}

    def visit() -> tuple[bytes, bytes, int]:
        api = run("FastAPI(")["api"]
        with TestClient(api) as page:
            ann = {"X-User": "ann"}
            body = {"id": "chat", "messages": [message]}
            answer = page.post("/api/chat", json=body, headers=ann)
            again = page.get("/api/chat/chat/stream", headers=ann)
            return answer.content, again.content, page.post("/api/chat", json=body).status_code

    async with Emulator("llm") as emulator:
        monkeypatch.setenv("DYNAMIQ_APP_URL", emulator.url)
        monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", str(emulator.access_key))
        answer, again, status = await asyncio.to_thread(visit)
    assert UIReader(7).read(answer).parts[1]["text"].endswith("Where is it?")
    assert again == answer
    assert status == 404


def test_the_filter_leaves_out_one_line() -> None:
    log = logging.getLogger("uvicorn.error")
    keep = run("addFilter")["unless_broken_on_purpose"]
    try:
        line = log.makeRecord("uvicorn.error", logging.ERROR, "", 0, "%s", ("x",), None)
        assert keep(line)
        line.args = ("ASGI callable returned without completing response.",)
        assert not keep(line)
    finally:
        log.removeFilter(keep)


def test_the_formats_work_without_the_routes() -> None:
    app = AsyncApp("http://127.0.0.1:9", access_key=False)
    answer = run("UIMessageStream(", AsyncApp=AsyncApp)["answer"]
    assert answer(app, "Where?").relay.headers["x-vercel-ai-ui-message-stream"] == "v1"
