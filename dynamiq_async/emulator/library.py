"""Workflows of the vendor's library as Apps: the whole HTTP contract in front of your workflow.

```python
from dynamiq_async.emulator import Emulator
from dynamiq_async.emulator.library import WorkflowApp

async with Emulator(WorkflowApp(workflow)) as emulator: ...
```

Each run has its own thread and its own copy of the workflow, because a flow of the library holds
the state of its run. Messages are passed on unchanged and in order, and the workflow waits while
the reader is too slow. A question of the workflow becomes a `Question`, and its answer goes back to
the node that asked. The workflow is canceled when the client leaves or the run is canceled; the
current node ends first. A run that waits for a person for longer than the node's
`streaming.timeout` pauses at a checkpoint, and resumes from there.

Files are passed as `input["files"]`, each a `BytesIO` with a name; this is our guess. A workflow
without an Output node returns nothing to its callers, as the library's own checker says.

The extra `dynamiq` installs the library. It needs its own environment, because it is large and
excludes newer releases of packages that other extras need. This module works only with the real
library, so `.ci/vendor` tests it; what it passes on is tested without the library.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError as FutureCancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import msgspec

from .app.messages import is_workflows_own
from .app.outputs import WorkflowOutput
from .app.questions import Approval, Question, is_question
from .app.run_context import WorkflowCanceledError, WorkflowFailedError

if TYPE_CHECKING:
    from .app.questions import Answer
    from .app.run_context import RunContext

INSTALL = (
    "the vendor's library is not installed: pip install 'dynamiq-async[cli,dynamiq]', in an "
    "environment of its own (Python 3.11), because it excludes what the extra mcp needs"
)

_OUTPUT = "dynamiq.nodes.utils.Output"
_LOOK_SECONDS = 0.5  # how often a workflow that waits for its reader checks whether it has left


class LibraryMissingError(ImportError):
    """The vendor's library is not installed; the message says how to install it."""


def check_installed() -> None:
    """Import the library, which takes some seconds. Raises `LibraryMissingError`."""
    try:
        import dynamiq  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "dynamiq":
            raise
        raise LibraryMissingError(INSTALL) from error


def is_workflow(value: Any) -> bool:
    """Whether a value is a workflow of the library."""
    modules = (kind.__module__ for kind in type(value).__mro__)
    library = any(module.partition(".")[0] == "dynamiq" for module in modules)
    return library and hasattr(value, "run_sync") and hasattr(value, "flow")


def from_yaml(path: str | Path, id: str | None = None) -> WorkflowApp:
    """A workflow from a YAML file as an App.

    Args:
        id: the id of the workflow, if the file has several.

    Raises:
        LibraryMissingError: the library is not installed.
        ValueError: the file has no such workflow.
    """
    check_installed()
    from dynamiq import Workflow

    return WorkflowApp(Workflow.from_yaml_file(str(path), wf_id=id, init_components=True))


class WorkflowApp:
    """A workflow of the library as an App of the emulator.

    Args:
        workflow: the workflow, which is copied for each run, or a function that makes one.
        name: the name of the App; by default that of the workflow.

    Raises:
        LibraryMissingError: the library is not installed.
    """

    def __init__(self, workflow: Any, *, name: str | None = None) -> None:
        check_installed()
        self._workflow = workflow
        self.__name__: str = name or str(getattr(workflow, "name", None) or "workflow")

    def fresh(self) -> Any:
        """A workflow for one run."""
        if not is_workflow(self._workflow):
            return self._workflow()
        return self._workflow.model_copy(update={"flow": self._workflow.flow.clone()})

    @property
    def has_output(self) -> bool:
        """Whether it has an Output node. Without one, callers get nothing."""
        return any(node.type == _OUTPUT for node in self.fresh().flow.nodes)

    async def __call__(self, input: dict[str, Any], run: RunContext) -> WorkflowOutput:
        """Run the workflow."""
        return await _Running(self.fresh(), input, run).to_its_end()


@dataclass(eq=False)
class _Asked:
    """A question, and whether a node waits for its answer right now."""

    question: Question
    message: Mapping[str, Any]
    waiting: bool = True
    answer: Answer | None = None

    def fits(self, message: Mapping[str, Any]) -> bool:
        """Whether a resumed node asks this again. An agent's request has a new id then."""
        return _without_id(self.message) == _without_id(message)


@dataclass(eq=False)
class _Running:
    """One run of a workflow.

    Attributes:
        left: set once nobody wants the run any more.
        asked: its questions that are unanswered, or whose answer a paused node has yet to take.
        own: the workflow's own message, once it has come.
    """

    workflow: Any
    input: dict[str, Any]
    run: RunContext
    left: threading.Event = field(default_factory=threading.Event)
    asked: list[_Asked] = field(default_factory=list)
    own: Mapping[str, Any] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        from dynamiq.runnables import RunnableConfig

        self.loop = asyncio.get_running_loop()
        self.queues = dict(_open_queues(self.workflow))
        self.checkpoint = self._checkpoint()
        handler = _handler(self._send, self._timed_out)
        self.config = RunnableConfig(
            run_id=self.run.id, callbacks=[handler], checkpoint=self.checkpoint
        )

    def _checkpoint(self) -> Any:
        """How the run saves checkpoints, to pause. A root stream pauses only if its flow does."""
        from dynamiq.checkpoints.backends.in_memory import InMemory
        from dynamiq.checkpoints.config import CheckpointConfig

        flow = self.workflow.flow
        if flow.checkpoint.enabled:
            return flow.checkpoint
        pauses = self.queues or any(_kind(node) == "Delay" for node in flow.nodes)
        if not pauses or self.run.kind != "run":
            return None
        return CheckpointConfig(enabled=True, backend=InMemory())  # the flow's own is disabled

    async def to_its_end(self) -> WorkflowOutput:
        """Run the workflow to its end, across its pauses."""
        try:
            result = await self._in_thread(self.input, None)
            while (checkpoint := self._paused_at(result)) is not None:
                self.own = None
                self.run.pause(checkpoint.id)
                await self._until_it_can_go_on(checkpoint.resume_at)
                self.run.resume()
                result = await self._in_thread(None, checkpoint.id)
        except BaseException:
            self.left.set()
            self.config.cancellation.token.cancel()
            raise
        finally:
            for asked in self.asked:
                asked.question.withdraw()
            for task in self.tasks:
                task.cancel()
        if self.own is not None:
            await self.run.message(self.own)
        return self._output(result)

    def _output(self, result: Any) -> WorkflowOutput:
        whole = result.to_dict()
        status, nodes = whole["status"], whole["output"] or {}
        error = result.error.message if result.error else ""
        if status == "canceled":
            raise WorkflowCanceledError(error, result=whole)
        if status != "success":
            raise WorkflowFailedError(error, nodes, result=whole)
        given: dict[str, Any] = {}
        for node in self.workflow.flow.nodes:
            if node.type == _OUTPUT:
                given |= nodes.get(node.id, {}).get("output") or {}
        return WorkflowOutput(nodes, given)

    # --- the thread ------------------------------------------------------------------------------

    async def _in_thread(self, input: Any, resume_from: str | None) -> Any:
        """Run the workflow in its own daemon thread. While it waits for a person it occupies no
        thread of a pool, and the interpreter does not wait for it at exit."""
        done: asyncio.Future[Any] = self.loop.create_future()

        def work() -> None:
            try:
                given = self._with_files(input) if resume_from is None else input
                result = self.workflow.run_sync(given, self.config, resume_from=resume_from)
            except BaseException as error:  # noqa: BLE001 - raised by who waits
                self._call(_settle, done, None, error)
            else:
                self._call(_settle, done, result, None)

        threading.Thread(target=work, name=f"workflow-{self.run.id}", daemon=True).start()
        return await done

    def _with_files(self, input: Any) -> Any:
        files = []
        for file in self.run.files:
            content = io.BytesIO(file.read())
            content.name = file.name
            files.append(content)
        return {**input, "files": files} if files else input

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Let the loop call a function. If the loop is closed, nobody waits for the call."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *arguments)

    def _send(self, event: Any) -> None:
        """Pass on a message from the workflow's thread, and wait until the reader has room."""
        if self.left.is_set():
            return
        message = msgspec.json.decode(event.to_json())
        work = self._take(message)
        try:
            passed_on = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError:  # the loop is closed
            work.close()
            return
        while not self.left.is_set():
            with suppress(TimeoutError, FutureCancelledError):
                passed_on.result(_LOOK_SECONDS)
                return

    def _timed_out(self, node_id: str | None) -> None:
        """A node has failed: withdraw its questions, unless the run pauses for them."""
        if self.checkpoint is None:
            self._call(self._withdraw, node_id)

    def _withdraw(self, node_id: str | None) -> None:
        for asked in self.asked:
            if asked.question.entity_id == node_id:
                asked.question.withdraw()

    # --- what the workflow says ------------------------------------------------------------------

    async def _take(self, message: dict[str, Any]) -> None:
        if is_workflows_own(message):
            self.own = message
        elif not is_question(message):
            await self.run.message(message)
        elif (known := self._asked_again(message)) is not None:
            known.message, known.waiting = message, True
            self._give(known)
        else:
            asked = _Asked(Question(message=message), message)
            self.asked.append(asked)
            await self.run.show(asked.question)
            task = self.loop.create_task(self._wait_for_answer(asked))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def _asked_again(self, message: Mapping[str, Any]) -> _Asked | None:
        paused = (asked for asked in self.asked if not asked.waiting)
        return next((asked for asked in paused if asked.fits(message)), None)

    async def _wait_for_answer(self, asked: _Asked) -> None:
        asked.answer = await self.run.answer_to(asked.question)
        self._give(asked)
        self.news.set()

    def _give(self, asked: _Asked) -> None:
        """Give the answer to the node, if there is one and the node waits for it."""
        if not asked.waiting:
            return
        if asked.answer is not None:
            self.queues[asked.message["entity_id"]].put(_reply(asked))
        if not asked.question.open:
            self.asked.remove(asked)

    # --- its pauses ------------------------------------------------------------------------------

    def _paused_at(self, result: Any) -> Any:
        """The checkpoint at which the run paused; None if it did not, or cannot be resumed."""
        from dynamiq.checkpoints.types import RunPausedException

        paused = result.error is not None and issubclass(result.error.type, RunPausedException)
        if not paused or self.run.kind != "run":
            return None
        saved = self.checkpoint.backend.get_list_by_flow(self.workflow.flow.id, limit=None)
        checkpoint = next(one for one in saved if one.wf_run_id == self.run.id)
        for asked in self.asked:
            asked.waiting = False
        return checkpoint if self.asked or checkpoint.resume_at else None

    async def _until_it_can_go_on(self, resume_at: datetime | None) -> None:
        """Wait for an answer, or for the time at which the run resumes by itself."""
        seconds = None
        if resume_at is not None:
            seconds = max(0.0, (resume_at - datetime.now(UTC)).total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while all(asked.question.open for asked in self.asked):
                    self.news.clear()
                    await self.news.wait()


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)


def _handler(send: Callable[[Any], None], failed: Callable[[str | None], None]) -> Any:
    """A stream handler of the library that sends each message before the workflow goes on."""
    from dynamiq.callbacks.streaming import StreamingQueueCallbackHandler

    class Handler(StreamingQueueCallbackHandler):  # type: ignore[misc]  # the library has no types
        def send_to_queue(self, event: Any) -> None:
            send(event)

        def on_node_error(self, serialized: Any, error: BaseException, **_: Any) -> None:
            failed(serialized.get("id"))

    return Handler(Queue(), threading.Event())


def _reply(asked: _Asked) -> str:
    """The answer in the library's form: JSON without null values."""
    message, answer, said = asked.message, asked.answer, asked.question.said
    data: dict[str, Any]
    if said is not None:
        data = {name: value for name, value in said.items() if value is not None}
    elif isinstance(answer, Approval):
        data = {"is_approved": answer.approved, "data": dict(answer.params)}
        if answer.feedback is not None:
            data["feedback"] = answer.feedback
    else:
        data = {"content": str(answer)}
        if answer is not None and answer.answers:
            data["answers"] = answer.answers
    if message["data"].get("request_id") is not None:
        data["request_id"] = message["data"]["request_id"]
    ids = {name: message[name] for name in ("wf_run_id", "entity_id", "event")}
    return msgspec.json.encode({**ids, "data": data}).decode()


def _without_id(message: Mapping[str, Any]) -> tuple[Any, ...]:
    data = {name: value for name, value in message["data"].items() if name != "request_id"}
    return message["entity_id"], message["event"], data


# --- the nodes of a workflow -------------------------------------------------------------------


def _open_queues(workflow: Any) -> Iterator[tuple[str, Queue[str]]]:
    """Give each node that can ask questions a queue for the answers; yield node ids and queues.

    A node gets a new streaming configuration, because the old one has noted that it has no queue.
    The library rejects a node that times out before its question does, so the question's timeout
    is shortened.
    """
    from dynamiq.types.streaming import StreamingConfig

    for node in _nodes(workflow.flow, set()):
        if not (node.streaming.enabled and _can_ask(node)):
            continue
        given = node.streaming.model_dump(exclude={"input_queue", "input_queue_done_event"})
        limit = node.error_handling.timeout_seconds
        if limit is not None and (given["timeout"] is None or given["timeout"] >= limit):
            given["timeout"] = limit * 0.9
        answers: Queue[str] = Queue()
        node.streaming = StreamingConfig(**given, input_queue=answers)
        yield node.id, answers


def _can_ask(node: Any) -> bool:
    from dynamiq.types.feedback import FeedbackMethod

    streamed = FeedbackMethod.STREAM
    if node.approval.enabled and node.approval.feedback_method == streamed:
        return True
    return getattr(node, "input_method", None) == streamed or bool(getattr(node, "hooks", None))


def _nodes(value: Any, seen: set[int]) -> Iterator[Any]:
    """Every node of a flow, at any depth: in tools, maps, hooks and nested flows."""
    from dynamiq.flows import Flow
    from dynamiq.nodes import Node
    from pydantic import BaseModel

    if isinstance(value, list | tuple | set):
        for item in value:
            yield from _nodes(item, seen)
    elif isinstance(value, dict):
        yield from _nodes(list(value.values()), seen)
    elif isinstance(value, BaseModel) and id(value) not in seen:
        seen.add(id(value))
        if isinstance(value, Node):
            yield value
        if isinstance(value, Node | Flow) or type(value).__module__.startswith("dynamiq."):
            for name in type(value).model_fields:
                yield from _nodes(vars(value).get(name), seen)


def _kind(node: Any) -> str:
    return type(node).__name__
