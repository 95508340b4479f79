"""`app.requirements`: the accounts that each end user of an App has to connect themselves.

Paths and fields are those that the vendor's command line uses; whether an answer is wrapped in
`data` is not written down, so that both are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from dynamiq_async import _request, _response, errors
from dynamiq_async._client import UNSET, Client, Extras, TimeoutLike
from dynamiq_async.management_models import (
    ConnectLink,
    Requirement,
    RequirementsStatus,
    link_of,
    requirements_of,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class Requirements:
    """What an App needs of its end users, as `app.requirements`.

    A run for a user with anything unsatisfied fails before it starts.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list(
        self, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> Sequence[Requirement]:
        """What each end user has to connect; empty where the App needs nothing.

        Raises:
            What `AsyncApp.invoke` raises.
        """
        extras = Extras(timeout, max_retries)
        return await self._ask(requirements_of, "GET", "requirements", extras=extras)

    async def status(
        self, user_id: str, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> RequirementsStatus:
        """What one end user has still to connect. Ask again after they were sent a link.

        Args:
            user_id: the id that their runs are given.

        Raises:
            InvalidArgumentError: the id is empty.
            What `AsyncApp.invoke` raises.
        """
        query = {"user_id": _filled(user_id, "user_id")}
        extras = Extras(timeout, max_retries)
        path = ("requirements", "status")
        return await self._ask(status_of, "GET", *path, query=query, extras=extras)

    async def connect_link(
        self,
        user_id: str,
        *,
        requirement_ids: Sequence[str] | None = None,
        retry: bool | None = None,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
    ) -> ConnectLink:
        """A link where one end user connects their accounts. Give it to them and nobody else.

        It works once and for minutes, so make it when it is needed.

        Args:
            user_id: the id that their runs are given.
            requirement_ids: only these requirements; by default all that the App has.
            retry: True repeats the request also when its outcome is unknown; what is lost is
                at most a link that nobody saw.

        Raises:
            InvalidArgumentError: an id is empty.
            What `AsyncApp.invoke` raises.
        """
        body: dict[str, Any] = {"user_id": _filled(user_id, "user_id")}
        if isinstance(requirement_ids, str):
            raise errors.InvalidArgumentError(
                "requirement_ids must be a list of ids, not one string", argument="requirement_ids"
            )
        if requirement_ids is not None:
            body["requirement_ids"] = [_filled(id, "requirement_ids") for id in requirement_ids]
        return await self._ask(
            link_of,
            "POST",
            *("connect", "tokens"),
            body=_request.encode(body, "user_id"),
            extras=Extras(timeout, max_retries, retry),
        )

    async def disconnect(
        self,
        requirement_id: str,
        user_id: str,
        *,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
    ) -> None:
        """Forget the account that one end user connected for a requirement.

        Raises:
            InvalidArgumentError: an id is empty.
            NotFoundError: there is no such requirement.
            What else `AsyncApp.invoke` raises.
        """
        extras = Extras(timeout, max_retries)
        request = self._client._request(
            "DELETE",
            "v1",
            "requirements",
            _filled(requirement_id, "requirement_id"),
            "connections",
            query={"user_id": _filled(user_id, "user_id")},
            extras=extras,
        )
        answer = await self._client._caller.fetch(request, self._client._call_options(extras))
        if answer.body:  # a 204 has none, and a login page in its place forgot nothing
            _response.decode_body(
                str(request),
                answer.body,
                Any,
                status=answer.status,
                headers=answer.headers,
                key=self._client._caller.key,
            )

    async def _ask(
        self, read: Callable[[Any], T], method: str, *path: str, extras: Extras, **more: Any
    ) -> T:
        """What `read` makes of the answer's content, be it wrapped in `data` or not."""
        request = self._client._request(method, "v1", *path, extras=extras, **more)
        answer = await self._client._fetch(request, extras, Any)
        content = answer["data"] if isinstance(answer, dict) and "data" in answer else answer
        try:
            return read(content)
        except msgspec.ValidationError as error:
            raise errors.ResponseDecodeError(
                f"the answer to {request} has another shape than is known: {error}"
            ) from error


def _filled(id: str, argument: str) -> str:
    if not isinstance(id, str) or not id:
        raise errors.InvalidArgumentError(
            f"{argument} must be a non-empty string, not {id!r}", argument=argument
        )
    return id
