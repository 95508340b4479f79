"""Digests by which a journal recognises an input and the options of its call."""

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
"""The options of a call that affect its output. Digests contain their positions in this tuple."""

INPUT_DIGEST: Final = 16
OPTION_DIGEST: Final = 7
"""Bytes of a digest."""


def digest(value: Any, argument: str = "input", size: int = INPUT_DIGEST) -> bytes:
    """The digest of an input's or option's JSON. The order of fields does not matter."""
    try:
        encoded = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise errors.InvalidArgumentError(
            f"the {argument} cannot be encoded as JSON, which a journal needs: {error}",
            argument=argument,
        ) from error
    return blake2b(encoded, digest_size=size).digest()


def digest_options(options: Mapping[str, Any]) -> bytes:
    """The digests of the options that a call sets; empty where it sets none."""
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
