"""By what a journal knows an input and the options of its call again."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dynamiq_async import errors
from dynamiq_async._json import to_builtin

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIONS: Final = (
    "user_id",
    "session_id",
    "last_node_output",
    "error_on_node_failure",
    "extra_body",
    "extra_headers",
    "extra_query",
)
"""The options of a call that decide what comes out. Their places in here are in digests."""

INPUT_DIGEST: Final = 16
OPTION_DIGEST: Final = 7
"""Bytes of a digest."""


def digest(value: Any, argument: str = "input", size: int = INPUT_DIGEST) -> bytes:
    """By what an input or an option is known again: its JSON, whatever the order of its fields."""
    try:
        encoded = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise errors.InvalidArgumentError(
            f"the {argument} cannot be encoded as JSON, which a journal needs: {error}",
            argument=argument,
        ) from error
    return blake2b(encoded, digest_size=size).digest()


def digest_options(options: Mapping[str, Any]) -> bytes:
    """By what the options of a call are known again. Nothing where none is set."""
    return b"".join(
        bytes([OPTIONS.index(name)]) + digest(value, name, OPTION_DIGEST)
        for name, value in options.items()
        if value is not None
    )


_encoder = msgspec.json.Encoder(enc_hook=to_builtin, order="deterministic")


def options_in(digest: bytes) -> dict[str, bytes]:
    """The digest of each option that is set, by its name."""
    starts = range(INPUT_DIGEST, len(digest), 1 + OPTION_DIGEST)
    return {
        OPTIONS[digest[start]]: digest[start + 1 : start + 1 + OPTION_DIGEST] for start in starts
    }
