"""The body of the root endpoint and of a run's creation: JSON, or multipart with files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from dynamiq_async._http.multipart import Multipart
from dynamiq_async._http.uploads import as_uploads
from dynamiq_async._json import encode, encode_object
from dynamiq_async.errors import InvalidArgumentError


def root_body(
    input: Any,
    *,
    files: Any = None,
    extra_body: Mapping[str, Any] | None = None,
    **fields: Any,
) -> bytes | Multipart:
    """The body of `POST /`: JSON, or multipart when there are files.

    The parts of the multipart form are those that the vendor's chat widget sends: `input` as a
    JSON string, plain text for the other fields, and `files`, repeated.
    """
    encoded = encode_object(input, "input")
    if not isinstance(extra_body, Mapping | None):
        raise InvalidArgumentError("extra_body must be a mapping", argument="extra_body")
    known = {k: v for k, v in fields.items() if v is not None}
    uploads = as_uploads(files)
    if not (known or extra_body or uploads):
        return b'{"input":%b}' % encoded  # most calls are this, and need no second encoding
    body = {"input": Raw(encoded)} | known | dict(extra_body or {})
    if not uploads:
        return encode(body, "extra_body")
    texts = [(name, _form_text(value, name)) for name, value in body.items()]
    return Multipart(texts, [("files", upload) for upload in uploads])


def _form_text(value: Any, argument: str) -> str:
    """What is a string in JSON (as a UUID or a date) without its quotes; anything else as JSON."""
    encoded = encode(value, argument)
    return msgspec.json.decode(encoded, type=str) if encoded[:1] == b'"' else encoded.decode()
