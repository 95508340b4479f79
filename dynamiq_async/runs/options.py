"""The arguments that the methods of `Runs` share, as type checkers see them, and their checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from dynamiq_async import errors
from dynamiq_async._http.request_options import CallOptions, SendingOptions
from dynamiq_async.options import OnLeave, check_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamiq_async.runs.questions import OnQuestion
    from dynamiq_async.streaming.event_reader import OnBadEvent


class StartOptions(SendingOptions, total=False):
    """The arguments that `create` and `stream` share."""

    files: Any
    file_ids: Sequence[str] | None
    user_id: str | None
    session_id: str | UUID | None
    dedupe: bool
    retry: bool | None


class CreateOptions(StartOptions, total=False):
    """The arguments of `create` that do not affect its return type."""

    background: bool


class StreamOptions(StartOptions, total=False):
    """The arguments of `stream` that do not affect its return type."""

    on_question: OnQuestion | None
    on_leave: OnLeave
    on_bad_event: OnBadEvent
    resume: bool
    max_resumes: int


class FollowOptions(CallOptions, total=False):
    """The arguments of `follow` that do not affect its return type."""

    after_sequence: int | None
    on_question: OnQuestion | None
    on_leave: OnLeave
    on_bad_event: OnBadEvent
    resume: bool
    max_resumes: int


def session_to_send(
    session_id: str | UUID | None, *, dedupe: bool = False, retry: bool | None = None
) -> str | None:
    """The session id to send. The vendor documents that it is a UUID."""
    if dedupe:
        if session_id is not None:
            raise errors.InvalidArgumentError(
                "dedupe makes a session for this run alone; session_id may stand for a whole "
                "conversation, so only one of the two can be given",
                argument="dedupe",
            )
        if retry:
            raise errors.InvalidArgumentError(
                "dedupe finds the one run there is, and retry=True may make it two; choose one",
                argument="retry",
            )
        return str(uuid4())
    if session_id is None:
        return None
    return checked_session(session_id)


def checked_session(session_id: str | UUID) -> str:
    """`session_id` as a text. Raises InvalidArgumentError unless it is a UUID."""
    try:
        text = check_id(session_id, "session_id")
        UUID(text)
    except ValueError:
        raise errors.InvalidArgumentError(
            f"session_id must be a UUID, not {session_id!r}", argument="session_id"
        ) from None
    return text


def checked_file_ids(file_ids: Sequence[str] | None) -> Sequence[str] | None:
    """The ids themselves. Raises InvalidArgumentError for one string in place of a list."""
    if isinstance(file_ids, str):
        raise errors.InvalidArgumentError(
            "file_ids must be a list of ids, not one string", argument="file_ids"
        )
    return file_ids
