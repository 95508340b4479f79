"""How large a request body may be, and how much of one is held in memory."""

from __future__ import annotations

IN_MEMORY = 1024 * 1024
"""Bytes. A longer body lives in a temporary file; the request's record has its first `IN_MEMORY`
bytes."""

FORM_OVERHEAD = 1024 * 1024
"""Bytes that a form may have beside its largest file: other fields, headers, delimiters."""


def max_body_bytes(max_file_bytes: int) -> int:
    """The most bytes that a request body may have.

    It is the size of a form with the largest file. JSON bodies have the same limit: the vendor
    documents no other.
    """
    return max_file_bytes + FORM_OVERHEAD
