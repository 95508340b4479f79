"""The Apps that pages talk to, beside the built-in ones. A page names one in a comment:

<!-- app: parcel -->
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamiq_async.emulator import RunContext


async def parcel(input: dict[str, Any], run: RunContext) -> dict[str, Any]:
    """Answers a question, or asks one first when it is to write to somebody."""
    if "to" in input:
        approval = await run.approve(f"Write to {input['to']}?", params={"to": input["to"]})
        return {"answer": "sent" if approval.approved else "not sent"}
    for piece in ("It is ", "on its way."):
        await run.text(piece, entity_id="llm-1")
    return {
        "llm-1": {"status": "success", "input": input, "output": {"content": "It is…"}},
        "output-1": {"status": "success", "input": {}, "output": {"answer": "It is…"}},
    }


APPS = {app.__name__: app for app in (parcel,)}
