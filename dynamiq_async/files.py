"""`app.files`: upload files for an App's runs, without reading them into memory.

The wire facts and their sources are in docs/contract.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from dynamiq_async import errors
from dynamiq_async._http.multipart import Multipart
from dynamiq_async._http.request_options import UNSET, RequestOptions, TimeoutLike
from dynamiq_async._http.uploads import Content, Progress, Upload
from dynamiq_async._words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async._http.api import Api

MAX_FILE_BYTES = 128 * 1024 * 1024
"""The vendor documents this for the whole request, so the largest file is a few hundred bytes
smaller. Self-hosted installs may allow more."""


class _FileData(Struct):
    data: File


class File(Struct, frozen=True, kw_only=True):
    """An uploaded file, which belongs to the App it was uploaded to. `size` is in bytes."""

    id: str
    name: str | None = None
    size: int | None = None
    mime_type: str | None = None


class Files:
    """The files of one App, as `app.files`. A file belongs to the App it was uploaded to."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def upload(
        self,
        content: Content | Upload,
        *,
        name: str | None = None,
        mime_type: str | None = None,
        progress: Progress | None = None,
        retry: bool | None = None,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> File:
        """Upload a file. Its id goes into `file_ids` of a run.

        The whole request may have at most 128 MiB (documented by the vendor), so the largest file
        is a few hundred bytes smaller. The file is read piece by piece, so a large file takes no
        more memory than a small one.

        Args:
            content: a path, bytes, a binary file object, an async iterable of bytes, or an
                `Upload`.
            name: by default the path's or file object's own.
            mime_type: by default guessed from the name.
            progress: called as `progress(sent, size)`, in bytes, after each piece; the size is
                None where it is not known.

        The other arguments are those of `AsyncApp.invoke`.

        Raises:
            InvalidArgumentError: the content cannot be read or has more than 128 MiB. Nothing was
                sent, except perhaps a part of content whose size was not known beforehand.

        And what `AsyncApp.invoke` raises.
        """
        upload = content if isinstance(content, Upload) else None
        if upload is None:
            upload = Upload(content, name=name, mime_type=mime_type)  # type: ignore[arg-type]
        elif name is not None or mime_type is not None:
            raise errors.InvalidArgumentError(
                "an Upload has its own name and mime_type", argument="name"
            )
        if upload.size is not None and upload.size > MAX_FILE_BYTES:
            raise errors.InvalidArgumentError(
                f"{upload.name} has {counted(upload.size, 'byte')}; an App takes files of at most "
                f"{MAX_FILE_BYTES} bytes (128 MiB)",
                argument="content",
            )
        given = RequestOptions(timeout, max_retries, retry, extra_headers)
        body = Multipart([], [("file", upload)], max_file_bytes=MAX_FILE_BYTES, progress=progress)
        request = self._api.request("POST", "v1", "files", body=body, given=given)
        options = self._api.options.for_call(given)
        return (await self._api.fetch(request, options, _FileData)).data
