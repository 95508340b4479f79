"""An emulator of the whole service, for programs and tests: real sockets, scripted faults.

```python
from dynamiq_async.emulator import Emulator, Fault

async with Emulator("llm") as emulator:
    emulator.script(Fault(after_events=3, drop="reset"))
    ...  # talk to emulator.url with emulator.access_key
```

It answers as the vendor's documentation says, streams what the vendor's library streams, and
where neither says anything, makes a guess that is named as such in one place (`root`, `runs`).
"""

from .app.builtin import BUILTIN
from .app.callbacks import Delivery
from .app.execution import Execution
from .app.files_api import InputFile
from .app.messages import agent_chunk, llm_source, node_error, node_result, node_source, tool_source
from .app.run_context import (
    App,
    Approval,
    Question,
    RunContext,
    WorkflowCanceledError,
    WorkflowFailedError,
)
from .app.runs import Run
from .core.faults import FOREVER, HTML_PAGE, Fault
from .core.log import Log, RequestRecord
from .core.request_bodies import Part
from .emulator import DEFAULT_KEY, Emulator
from .flowy.api import Flowy
from .flowy.apps import FlowyApp, FlowyContent, FlowyFailedError
from .management.api import DEFAULT_PROJECT, DEFAULT_TOKEN, ManagedApp

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
