"""Building requests: everything that can be wrong with an argument is found here, before a byte
is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynamiq_async._http.uploads import Progress, Upload


class Multipart:
    """A `multipart/form-data` body: text fields, then files.

    `max_file_bytes` bounds each file; `progress` is told how far each is.
    """

    __slots__ = ("fields", "files", "max_file_bytes", "progress")

    def __init__(
        self,
        fields: Sequence[tuple[str, str]],
        files: Sequence[tuple[str, Upload]],
        *,
        max_file_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.fields = fields
        self.files = files
        self.max_file_bytes = max_file_bytes
        self.progress = progress

    @property
    def replayable(self) -> bool:
        return all(upload.replayable for _, upload in self.files)


class Request:
    """One request, ready to be sent any number of times unless its body cannot be rewound.

    `idempotent` says whether sending it twice does what sending it once does, `taken` whether the
    server may have taken it so far. `headers` hold the access key, so they are in no repr.
    """

    __slots__ = ("body", "headers", "idempotent", "method", "taken", "urgent", "url")

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Multipart | None = None,
        *,
        idempotent: bool,
        urgent: bool = False,
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.idempotent = idempotent
        self.urgent = urgent
        self.taken = False

    @property
    def replayable(self) -> bool:
        return not isinstance(self.body, Multipart) or self.body.replayable

    def __repr__(self) -> str:
        return f"<Request {self}>"

    def __str__(self) -> str:
        return f"{self.method} {self.url.partition('?')[0]}"
