"""`app.runs`: start, follow, wait for, list and cancel an App's runs."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from dynamiq_async import errors
from dynamiq_async._http.paging import Page, Pages
from dynamiq_async._http.request_options import (
    UNSET,
    CallOptions,
    RequestOptions,
    SendOptions,
    TimeoutLike,
)
from dynamiq_async._http.timers import deadline_in
from dynamiq_async._json import check_type
from dynamiq_async._telemetry import FETCH
from dynamiq_async.options import OnLeave, check_count, check_id
from dynamiq_async.runs.options import (
    CreateOptions,
    FollowOptions,
    StreamOptions,
    checked_file_ids,
    session_to_send,
)
from dynamiq_async.runs.questions import Answering
from dynamiq_async.runs.requests import EVENT_PAGE_SIZE, RunRequests
from dynamiq_async.runs.stream import RunStream
from dynamiq_async.runs.waiting import DEFAULT_WAIT, WaitOptions, wait_for
from dynamiq_async.streaming.event_reader import OnBadEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from dynamiq_async._http.api import Api
    from dynamiq_async._http.request import Request
    from dynamiq_async.events import Question, RunEvent
    from dynamiq_async.runs.models import Run
    from dynamiq_async.runs.questions import OnQuestion


T = TypeVar("T")


class Runs(Answering):
    """The runs of one App, as `app.runs`.

    A method that returns a run also returns one that failed or was canceled. A method that returns
    the output raises an error for such a run; the error has the run.
    """

    def __init__(self, api: Api) -> None:
        self._requests = RunRequests(api)

    def handle(self, run_id: str) -> RunHandle:
        """One run, as an object whose methods need no id."""
        return RunHandle(self, run_id)

    @overload
    async def create(
        self, input: Any, *, output_type: type[T], **options: Unpack[CreateOptions]
    ) -> T: ...
    @overload
    async def create(
        self, input: Any, *, output_type: Any, **options: Unpack[CreateOptions]
    ) -> Any: ...
    @overload
    async def create(self, input: Any, **options: Unpack[CreateOptions]) -> Run: ...
    async def create(
        self,
        input: Any,
        *,
        background: bool = False,
        output_type: Any = None,
        files: Any = None,
        file_ids: Sequence[str] | None = None,
        user_id: str | None = None,
        session_id: str | UUID | None = None,
        dedupe: bool = False,
        retry: bool | None = None,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
    ) -> Any:
        """Start a run and wait for its end or, with `background`, return at once.

        Args:
            input: as for `AsyncApp.invoke`.
            background: return the run at once. Pass its id to `wait`, `follow` and the like.
            output_type: return the output, as this type, instead of the run.
            files: sent along with the request, as for `AsyncApp.invoke`.
            file_ids: ids of files uploaded before.
            user_id: the user that the run belongs to.
            session_id: a UUID, the conversation that the run belongs to.
            dedupe: make a session for this run alone. If the response to this request is lost, the
                run is searched for by its session; AmbiguousOutcomeError is raised only if it is
                not found. Excludes `session_id` and `retry=True`.

        The other arguments are those of `AsyncApp.invoke`.

        Raises:
            RunFailedError, RunCanceledError: with `output_type`, the run failed or was canceled.

        And what `AsyncApp.invoke` raises.
        """
        check_type(output_type)
        if background and output_type is not None:
            raise errors.InvalidArgumentError(
                "a background run has no output yet; ask wait() for it", argument="output_type"
            )
        given = RequestOptions(timeout, max_retries, retry, extra_headers, extra_query)
        options = self._requests.api.options.for_call(given)
        session = session_to_send(session_id, dedupe=dedupe, retry=retry)
        request = self._requests.create_request(
            input,
            given,
            files=files,
            file_ids=checked_file_ids(file_ids),
            user_id=user_id,
            session_id=session,
            background=background or None,
            extra_body=extra_body,
        )
        with self._requests.api.sender.telemetry.calling(request) as call:
            only = session if dedupe else None
            run = await self._create(request, options, only, background=background)
            if call is not None:
                call.told(RESPONSE_ID=run.id, RESPONSE_STATUS=run.status)
            return run if output_type is None else run.unwrap(output_type)

    async def _create(
        self, request: Request, options: SendOptions, session: str | None, *, background: bool
    ) -> Run:
        """The run that `request` creates. If its answer is lost, the run of `session`, which was
        made for it alone."""
        deadline = deadline_in(options.timeout.total)
        try:
            return await self._requests.create(request, options, deadline)
        except errors.AmbiguousOutcomeError as error:
            lost = error
        found = await self._requests.find(session, options, deadline) if session else None
        if found is None:
            raise lost
        return found if background else await self.wait(found.id, timeout=_seconds_left(deadline))

    @overload
    def stream(
        self, input: Any, *, output_type: type[T], **options: Unpack[StreamOptions]
    ) -> RunStream[T]: ...
    @overload
    def stream(
        self, input: Any, *, output_type: Any, **options: Unpack[StreamOptions]
    ) -> RunStream[Any]: ...
    @overload
    def stream(self, input: Any, **options: Unpack[StreamOptions]) -> RunStream[Any]: ...
    def stream(
        self,
        input: Any,
        *,
        output_type: Any = Any,
        files: Any = None,
        file_ids: Sequence[str] | None = None,
        user_id: str | None = None,
        session_id: str | UUID | None = None,
        dedupe: bool = False,
        on_question: OnQuestion | None = None,
        on_leave: OnLeave = "detach",
        on_bad_event: OnBadEvent = "raise",
        resume: bool = True,
        max_resumes: int = 5,
        retry: bool | None = None,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
    ) -> RunStream[Any]:
        """Start a run and follow its events to its end.

        Args:
            output_type: the type that the stream's `output()` returns: any type that msgspec knows.
            on_question: called with each `RunQuestion`, and awaited if it is async. It returns
                text to answer with, True or False to approve or reject, or None.
            on_leave: what happens to the run when its reader leaves before its end: closes or drops
                the stream, is cancelled, or exceeds a limit of `timeout`. "detach": the run goes
                on. "cancel": it is canceled, which may take two seconds; but not if the stream
                broke off, because then the error says how to follow the run again.
            on_bad_event: "raise" for an event that is not JSON or has no position, or "pass" to get
                it as a `BrokenRunEvent`. If the service has stored it whole, that event follows.
            resume: connect to the run again when the connection breaks.
            max_resumes: how many attempts in a row to connect again may give no new event.

        The other arguments are those of `create`. The request is sent with the first read, or on
        entering `async with`.

        Raises:
            InvalidArgumentError: an argument cannot be used.
        """
        given = RequestOptions(timeout, max_retries, retry, extra_headers, extra_query)
        session = session_to_send(session_id, dedupe=dedupe, retry=retry)
        request = self._requests.create_request(
            input,
            given,
            files=files,
            file_ids=checked_file_ids(file_ids),
            user_id=user_id,
            session_id=session,
            stream=True,
            extra_body=extra_body,
        )
        return RunStream(
            self._requests,
            self._requests.api.options.for_call(given),
            create=request,
            session_id=session if dedupe else None,
            resume=resume,
            max_resumes=check_count(max_resumes, "max_resumes", least=0),
            on_question=on_question,
            on_leave=on_leave,
            on_bad_event=on_bad_event,
            output_type=output_type,
        )

    @overload
    def follow(
        self, run_id: str, *, output_type: type[T], **options: Unpack[FollowOptions]
    ) -> RunStream[T]: ...
    @overload
    def follow(
        self, run_id: str, *, output_type: Any, **options: Unpack[FollowOptions]
    ) -> RunStream[Any]: ...
    @overload
    def follow(self, run_id: str, **options: Unpack[FollowOptions]) -> RunStream[Any]: ...
    def follow(
        self,
        run_id: str,
        *,
        output_type: Any = Any,
        after_sequence: int | None = None,
        on_question: OnQuestion | None = None,
        on_leave: OnLeave = "detach",
        on_bad_event: OnBadEvent = "raise",
        resume: bool = True,
        max_resumes: int = 5,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
    ) -> RunStream[Any]:
        """Follow the events of a run that was started before, whether it is over or not.

        Args:
            after_sequence: start after the event with this sequence number, such as an earlier
                stream's `sequence`; None or 0 for all events.

        The other arguments are those of `stream`.
        """
        if after_sequence is not None:
            after_sequence = check_count(after_sequence, "after_sequence", least=0)
        return RunStream(
            self._requests,
            self._options(timeout, max_retries),
            run_id=check_id(run_id, "run_id"),
            after_sequence=after_sequence or None,
            resume=resume,
            max_resumes=check_count(max_resumes, "max_resumes", least=0),
            on_question=on_question,
            on_leave=on_leave,
            on_bad_event=on_bad_event,
            output_type=output_type,
        )

    @overload
    async def wait(
        self, run_id: str, *, output_type: type[T], **options: Unpack[WaitOptions]
    ) -> T: ...
    @overload
    async def wait(
        self, run_id: str, *, output_type: Any, **options: Unpack[WaitOptions]
    ) -> Any: ...
    @overload
    async def wait(self, run_id: str, **options: Unpack[WaitOptions]) -> Run: ...
    async def wait(
        self,
        run_id: str,
        *,
        timeout: float | None = DEFAULT_WAIT,
        on_question: OnQuestion | None = None,
        output_type: Any = None,
    ) -> Any:
        """Wait until a run completed, failed or was canceled, by polling it.

        Args:
            timeout: seconds; None for no limit.
            on_question: as for `stream`.
            output_type: return the output, as this type, instead of the run.

        Raises:
            APITimeoutError: the run was not over in time; the message lists open questions.
            RunFailedError, RunCanceledError: with `output_type`, the run failed or was canceled.
        """
        check_type(output_type)
        known, requests = check_id(run_id, "run_id"), self._requests
        with requests.api.sender.telemetry.composed(FETCH, RESPONSE_ID=known) as call:
            run = await wait_for(requests, known, timeout, on_question)
            if call is not None:
                call.told(RESPONSE_STATUS=run.status)
            return run if output_type is None else run.unwrap(output_type)

    async def get(
        self, run_id: str, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> Run:
        """The present state of a run, with the questions that wait for an answer.

        Raises:
            NotFoundError: this App has no such run.
        """
        options = self._options(timeout, max_retries)
        return await self._requests.get(run_id, options, over_limit=True)

    def list(
        self,
        *,
        status: str | Sequence[str] | None = None,
        user_id: str | None = None,
        session_id: str | UUID | None = None,
        sort: str | None = None,
        page: int = 1,
        page_size: int | None = None,
        prefetch: bool = False,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
    ) -> Pages[Run]:
        """The App's runs, newest first: await the result for a page, iterate it for all.

        Args:
            status: one status or several; `awaiting_input` is possible too.
            user_id, session_id: only the runs of this user, of this conversation.
            sort: fields separated by commas, `-` for descending, such as `-started_at`.
            page: the first page, counted from 1.
            page_size: runs on a page; by default the service's choice.
            prefetch: while iterating, fetch the next page ahead.
        """
        query = {
            "status": [status] if isinstance(status, str) else status,
            "user_id": user_id,
            "session_id": session_to_send(session_id),
            "sort": sort,
            "page_size": None if page_size is None else check_count(page_size, "page_size"),
        }
        options = self._options(timeout, max_retries)

        async def fetch(number: int) -> Page[Run]:
            return await self._requests.run_page({**query, "page": number}, options)

        return Pages(
            fetch,
            page=check_count(page, "page"),
            identity=lambda run: run.id,
            prefetch=prefetch,
        )

    def events(
        self,
        run_id: str,
        *,
        page: int = 1,
        page_size: int | None = None,
        prefetch: bool = False,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
    ) -> Pages[RunEvent]:
        """The run's stored events, ordered by sequence number: await the result for a page, iterate
        it for all. The arguments are those of `list`."""
        size = EVENT_PAGE_SIZE if page_size is None else check_count(page_size, "page_size")
        options = self._options(timeout, max_retries)
        check_id(run_id, "run_id")

        async def fetch(number: int) -> Page[RunEvent]:
            return await self._requests.event_page(run_id, number, options, size=size)

        return Pages(
            fetch,
            page=check_count(page, "page"),
            identity=lambda event: event.sequence,
            prefetch=prefetch,
        )

    async def cancel(self, run_id: str) -> None:
        """Cancel a run. Does nothing when it is over. A cooldown does not delay the request."""
        await self._requests.cancel(run_id)

    def _options(self, timeout: TimeoutLike, max_retries: int | None) -> SendOptions:
        return self._requests.api.options.for_call(RequestOptions(timeout, max_retries))


def _seconds_left(deadline: float | None) -> float:
    if deadline is None:
        return DEFAULT_WAIT
    return max(deadline - asyncio.get_running_loop().time(), sys.float_info.min)


class RunHandle:
    """One run of an App, from `app.runs.handle(run_id)`. Its methods are those of `Runs`
    without `run_id`.

    Attributes:
        id: the run's id.
    """

    __slots__ = ("_runs", "id")

    def __init__(self, runs: Runs, run_id: str) -> None:
        self._runs = runs
        self.id: str = check_id(run_id, "run_id")

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r})"

    async def get(self, **options: Unpack[CallOptions]) -> Run:
        """The run's present state. See `Runs.get`."""
        return await self._runs.get(self.id, **options)

    def events(
        self,
        *,
        page: int = 1,
        page_size: int | None = None,
        prefetch: bool = False,
        **options: Unpack[CallOptions],
    ) -> Pages[RunEvent]:
        """The run's stored events. See `Runs.events`."""
        return self._runs.events(
            self.id, page=page, page_size=page_size, prefetch=prefetch, **options
        )

    async def cancel(self) -> None:
        """Cancel the run. See `Runs.cancel`."""
        await self._runs.cancel(self.id)

    async def answer(
        self,
        request: Question | str,
        feedback: str,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Answer a question of the run. See `Runs.answer`."""
        await self._runs.answer(self.id, request, feedback, extra_body=extra_body)

    async def approve(
        self,
        request: Question | str,
        *,
        params: Mapping[str, Any] | None = None,
        feedback: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Approve what the run asks for. See `Runs.approve`."""
        await self._runs.approve(
            self.id, request, params=params, feedback=feedback, extra_body=extra_body
        )

    async def reject(
        self,
        request: Question | str,
        *,
        feedback: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """Reject what the run asks for. See `Runs.reject`."""
        await self._runs.reject(self.id, request, feedback=feedback, extra_body=extra_body)

    @overload
    def follow(self, *, output_type: type[T], **options: Unpack[FollowOptions]) -> RunStream[T]: ...
    @overload
    def follow(self, *, output_type: Any, **options: Unpack[FollowOptions]) -> RunStream[Any]: ...
    @overload
    def follow(self, **options: Unpack[FollowOptions]) -> RunStream[Any]: ...
    def follow(self, **options: Any) -> RunStream[Any]:
        """Follow the run's events. See `Runs.follow`."""
        return self._runs.follow(self.id, **options)

    @overload
    async def wait(self, *, output_type: type[T], **options: Unpack[WaitOptions]) -> T: ...
    @overload
    async def wait(self, *, output_type: Any, **options: Unpack[WaitOptions]) -> Any: ...
    @overload
    async def wait(self, **options: Unpack[WaitOptions]) -> Run: ...
    async def wait(self, **options: Any) -> Any:
        """Wait for the run to be over. See `Runs.wait`."""
        return await self._runs.wait(self.id, **options)
