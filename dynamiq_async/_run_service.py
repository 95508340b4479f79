"""The requests of the Runs API, as one client sends them, and what streams need beyond them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from dynamiq_async import _request, errors
from dynamiq_async._client import Client, Extras
from dynamiq_async.runs_models import InputRequest, Page, Run, RunEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynamiq_async._calls import Caller, CallOptions
    from dynamiq_async._cursor import Hole
    from dynamiq_async._request import Request

SETTLE_SECONDS = 10.0
"""How long a run whose create was not answered is looked for."""

EVENT_PAGE_SIZE = 500


class _RunData(Struct):
    data: Run


class RunService:
    """What one App's Runs API is asked."""

    def __init__(self, client: Client, *, max_event_bytes: int) -> None:
        self.client = client
        self.max_event_bytes = max_event_bytes

    @property
    def caller(self) -> Caller:
        return self.client._caller

    @property
    def options(self) -> CallOptions:
        return self.client._options

    def request(
        self,
        method: str,
        *path: str,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        stream: bool = False,
        urgent: bool = False,
        retry: bool | None = None,
    ) -> Request:
        return self.client._request(
            method,
            "v1",
            "runs",
            *path,
            query=query,
            body=body,
            stream=stream,
            urgent=urgent,
            extras=Extras(retry=retry),
        )

    def create_request(
        self, input: Any, extras: Extras, *, stream: bool = False, **fields: Any
    ) -> Request:
        body = _request.root_body(input, stream=stream or None, **fields)
        return self.client._request("POST", "v1", "runs", body=body, stream=stream, extras=extras)

    def stream_request(self, run_id: str, after: int | None) -> Request:
        query = {"after_sequence": after} if after else None
        return self.request("GET", run_id, "stream", query=query, stream=True)

    async def create(self, request: Request, options: CallOptions) -> Run:
        return (await self.client._send(request, options, _RunData)).data

    async def get(self, run_id: str, options: CallOptions, deadline: float | None = None) -> Run:
        request = self.request("GET", run_id)
        return (await self.client._send(request, options, _RunData, deadline=deadline)).data

    async def run_page(
        self, query: Mapping[str, Any], options: CallOptions, deadline: float | None = None
    ) -> Page[Run]:
        request = self.request("GET", query=query)
        return await self.client._send(request, options, Page[Run], deadline=deadline)

    async def event_page(
        self,
        run_id: str,
        page: int,
        options: CallOptions,
        deadline: float | None = None,
        *,
        size: int = EVENT_PAGE_SIZE,
    ) -> Page[RunEvent]:
        request = self.request("GET", run_id, "events", query={"page": page, "page_size": size})
        return await self.client._send(request, options, Page[RunEvent], deadline=deadline)

    async def stored(
        self, run_id: str, hole: Hole, options: CallOptions, deadline: float | None
    ) -> Sequence[RunEvent]:
        """The stored events within a hole. Pages cannot be asked for by sequence, so the first
        one is estimated from above (no page holds more events than there are numbers)."""
        number = (hole.first - 1) // EVENT_PAGE_SIZE + 1
        page = await self.event_page(run_id, number, options, deadline)
        while number > 1 and (not page.data or page.data[0].sequence > hole.first):
            number -= 1
            page = await self.event_page(run_id, number, options, deadline)
        found: list[RunEvent] = []
        while True:
            found += [e for e in page.data if hole.first <= e.sequence <= hole.last]
            if not page.has_next or page.data[-1].sequence >= hole.last:
                return found
            number += 1
            page = await self.event_page(run_id, number, options, deadline)

    async def find(
        self, session_id: str, options: CallOptions, deadline: float | None = None
    ) -> Run | None:
        """The run of a session that was made for it, which may take a while to show up."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLE_SECONDS
        pause = 0.1
        while True:
            page = await self.run_page({"session_id": session_id}, options, deadline)
            if page.data:
                return page.data[0]
            if loop.time() >= until:
                return None
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def cancel(self, run_id: str) -> None:
        request = self.request("POST", run_id, "cancel", urgent=True, retry=True)
        await self.caller.fetch(request, self.options)

    async def answer(self, run_id: str, request: InputRequest | str, feedback: str) -> None:
        _check_kind(request, approval=False)
        await self._input(run_id, _input_body(request, {"feedback": feedback}, "human_feedback"))

    async def approve(
        self,
        run_id: str,
        request: InputRequest | str,
        params: Mapping[str, Any] | None,
        feedback: str | None,
    ) -> None:
        _check_kind(request, approval=True)
        _check_editable(request, params)
        verdict = {"approved": True, "params": params, "feedback": feedback}
        await self._input(run_id, _input_body(request, verdict, "approval_request"))

    async def reject(self, run_id: str, request: InputRequest | str, feedback: str | None) -> None:
        _check_kind(request, approval=True)
        verdict = {"approved": False, "feedback": feedback}
        await self._input(run_id, _input_body(request, verdict, "approval_request"))

    async def _input(self, run_id: str, body: dict[str, Any]) -> None:
        encoded = _request.encode(body, "params")
        request = self.request("POST", run_id, "input", body=encoded, urgent=True)
        await self.caller.fetch(request, self.options)


def single_attempt(options: CallOptions) -> CallOptions:
    """`options` for a request whose repetition somebody else decides over."""
    return structs.replace(options, policy=structs.replace(options.policy, max_retries=0))


def check_id(run_id: str) -> str:
    """Raise InvalidArgumentError unless `run_id` can be an id."""
    if not isinstance(run_id, str) or not run_id:
        raise errors.InvalidArgumentError(
            f"run_id must be a non-empty string, not {run_id!r}", argument="run_id"
        )
    return run_id


def _input_body(request: InputRequest | str, answer: dict[str, Any], kind: str) -> dict[str, Any]:
    """The body of `POST /v1/runs/{id}/input`. For an approval it is our guess."""
    request_id = request if isinstance(request, str) else request.id
    known = {name: value for name, value in answer.items() if value is not None}
    return {"type": kind, "data": {"request_id": request_id, **known}}


def _check_editable(request: InputRequest | str, params: Mapping[str, Any] | None) -> None:
    """Raise InvalidArgumentError if `params` has keys that this question does not let be edited."""
    if params is None or isinstance(request, str):
        return
    editable = request.editable_params or []
    if wrong := sorted(set(params) - set(editable)):
        raise errors.InvalidArgumentError(
            f"params: {', '.join(wrong)} cannot be edited; "
            + (f"only {', '.join(editable)} can" if editable else "nothing can be"),
            argument="params",
        )


def _check_kind(request: InputRequest | str, *, approval: bool) -> None:
    """Raise InvalidArgumentError if an approval is answered with text, or a question approved."""
    if isinstance(request, str) or request.type is None or request.is_approval == approval:
        return
    advice = "answer it with answer()" if approval else "use approve() or reject()"
    raise errors.InvalidArgumentError(f"this is a {request.type}: {advice}", argument="request")
