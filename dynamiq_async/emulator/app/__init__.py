"""A deployed App: its endpoints, its runs, its callbacks and files.

| to find | look in |
|---|---|
| what an App's code uses | `run_context`, `questions`, `messages`, `outputs`, `builtin` |
| how it is called | `signatures`, `input_types` |
| the root endpoint | `root_endpoint`, `root_streaming`, `callbacks` |
| the WebSocket | `websocket` |
| runs | `runs`, `run_events`, `runs_api` |
| files, and accounts of end users | `files_api`, `requirements_api` |
| names, paths, and Access Keys | `names`, `named_apps`, `routes`, `projects` |
| what outlives a restart | `storage`, `recovery`, `replay` |
"""

from .builtin import BUILTIN
from .callbacks import Delivery
from .execution import Execution
from .input_files import InputFile
from .messages import agent_chunk, llm_source, node_error, node_result, node_source, tool_source
from .outputs import WorkflowOutput
from .projects import Project
from .questions import Approval, Feedback, Question
from .run_context import App, RunContext, WorkflowCanceledError, WorkflowFailedError
from .runs import Run
from .signatures import NotAnAppError, check_app

__all__ = [
    "BUILTIN",
    "App",
    "Approval",
    "Delivery",
    "Execution",
    "Feedback",
    "InputFile",
    "NotAnAppError",
    "Project",
    "Question",
    "Run",
    "RunContext",
    "WorkflowCanceledError",
    "WorkflowFailedError",
    "WorkflowOutput",
    "agent_chunk",
    "check_app",
    "llm_source",
    "node_error",
    "node_result",
    "node_source",
    "tool_source",
]
