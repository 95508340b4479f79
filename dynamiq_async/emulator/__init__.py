"""An emulator of the whole service, for programs and tests: real sockets, scripted faults.

```python
from dynamiq_async.emulator import Emulator, Fault

async with Emulator("llm") as emulator:
    emulator.script(Fault(after_events=3, drop="reset"))
    ...  # talk to emulator.url with emulator.access_key
```

It answers as the vendor's documentation says, streams what the vendor's library streams, and
where neither says anything, makes a guess that is named as such in one place (`root`, `runs`).

The wire facts and their sources are in docs/contract.md.
"""

from .apps import (
    App,
    Approval,
    Question,
    RunContext,
    WorkflowCanceledError,
    WorkflowFailedError,
)
from .bodies import Part
from .builtin import BUILTIN
from .callbacks import Delivery
from .execution import Execution
from .faults import FOREVER, HTML_PAGE, Fault
from .files import InputFile
from .flowy import Flowy
from .flowy_apps import FlowyApp, FlowyContent, FlowyFailedError
from .log import Log, RequestRecord
from .management import DEFAULT_PROJECT, DEFAULT_TOKEN, ManagedApp
from .messages import agent_chunk, llm_source, node_error, node_result, node_source, tool_source
from .runs import Run
from .server import DEFAULT_KEY, Emulator

__all__ = [
    "BUILTIN",
    "DEFAULT_KEY",
    "DEFAULT_PROJECT",
    "DEFAULT_TOKEN",
    "FOREVER",
    "HTML_PAGE",
    "App",
    "Approval",
    "Delivery",
    "Emulator",
    "Execution",
    "Fault",
    "Flowy",
    "FlowyApp",
    "FlowyContent",
    "FlowyFailedError",
    "InputFile",
    "Log",
    "ManagedApp",
    "Part",
    "Question",
    "RequestRecord",
    "Run",
    "RunContext",
    "WorkflowCanceledError",
    "WorkflowFailedError",
    "agent_chunk",
    "llm_source",
    "node_error",
    "node_result",
    "node_source",
    "tool_source",
]
