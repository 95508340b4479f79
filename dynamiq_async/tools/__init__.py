"""An App as a tool of an agent: a plain typed function that the frameworks accept directly."""

from dynamiq_async.tools.parameters import Inputs, inputs_of
from dynamiq_async.tools.tool import (
    OnEvent,
    Tool,
    ToolOptions,
    check_name,
    error_text,
    make_tool,
    text_of_output,
)

__all__ = [
    "Inputs",
    "OnEvent",
    "Tool",
    "ToolOptions",
    "check_name",
    "error_text",
    "inputs_of",
    "make_tool",
    "text_of_output",
]
