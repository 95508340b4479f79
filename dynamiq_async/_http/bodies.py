"""The body of the root endpoint and of a run's creation: JSON, or multipart with files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from dynamiq_async._http.multipart import Multipart
from dynamiq_async._http.uploads import as_uploads
from dynamiq_async._json import encode, encode_object, text_of
from dynamiq_async.options import check_mapping

if TYPE_CHECKING:
    from uuid import UUID


def root_body(
    input: Any,
    *,
    row: bool = False,
    files: Any = None,
    user_id: str | None = None,
    session_id: str | UUID | None = None,
    last_node_output: bool | None = None,
    error_on_node_failure: bool | None = None,
    extra_body: Mapping[str, Any] | None = None,
    **more: Any,
) -> bytes | Multipart:
    """The body of `POST /`: JSON, or multipart when there are files.

    The parts of the multipart form are those that the vendor's chat widget sends: `input` as a
    JSON string, plain text for the other fields, and `files`, repeated.

    Args:
        row: the input may be the row of a frame, whose missing values are NaN.
        more: other fields of the request.
    """
    encoded = encode_object(input, "input", row=row)
    plain = user_id is session_id is None and last_node_output is error_on_node_failure is None
    if plain and files is extra_body is None and not more:
        return b'{"input":%b}' % encoded  # for most calls: it needs no second encoding
    added = check_mapping(extra_body, "extra_body")
    fields = {
        "user_id": user_id,
        "session_id": session_id,
        "last_node_output": last_node_output,
        "error_on_node_failure": error_on_node_failure,
        **more,
    }
    known = {k: v for k, v in fields.items() if v is not None}
    uploads = as_uploads(files)
    body = {"input": Raw(encoded)} | known | dict(added)
    if not uploads:
        return encode(body, "extra_body")
    texts = [(name, text_of(value, name)) for name, value in body.items()]
    return Multipart(texts, [("files", upload) for upload in uploads])
