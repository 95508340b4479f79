"""An emulator of the whole service, for programs and tests: real sockets, scripted faults.

```python
from dynamiq_async.emulator import Emulator, Fault

async with Emulator("llm") as emulator:
    emulator.script(Fault(after_events=3, drop="reset"))
    ...  # talk to emulator.url with emulator.access_key
```

It responds as the vendor's documentation says, and streams what the vendor's library streams. Where
neither says anything it guesses, and the module that guesses says so (`app.root_endpoint`,
`app.outputs`, `app.run_events`).

The wire facts and their sources are in docs/contract.md.
"""

from .app import (
    BUILTIN,
    App,
    Approval,
    Delivery,
    Execution,
    Feedback,
    InputFile,
    NotAnAppError,
    Project,
    Question,
    Run,
    RunContext,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowOutput,
    agent_chunk,
    check_app,
    llm_source,
    node_error,
    node_result,
    node_source,
    tool_source,
)
from .core import (
    FOREVER,
    HTML_PAGE,
    DatabaseError,
    Fault,
    FaultRule,
    FaultRules,
    Log,
    Part,
    RequestRecord,
    read_fault,
)
from .emulator import DEFAULT_KEY, Emulator
from .flowy import Flowy, FlowyApp, FlowyContent, FlowyFailedError
from .management import DEFAULT_ORG, DEFAULT_PROJECT, DEFAULT_TOKEN, DEFAULT_USER, ManagedApp
from .tape import Player, Recorder, TapeError, TapeServer

__all__ = [
    "BUILTIN",
    "DEFAULT_KEY",
    "DEFAULT_ORG",
    "DEFAULT_PROJECT",
    "DEFAULT_TOKEN",
    "DEFAULT_USER",
    "FOREVER",
    "HTML_PAGE",
    "App",
    "Approval",
    "DatabaseError",
    "Delivery",
    "Emulator",
    "Execution",
    "Fault",
    "FaultRule",
    "FaultRules",
    "Feedback",
    "Flowy",
    "FlowyApp",
    "FlowyContent",
    "FlowyFailedError",
    "InputFile",
    "Log",
    "ManagedApp",
    "NotAnAppError",
    "Part",
    "Player",
    "Project",
    "Question",
    "Recorder",
    "RequestRecord",
    "Run",
    "RunContext",
    "TapeError",
    "TapeServer",
    "WorkflowCanceledError",
    "WorkflowFailedError",
    "WorkflowOutput",
    "agent_chunk",
    "check_app",
    "llm_source",
    "node_error",
    "node_result",
    "node_source",
    "read_fault",
    "tool_source",
]
