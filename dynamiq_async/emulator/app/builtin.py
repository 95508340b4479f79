"""The Apps that come with the emulator, modelled on streams of real workflows.

| name | what it does |
|---|---|
| `echo` | returns its input, as it is, and saves the files that it is given |
| `llm` | streams a model's text about its input, with usage at the end |
| `agent` | reasons, uses a tool, reasons again, streams its reply |
| `parallel` | two models at once, their messages interleaved |
| `failing` | one node streams its text, another fails, and with it the workflow |
| `canceled` | is canceled before any node ran |
| `approval` | wants an email approved before it is sent |
| `feedback` | tells the person something, asks a question, and returns the answer |

An App that makes a text returns it as `output`, which the vendor's chat widget shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .execution import canceled_message, failed_message
from .messages import (
    LLMChunks,
    captured,
    llm_source,
    node_error,
    node_result,
    pieces,
)
from .outputs import WorkflowOutput
from .run_context import App, RunContext, WorkflowCanceledError, WorkflowFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping


def said(input: Mapping[str, Any]) -> str:
    """The first text of the input."""
    return next((value for value in input.values() if isinstance(value, str)), "nothing")


def reply(text: str) -> str:
    """The text that the built-in models stream."""
    return f"Hello from the emulator. You said: {text}"


async def echo(input: dict[str, Any], run: RunContext) -> Any:
    """Returns its input, and saves its files."""
    for file in run.files:
        run.save(file.name, file.read(), mime_type=file.mime_type)
    return {"output-1": node_result("success", input, input)}


async def llm(input: dict[str, Any], run: RunContext) -> Any:
    """A model's text about its input."""
    text = reply(said(input))
    chunks = LLMChunks()
    words = len(text.split())
    for chunk in (
        chunks.opening(),
        *map(chunks.text, pieces(text)),
        chunks.stop(),
        chunks.usage(prompt_tokens=11, completion_tokens=words),
    ):
        await run.emit(chunk, entity_id="llm-1", source=llm_source())
    nodes = {"llm-1": node_result("success", input, {"content": text})}
    return WorkflowOutput(nodes, {"output": text})


async def agent(input: dict[str, Any], run: RunContext) -> Any:
    """Reasons, uses a tool, reasons again, streams its reply."""
    answer = ""
    node: Any = {"entity_id": "agent-1"}
    for delta in captured("agent.jsonl"):
        step, content = delta["step"], delta["content"]
        if step == "answer":
            answer += content
            await run.text(content, **node)
        elif step == "tool":
            await run.tool_call(content["name"], content["input"], content["result"], **node)
        elif "action" not in content:  # `tool_call` sends the whole thought that has the action
            await run.reasoning(content["thought"], agent=delta["source"], **node)
    output = {"content": answer, "blocked": False}
    nodes = {"agent-1": node_result("success", input, output)}
    return WorkflowOutput(nodes, {"output": answer})


async def parallel(input: dict[str, Any], run: RunContext) -> Any:
    """Two models at once."""
    sides = {side: reply(f"{side} {said(input)}") for side in ("left", "right")}
    streams = {side: LLMChunks() for side in sides}
    texts = {side: pieces(text) for side, text in sides.items()}

    async def emit(side: str, chunk: Any) -> None:
        node = f"llm-{side}"
        source = llm_source(node, side.title())
        await run.emit(chunk, event=side, entity_id=node, source=source)

    for side in sides:
        await emit(side, streams[side].opening())
    while any(texts.values()):
        for side, text in texts.items():
            if text:
                await emit(side, streams[side].text(text.pop(0)))
    for side in sides:
        await emit(side, streams[side].stop())
    nodes = {
        f"llm-{side}": node_result("success", input, {"content": text})
        for side, text in sides.items()
    }
    return WorkflowOutput(nodes, sides)


async def failing(input: dict[str, Any], run: RunContext) -> Any:
    """One node streams its text, another fails."""
    text = reply("ok")
    for piece in pieces(text):
        await run.text(piece, entity_id="llm-ok", source=llm_source("llm-ok", "Ok"))
    failure = node_error(
        "ToolExecutionException", "Code execution error: boom from node", recoverable=True
    )
    skipped = node_error("NodeFailedException", "Dependency py-bad: failed")
    failed = node_result("failure", input, None, failure)
    nodes = {
        "llm-ok": node_result("success", input, {"content": text}),
        "py-bad": failed,
        "py-after": node_result("skip", {"py-bad": failed}, None, skipped),
    }
    raise WorkflowFailedError(failed_message("bad"), nodes)


async def canceled(input: dict[str, Any], run: RunContext) -> Any:
    """Is canceled before any node ran."""
    raise WorkflowCanceledError(canceled_message(run.app))


async def approval(input: dict[str, Any], run: RunContext) -> Any:
    """Wants an email approved before it is sent."""
    to = str(input.get("to", "ann@example.com"))
    params = {"to": to, "text": str(input.get("text", "hi"))}
    answer = await run.approve(
        f"Send to {to}?", params, editable=("to",), entity_id="py-email", event="approval"
    )
    if answer.approved:
        sent = {"content": f"sent to {answer.params['to']}"}
        nodes = {"py-email": node_result("success", dict(answer.params), sent)}
        return WorkflowOutput(nodes, {"output": sent["content"]})
    message = f"Execution was canceled by human with feedback {answer.feedback}"
    skipped = node_error("NodeSkippedException", message, recoverable=True)
    return WorkflowOutput({"py-email": node_result("skip", params, None, skipped)}, {})


async def feedback(input: dict[str, Any], run: RunContext) -> Any:
    """Tells the person something, asks a question, and returns the answer."""
    topic = str(input.get("topic", "sales"))
    note = f"Working on {topic}"
    await run.inform(note, entity_id="hf-info")
    answer = await run.ask(topic, entity_id="hf-ask")
    asked = {"action": "ask", "input": topic, "questions": None}
    nodes = {
        "hf-info": node_result("success", input, {"content": f"Message sent: {note}"}),
        "hf-ask": node_result("success", asked, {"content": answer}),
    }
    return WorkflowOutput(nodes, {"output": answer})


BUILTIN: Mapping[str, App] = {
    "echo": echo,
    "llm": llm,
    "agent": agent,
    "parallel": parallel,
    "failing": failing,
    "canceled": canceled,
    "approval": approval,
    "feedback": feedback,
}
