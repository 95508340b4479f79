"""The fields of a request, in its body or its query, checked one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from ... import _json
from .refusals import RefusalError, bad_fields
from .request_bodies import content_type_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .multipart import Part
    from .request_record import RequestRecord

T = TypeVar("T")

_MAX_DIGITS = 18
"""The limit for a number in a query. Python refuses thousands of digits, and int64 ends here."""

_CALLED = {str: "a string", bool: "a boolean", dict: "an object", list: "an array"}


class Fields:
    """The fields of a request body, JSON or multipart alike, and the complaints about them.

    `get`, `require` and `json` note complaints; `check` raises all of them at once.

    Args:
        values: the fields by name; in a multipart body each is bytes.
        parts: the parts of a multipart body; those with a filename become `files`.
    """

    def __init__(
        self, values: Mapping[str, Any], parts: Sequence[Part], *, multipart: bool
    ) -> None:
        self.values = values
        self.files: list[Part] = [part for part in parts if part.filename is not None]
        self.complaints: dict[str, str] = {}
        self._multipart = multipart

    @classmethod
    def of(cls, record: RequestRecord) -> Fields:
        """The fields of a request.

        Raises `RefusalError`: 415 for another content type, 400 for JSON that is malformed or not
        an object.
        """
        kind = content_type_of(record).kind
        if kind == "multipart/form-data":
            values = {part.name: part.content for part in record.form if part.filename is None}
            return cls(values, record.form, multipart=True)
        if kind != "application/json":
            raise RefusalError(
                415,
                "unsupported_media_type",
                "the content type must be application/json or multipart/form-data",
            )
        if isinstance(record.json, dict):
            return cls(record.json, [], multipart=False)
        if record.json_error is not None:
            raise RefusalError(400, "bad_request", f"malformed JSON: {record.json_error}")
        raise RefusalError(400, "bad_request", "the body must be a JSON object")

    def get(self, name: str, kind: type[T]) -> T | None:
        """The field as a `str`, `bool`, `dict` or `list`; None if missing. Notes a complaint."""
        value = self.values.get(name)
        if self._multipart and value is not None:
            value = self._from_text(name, value.decode("utf-8", "replace"), kind)
        if value is None or isinstance(value, kind):
            return value
        self.complaints.setdefault(name, f"must be {_CALLED[kind]}")
        return None

    def require(self, name: str, kind: type[T]) -> T | None:
        """Like `get`, for a field that must be there."""
        value = self.get(name, kind)
        if value is None:
            self.complaints.setdefault(name, "cannot be blank")
        return value

    def json(self, name: str) -> Any:
        """The field as any JSON value. Notes a complaint."""
        return self.get(name, object)

    def check(self) -> None:
        """Raise `RefusalError` (400) if there were complaints."""
        if self.complaints:
            raise bad_fields(self.complaints)

    def _from_text(self, name: str, text: str, kind: type[Any]) -> Any:
        if kind is str:
            return text
        try:
            return _json.decode(text.encode())
        except _json.DECODE_ERRORS:
            complaint = "must be true or false" if kind is bool else "must be valid JSON"
            self.complaints.setdefault(name, complaint)
            return None


def positive_number(query: Mapping[str, str], name: str, *, default: int) -> int:
    """An integer of at least 1 from the query. Raises `RefusalError` (400) for anything else."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) >= 1):
        raise bad_fields({name: "must be an integer no less than 1"})
    return int(text)


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True
