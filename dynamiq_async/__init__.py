"""The asyncio client SDK for Dynamiq Apps.

from dynamiq_async import AsyncApp

async with AsyncApp("my-app.apps.us-east-1.getdynamiq.ai") as app:
    answer = await app.invoke({"question": "What can you do?"})
    async for event in app.stream({"question": "What can you do?"}):
        print(event.text, end="")
"""

from dynamiq_async import errors
from dynamiq_async._cursor import Gap
from dynamiq_async._version import __version__
from dynamiq_async.app import AsyncApp
from dynamiq_async.errors import DynamiqError
from dynamiq_async.events import StreamEvent
from dynamiq_async.models import Accepted, Callback
from dynamiq_async.options import Timeout
from dynamiq_async.questions import Question, QuestionEvent
from dynamiq_async.run_stream import RunStream
from dynamiq_async.runs_models import File, InputRequest, Page, Run, RunEvent
from dynamiq_async.streams import AppStream
from dynamiq_async.uploads import Upload

__all__ = [
    "Accepted",
    "AppStream",
    "AsyncApp",
    "Callback",
    "DynamiqError",
    "File",
    "Gap",
    "InputRequest",
    "Page",
    "Question",
    "QuestionEvent",
    "Run",
    "RunEvent",
    "RunStream",
    "StreamEvent",
    "Timeout",
    "Upload",
    "__version__",
    "errors",
]
