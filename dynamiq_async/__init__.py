"""The asyncio client SDK for Dynamiq Apps.

from dynamiq_async import AsyncApp

async with AsyncApp("my-app.apps.us-east-1.getdynamiq.ai") as app:
    answer = await app.invoke({"question": "What can you do?"})
    async for event in app.stream({"question": "What can you do?"}):
        print(event.text, end="")
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dynamiq_async import errors
from dynamiq_async._http.paging import Page
from dynamiq_async._http.uploads import Upload
from dynamiq_async._version import __version__
from dynamiq_async.app import AsyncApp
from dynamiq_async.batch import Map, StreamMany
from dynamiq_async.batch.models import BatchProgress, MapFailure, MapResult, MapSuccess, StreamItem
from dynamiq_async.errors import DynamiqError, ToolError
from dynamiq_async.events import Event, Question, RunEvent, StreamEvent, ToolCall, Usage
from dynamiq_async.files import File
from dynamiq_async.options import Adaptive, Timeout
from dynamiq_async.requirements import ConnectLink, Requirement, RequirementsStatus
from dynamiq_async.runs.models import Run
from dynamiq_async.runs.questions import QuestionEvent, RunQuestion
from dynamiq_async.runs.resumption import Gap
from dynamiq_async.runs.stream import RunStream
from dynamiq_async.streaming.app_stream import AppStream
from dynamiq_async.submission import Accepted, Callback

if TYPE_CHECKING:
    from dynamiq_async.flowy import (
        AsyncFlowy,
        FlowyApp,
        FlowyArity,
        FlowyAsset,
        FlowyCredits,
        FlowyGeneration,
        FlowyInput,
        FlowyOutput,
        FlowyOutputSpec,
        FlowyRun,
    )
    from dynamiq_async.management import App, Artifact, AsyncManagement, Trace
    from dynamiq_async.websocket import AppSocket, SocketRun

# Imported with their first use, so that programs that only call an App start faster.
_LATER = {
    "App": "management",
    "AppSocket": "websocket",
    "Artifact": "management",
    "AsyncFlowy": "flowy",
    "AsyncManagement": "management",
    "FlowyApp": "flowy",
    "FlowyArity": "flowy",
    "FlowyAsset": "flowy",
    "FlowyCredits": "flowy",
    "FlowyGeneration": "flowy",
    "FlowyInput": "flowy",
    "FlowyOutput": "flowy",
    "FlowyOutputSpec": "flowy",
    "FlowyRun": "flowy",
    "SocketRun": "websocket",
    "Trace": "management",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


__all__ = [
    "Accepted",
    "Adaptive",
    "App",
    "AppSocket",
    "AppStream",
    "Artifact",
    "AsyncApp",
    "AsyncFlowy",
    "AsyncManagement",
    "BatchProgress",
    "Callback",
    "ConnectLink",
    "DynamiqError",
    "Event",
    "File",
    "FlowyApp",
    "FlowyArity",
    "FlowyAsset",
    "FlowyCredits",
    "FlowyGeneration",
    "FlowyInput",
    "FlowyOutput",
    "FlowyOutputSpec",
    "FlowyRun",
    "Gap",
    "Map",
    "MapFailure",
    "MapResult",
    "MapSuccess",
    "Page",
    "Question",
    "QuestionEvent",
    "Requirement",
    "RequirementsStatus",
    "Run",
    "RunEvent",
    "RunQuestion",
    "RunStream",
    "SocketRun",
    "StreamEvent",
    "StreamItem",
    "StreamMany",
    "Timeout",
    "ToolCall",
    "ToolError",
    "Trace",
    "Upload",
    "Usage",
    "__version__",
    "errors",
]
