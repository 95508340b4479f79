"""Workflows of the vendor's library, as a user would write them. Their models are at MODEL_URL.

Each is a function, so that one can be made anew for each direct run.
"""

from __future__ import annotations

import os
from typing import Any

from dynamiq import Workflow
from dynamiq.connections import OpenAI as OpenAIConnection
from dynamiq.flows import Flow
from dynamiq.nodes.agents import Agent
from dynamiq.nodes.agents.hooks import ToolPolicyHook
from dynamiq.nodes.llms import OpenAI
from dynamiq.nodes.node import InputTransformer, NodeDependency
from dynamiq.nodes.tools.human_feedback import HumanFeedbackTool
from dynamiq.nodes.tools.python import Python
from dynamiq.nodes.utils import Input, Output
from dynamiq.prompts import Message, Prompt
from dynamiq.types.feedback import ApprovalConfig, FeedbackMethod
from dynamiq.types.streaming import StreamingConfig, StreamingMode

LOOKUP = """
def run(inputs):
    return {"tier": "pro", "id": str(inputs.get("customer_id"))}
"""
BOOM = """
def run(inputs):
    raise ValueError("boom from node")
"""
SEND = """
def run(inputs):
    return "sent to " + inputs["to"]
"""
STEP = """
import time

def run(inputs):
    time.sleep(0.5)
    return 0
"""
READ = """
def run(inputs):
    return [[file.name, file.getvalue().decode()] for file in inputs.get("files") or []]
"""


def _llm(id: str, text: str, **more: Any) -> OpenAI:
    return OpenAI(
        id=id,
        name=id,
        model="gpt-4o-mini",
        connection=OpenAIConnection(api_key="none", url=os.environ.get("MODEL_URL", "")),
        prompt=Prompt(messages=[Message(role="user", content=text)]),
        streaming=StreamingConfig(enabled=True, event="data"),
        **more,
    )


def _output(node: Any, **fields: str) -> Output:
    selector = {name: f"$.{node.id}.output.{path}" for name, path in fields.items()}
    return Output(
        id="output-1",
        depends=[NodeDependency(node)],
        input_transformer=InputTransformer(selector=selector),
    )


def _workflow(name: str, *nodes: Any) -> Workflow:
    return Workflow(id=f"wf-{name}", name=name, flow=Flow(id=f"flow-{name}", nodes=list(nodes)))


def _feedback(id: str, **more: Any) -> HumanFeedbackTool:
    more.setdefault("streaming", StreamingConfig(enabled=True))
    return HumanFeedbackTool(
        id=id,
        name=id,
        input_method=FeedbackMethod.STREAM,
        output_method=FeedbackMethod.STREAM,
        **more,
    )


def llm() -> Workflow:
    given = Input(id="input-1")
    model = _llm("llm-1", "{{question}}", depends=[NodeDependency(given)])
    return _workflow("llm", given, model, _output(model, output="content"))


def chat() -> Workflow:
    """What the chat widget asks for: its text is the field `input`."""
    model = _llm("llm-1", "{{input}}")
    return _workflow("chat", model, _output(model, output="content"))


def agent(**more: Any) -> Workflow:
    lookup = Python(id="lookup", name="lookup", description="Looks a customer up.", code=LOOKUP)
    helper = Agent(
        id="agent-1",
        name="Support Agent",
        role="You help customers.",
        llm=_llm("agent-llm", "{{input}}"),
        tools=[lookup],
        streaming=StreamingConfig(enabled=True, event="data", mode=StreamingMode.ALL),
        **more,
    )
    return _workflow("agent", helper, _output(helper, output="content"))


def parallel() -> Workflow:
    left, right = (_llm(f"llm-{side}", f"{side} {{{{question}}}}") for side in ("left", "right"))
    out = Output(
        id="output-1",
        depends=[NodeDependency(left), NodeDependency(right)],
        input_transformer=InputTransformer(
            selector={"left": "$.llm-left.output.content", "right": "$.llm-right.output.content"}
        ),
    )
    return _workflow("parallel", left, right, out)


def failing() -> Workflow:
    good = _llm("llm-ok", "ok")
    bad = Python(id="py-bad", name="bad", code=BOOM)
    return _workflow("failing", good, bad, _output(bad, output="content"))


def broken_model() -> Workflow:
    model = _llm("llm-1", "status 500")
    return _workflow("broken_model", model, _output(model, output="content"))


def approval() -> Workflow:
    email = Python(
        id="py-email",
        name="email",
        code=SEND,
        streaming=StreamingConfig(enabled=True),
        approval=ApprovalConfig(
            enabled=True,
            feedback_method=FeedbackMethod.STREAM,
            msg_template="Send to {{input_data.to}}?",
            mutable_data_params=["to"],
        ),
    )
    return _workflow("approval", email, _output(email, output="content"))


def feedback() -> Workflow:
    tell = _feedback("hf-info", action="info", msg_template="Working on {{topic}}")
    ask = _feedback(
        "hf-ask",
        action="ask",
        msg_template="Which scope for {{topic}}?",
        depends=[NodeDependency(tell)],
    )
    return _workflow("feedback", tell, ask, _output(ask, output="content"))


def structured() -> Workflow:
    ask = _feedback("hf-ask", action="ask")
    return _workflow("structured", ask, _output(ask, output="content", answers="answers"))


def pausing() -> Workflow:
    ask = _feedback("hf-ask", action="ask", streaming=StreamingConfig(enabled=True, timeout=0.5))
    return _workflow("pausing", ask, _output(ask, output="content"))


def guarded_agent() -> Workflow:
    """An agent whose hook wants each call of a tool approved."""
    hook = ToolPolicyHook(
        tools=["lookup"],
        approval=True,
        feedback_method=FeedbackMethod.STREAM,
        editable_params=["customer_id"],
    )
    return agent(hooks=[hook])


def files() -> Workflow:
    read = Python(id="py-read", name="read", code=READ)
    return _workflow("files", read, _output(read, output="content"))


def slow() -> Workflow:
    """One step after another, so that it can be canceled between two."""
    nodes: list[Any] = []
    for number in range(60):
        behind = [NodeDependency(nodes[-1])] if nodes else []
        nodes.append(Python(id=f"py-{number}", name=f"step {number}", code=STEP, depends=behind))
    return _workflow("slow", *nodes)


def plain() -> Workflow:
    """No Output node, so its callers get nothing."""
    return _workflow("plain", _llm("llm-1", "{{question}}"))


ready = llm()  # one object for all runs
