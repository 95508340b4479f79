"""The agents' frameworks take a tool as it is: its answer, its scrubbed error and its timeout reach
the model. openai-agents and google-genai are looked at where they are installed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import pytest
from msgspec import Meta, Struct

from tests.support.run_apps import waits

if TYPE_CHECKING:
    from dynamiq_async.emulator import RunContext
    from tests.runs.conftest import Serve

Tool = Callable[..., Coroutine[Any, Any, Any]]


class Options(Struct):
    lang: str = "en"


class Question(Struct):
    question: Annotated[str, Meta(description="What to ask.")]
    options: Options | None = None


async def answering(input: dict[str, Any], run: RunContext) -> Any:
    lang = (input["options"] or {}).get("lang")
    return f"in {lang}: {input['question']}"


class Framework(NamedTuple):
    """How a framework describes a tool, and how it calls one."""

    schema: Callable[[Tool], dict[str, Any]]
    call: Callable[[Tool, dict[str, Any]], Awaitable[str]]
    tells: bool = True  # whether what it raises says what the tool's error says
    nests: bool = True  # whether it takes objects within the arguments, of no pydantic model


def pydantic_ai() -> Framework:
    from pydantic_ai import Agent, models
    from pydantic_ai import Tool as AgentTool
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.models.function import FunctionModel

    models.ALLOW_MODEL_REQUESTS = False

    async def call(tool: Tool, arguments: dict[str, Any]) -> str:
        def model(messages: Any, info: Any) -> ModelResponse:
            last = messages[-1].parts[-1]
            if isinstance(last, ToolReturnPart):
                return ModelResponse(parts=[TextPart(str(last.content))])
            return ModelResponse(parts=[ToolCallPart("support_bot", arguments)])

        return (await Agent(FunctionModel(model), tools=[tool]).run("go")).output

    return Framework(lambda tool: AgentTool(tool).tool_def.parameters_json_schema, call)


def langchain() -> Framework:
    from langchain_core.tools import StructuredTool

    def made(tool: Tool) -> Any:
        return StructuredTool.from_function(coroutine=tool, parse_docstring=True)

    async def call(tool: Tool, arguments: dict[str, Any]) -> str:
        found: str = await made(tool).ainvoke(arguments)
        return found

    return Framework(lambda tool: made(tool).args_schema.model_json_schema(), call)


def anthropic() -> Framework:
    from anthropic import beta_async_tool

    async def call(tool: Tool, arguments: dict[str, Any]) -> str:
        return str(await beta_async_tool(tool).call(arguments))

    return Framework(lambda tool: dict(beta_async_tool(tool).to_dict()["input_schema"]), call)


def mcp() -> Framework:
    from mcp.server import MCPServer
    from mcp_types import TextContent

    def made(tool: Tool) -> MCPServer:
        server = MCPServer("test")
        server.add_tool(tool)
        return server

    def schema(tool: Tool) -> dict[str, Any]:
        return made(tool)._tool_manager.list_tools()[0].parameters

    async def call(tool: Tool, arguments: dict[str, Any]) -> str:
        result: Any = await made(tool).call_tool("support_bot", arguments)
        (content,) = result.content
        assert isinstance(content, TextContent)
        return content.text

    return Framework(schema, call, tells=False)


def openai_agents() -> Framework:
    agents = pytest.importorskip("agents", reason="openai-agents is not installed")
    context = pytest.importorskip("agents.tool_context")

    async def call(tool: Tool, arguments: dict[str, Any]) -> str:
        given = context.ToolContext(
            context=None, tool_name="support_bot", tool_call_id="1", tool_arguments="{}"
        )
        made = agents.function_tool(tool, failure_error_function=None)
        filled = json.dumps({"options": None, **arguments})
        return str(await made.on_invoke_tool(given, filled))

    return Framework(lambda tool: dict(agents.function_tool(tool).params_json_schema), call)


def google_genai() -> Framework:
    types = pytest.importorskip("google.genai.types", reason="google-genai is not installed")
    utils = pytest.importorskip("google.genai._extra_utils")

    def schema(tool: Tool) -> dict[str, Any]:
        declared = types.FunctionDeclaration.from_callable_with_api_option(
            callable=tool, api_option="GEMINI_API"
        )
        found: dict[str, Any] = declared.parameters.model_dump(exclude_none=True)
        return found

    async def call(tool: Tool, arguments: dict[str, Any]) -> str:
        return str(await utils.invoke_function_from_dict_args_async(arguments, tool))

    return Framework(schema, call, nests=False)


MAKERS = (pydantic_ai, langchain, anthropic, mcp, openai_agents, google_genai)


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def framework(request: pytest.FixtureRequest) -> Framework:
    make: Callable[[], Framework] = request.param
    return make()


async def test_the_schema_has_the_fields(serve: Serve, framework: Framework) -> None:
    tool = (await serve(answering)).app.tool("support_bot", "Asks.", input=Question)
    schema = framework.schema(tool)
    assert set(schema["properties"]) == {"question", "options"}
    assert "question" in schema["required"]


async def test_the_answer_arrives(serve: Serve, framework: Framework) -> None:
    tool = (await serve(answering)).app.tool("support_bot", "Asks.", input=Question)
    assert "in None: Where?" in await framework.call(tool, {"question": "Where?"})
    given = {"question": "Where?", "options": {"lang": "de"}}
    if framework.nests:
        assert "in de: Where?" in await framework.call(tool, given)


async def test_the_error_is_scrubbed(serve: Serve, framework: Framework) -> None:
    tool = (await serve("failing")).app.tool("support_bot", "Asks.", input=Question)
    told = await failure(framework, tool)
    assert ("support_bot ran and failed. It did run" in told) is framework.tells
    assert "127.0.0.1" not in told
    assert "boom" not in told


async def test_the_timeout_arrives(serve: Serve, framework: Framework) -> None:
    served = await serve(waits)
    tool = served.app.tool(
        "support_bot", "Asks.", input=Question, mode="run", on_leave="cancel", timeout=0.3
    )
    told = await failure(framework, tool)
    assert ("support_bot did not answer in time. It may have run" in told) is framework.tells
    assert len(served.asked("/cancel")) == 1


async def test_an_error_that_is_returned_reaches_every_model(
    serve: Serve, framework: Framework
) -> None:
    served = await serve("failing")
    tool = served.app.tool("support_bot", "Asks.", input=Question, on_error="return")
    told = await framework.call(tool, {"question": "Where?"})
    assert told.startswith("support_bot ran and failed.")


async def failure(framework: Framework, tool: Tool) -> str:
    """What a framework says of a tool that raises."""
    with pytest.raises(Exception, match="support_bot") as caught:
        await framework.call(tool, {"question": "Where?"})
    return str(caught.value)
