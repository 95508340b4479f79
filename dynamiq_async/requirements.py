"""`app.requirements`: the accounts that each end user of an App has to connect themselves.

The vendor documents the responses of `status` and `connect_link`, which are not wrapped in `data`.
Whether the list is wrapped is not known. All three are read with `data` and without.

The wire facts and their sources are in docs/contract.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from dynamiq_async import _json, errors
from dynamiq_async._credentials import MASK
from dynamiq_async._http.request_options import UNSET, RequestOptions, TimeoutLike
from dynamiq_async._http.response import decode_body, read_with
from dynamiq_async._json import encode
from dynamiq_async.options import check_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dynamiq_async._http.api import Api

T = TypeVar("T")


class Requirement(Struct, frozen=True, kw_only=True):
    """An account that each end user of an App has to connect (documented by the vendor).

    Attributes:
        type: `connection`, `pipedream_account`, or a newer type.
        name: the name that the App's builder gave it.
        title, description: the texts shown to an end user: those of `form`, else those at the top
            level, where the vendor's command line and its connect API have the title.
        form: the form shown to an end user, as the service sent it.
        spec: what has to be connected, as the service sent it: a `type`, and `data` such as
            `{"app_slug": "gmail"}`.
        workflow_id: the workflow that needs it.
    """

    id: str | None = None
    type: str | None = None
    name: str | None = None
    title: str | None = None
    description: str | None = None
    form: dict[str, Any] | None = None
    spec: dict[str, Any] | None = None
    workflow_id: str | None = None


class RequirementsStatus(Struct, frozen=True, kw_only=True):
    """What one end user still has to connect.

    Attributes:
        status: `incomplete` (documented), or another word; None where the response had none.
        unsatisfied: the requirements that the user has not met. A run for the user fails before it
            starts while a *required* one is among them (documented). The vendor does not say
            whether optional ones are listed too (our guess: they may be).
    """

    status: str | None = None
    unsatisfied: list[Requirement] = []

    @property
    def is_satisfied(self) -> bool:
        """Whether the user has connected all that a run needs.

        A known `status` decides: `incomplete` means False; `complete`, `completed` and `satisfied`
        mean True (our guess). So this may be True while optional requirements are unsatisfied:
        a run then starts, without the tools that need them (documented). With any other status or
        none, it is True if `unsatisfied` is empty. A listed optional requirement then makes it
        False, although a run would start.
        """
        return _SATISFIED.get((self.status or "").strip().lower(), not self.unsatisfied)


class ConnectLink(Struct, frozen=True, kw_only=True):
    """A link where one end user connects their accounts: for that person and nobody else.

    Whoever has the link can connect accounts for that user for 24 hours (documented). The vendor
    does not say that it works only once. The link and its token are secrets, so no repr shows them.

    Attributes:
        url: the page to send the end user to.
        token: a JWT for one App and one user. With it, a page of your own can use the connect API
            of the management host (documented).
        expires_at: when both expire.
    """

    url: str
    token: str | None = None
    expires_at: str | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, str | None]]:
        token = None if self.token is None else MASK
        return [("url", MASK), ("token", token), ("expires_at", self.expires_at)]


class Requirements:
    """What an App needs of its end users, as `app.requirements`.

    A run for a user who lacks a *required* account fails before it starts (documented).
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    async def list(
        self, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> Sequence[Requirement]:
        """What each end user has to connect; empty where the App needs nothing.

        Raises what `AsyncApp.invoke` raises.
        """
        given = RequestOptions(timeout, max_retries)
        return await self._fetch(requirements_of, "GET", "requirements", given=given)

    async def status(
        self, user_id: str, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> RequirementsStatus:
        """What one end user still has to connect. Call it again after sending them a link.

        Args:
            user_id: the `user_id` of their runs.

        Raises:
            InvalidArgumentError: the id is empty.

        And what `AsyncApp.invoke` raises.
        """
        query = {"user_id": check_id(user_id, "user_id", in_path=False)}
        given = RequestOptions(timeout, max_retries)
        path = ("requirements", "status")
        return await self._fetch(status_of, "GET", *path, query=query, given=given)

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

        It is a secret for 24 hours (documented by the vendor): whoever has it can connect accounts
        for that user.

        Args:
            user_id: the `user_id` of their runs.
            requirement_ids: only these requirements; by default all that the App has.
            retry: True repeats the request even when its outcome is unknown. At worst, that makes
                a link that nobody sees.

        Raises:
            InvalidArgumentError: an id is empty.

        And what `AsyncApp.invoke` raises.
        """
        body: dict[str, Any] = {"user_id": check_id(user_id, "user_id", in_path=False)}
        if isinstance(requirement_ids, str):
            raise errors.InvalidArgumentError(
                "requirement_ids must be a list of ids, not one string", argument="requirement_ids"
            )
        if requirement_ids is not None:
            body["requirement_ids"] = [
                check_id(id, "requirement_ids", in_path=False) for id in requirement_ids
            ]
        return await self._fetch(
            link_of,
            "POST",
            *("connect", "tokens"),
            body=encode(body, "user_id"),
            given=RequestOptions(timeout, max_retries, retry),
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

        And what else `AsyncApp.invoke` raises.
        """
        given = RequestOptions(timeout, max_retries)
        request = self._api.request(
            "DELETE",
            "v1",
            "requirements",
            check_id(requirement_id, "requirement_id"),
            "connections",
            query={"user_id": check_id(user_id, "user_id", in_path=False)},
            given=given,
        )
        sender = self._api.sender
        with sender.telemetry.calling(request):
            response = await sender.fetch(request, self._api.options.for_call(given))
            if response.body:  # a 204 has none; a login page has one: then nothing was done
                decode_body(str(request), response, Any, key=sender.key)

    async def _fetch(
        self, read: Callable[[Any], T], method: str, *path: str, given: RequestOptions, **more: Any
    ) -> T:
        """The content of a response, wrapped in `data` or not, as `read` reads it."""
        request = self._api.request(method, "v1", *path, given=given, **more)
        body: Any = await self._api.fetch(request, self._api.options.for_call(given), Any)
        content = body["data"] if isinstance(body, dict) and "data" in body else body
        wrong = f"the answer to {request} has another shape than is known"
        return read_with(read, content, wrong, key=self._api.sender.key)


# The first is documented by the vendor; the others are our guess.
_SATISFIED = {"incomplete": False, "complete": True, "completed": True, "satisfied": True}


class _Status(Struct):
    unsatisfied: list[Any] | None
    status: Any = None


class _Link(Struct):
    url: Annotated[str, Meta(min_length=1)]


def requirements_of(data: Any) -> list[Requirement]:
    """A list of requirements, each an object or (our guess) only an id. Null is an empty list.

    Raises msgspec.ValidationError when it is not a list: an unknown shape must not pass for an
    empty list.
    """
    items = msgspec.convert(data, list[Any] | None) or []
    return [_requirement_of(item if isinstance(item, dict) else {"id": item}) for item in items]


def _requirement_of(content: dict[str, Any]) -> Requirement:
    form = content.get("form")
    shown = form if isinstance(form, dict) else {}
    texts = {
        name: shown[name] for name in ("title", "description") if isinstance(shown.get(name), str)
    }
    return _json.fitting({**content, **texts}, Requirement)


def status_of(data: Any) -> RequirementsStatus:
    """One user's status. Raises msgspec.ValidationError when it has neither `status` nor
    `unsatisfied`. Some encoders leave out an empty `unsatisfied`."""
    told = isinstance(data, dict) and isinstance(data.get("status"), str)
    status = msgspec.convert({"unsatisfied": None, **data} if told else data, _Status)
    return RequirementsStatus(
        status=status.status if isinstance(status.status, str) else None,
        unsatisfied=requirements_of(status.unsatisfied),
    )


def link_of(data: Any) -> ConnectLink:
    """A link. Raises msgspec.ValidationError when it has no `url`."""
    msgspec.convert(data, _Link)
    return _json.fitting(data, ConnectLink)
