"""`management.artifacts`: lists and downloads the files that a run has made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack
from urllib.parse import urlsplit

from msgspec import Raw, Struct

from dynamiq_async import _json
from dynamiq_async._hosts import reach_of
from dynamiq_async._http.request_options import UNSET
from dynamiq_async._http.timers import deadline_in, seconds_left
from dynamiq_async.downloads import DEFAULT_MAX_BYTES, MAX_WAIT, Loader, file_name
from dynamiq_async.errors import DynamiqError, OutputMissingError
from dynamiq_async.management.lists import MAX_PAGE_SIZE, ListOptions, app_path, pages_of, reader
from dynamiq_async.options import check_count, check_id

if TYPE_CHECKING:
    import os
    from pathlib import Path
    from uuid import UUID

    from dynamiq_async._http.api import Api
    from dynamiq_async._http.paging import Pages
    from dynamiq_async.downloads import Downloaded, Downloader, Sink
    from dynamiq_async.downloads.requests import Progress
    from dynamiq_async.management.models import App


class Artifact(_json.KeepsRaw, Struct, frozen=True, kw_only=True, dict=True):
    """A file that a run has made (documented by the vendor).

    Attributes:
        type: `file`, or one that was added later.
        download_url: a link to its content at another host. It is signed, and works for a short
            time. Anybody who has it can download the file, so no repr shows its query.
        size: in bytes.
        saved_at: an RFC 3339 text.
    """

    id: str | None = None
    type: str | None = None
    name: str | None = None
    size: int | None = None
    mime_type: str | None = None
    saved_at: str | None = None
    download_url: str | None = None

    def __repr__(self) -> str:
        link = None if self.download_url is None else self.download_url.partition("?")[0]
        return (
            f"{type(self).__name__}(id={self.id!r}, name={self.name!r}, size={self.size!r}, "
            f"mime_type={self.mime_type!r}, saved_at={self.saved_at!r}, download_url={link!r})"
        )

    async def save(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Write the content to a file, as it arrives.

        The content is written under a temporary name in the same folder, and renamed when it is
        complete. If anything goes wrong, no file is left. The token is never sent to the link's
        host. If the link has expired, the client lists the artifacts again for a fresh link.

        Args:
            path: the file, which is replaced if it exists; or a folder, in which the file is named
                after the artifact, with a number if that name exists.
            max_bytes: the most bytes to download.
            timeout: seconds for the whole download; None for no limit.
            progress: called as `progress(received, size)`, in bytes, after each piece. The size is
                None if it is not known.

        Returns:
            The file's path.

        Raises:
            InvalidArgumentError: an argument cannot be used.
            ResponseTooLargeError: the content is larger than `max_bytes`.
            PermissionDeniedError, NotFoundError, GoneError, APIStatusError: the link has expired,
                or the host refuses it.
            APIConnectionError, APITimeoutError: the content did not arrive completely.
            OutputMissingError: there is no link.
            OSError: the file cannot be written.
        """
        return await self._get_loader().save(
            self, path, max_bytes=max_bytes, timeout=timeout, progress=progress
        )

    async def read(
        self,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """The content, in memory. Arguments and errors are those of `save`."""
        return await self._get_loader().read(
            self, max_bytes=max_bytes, timeout=timeout, progress=progress
        )

    def _get_loader(self) -> _Loader:
        loader: _Loader | None = vars(self).get(_LOADER)
        if loader is None:
            raise OutputMissingError(
                "this artifact has no client, since it was made by hand or unpickled; list its "
                "run's again with management.artifacts.list()"
            )
        return loader


_LOADER = "_loader"
_read = reader(Artifact)


class Artifacts:
    """The files that runs have made, as `management.artifacts`."""

    def __init__(self, api: Api, downloader: Downloader) -> None:
        self._api = api
        self._downloader = downloader

    def list(
        self, app: App | str | UUID, run_id: str | UUID, **options: Unpack[ListOptions]
    ) -> Pages[Artifact]:
        """The files that a run has made. Await the result for one page, or iterate it for all.

            async for artifact in management.artifacts.list(run.app_id, run.id):
                await artifact.save("reports/")

        Args:
            app: the App or its id, such as the run's `app_id`.
            run_id: the run's id.
            options: the arguments that all lists share; see `ListOptions`.

        Raises:
            InvalidArgumentError: an argument cannot be used. Awaiting and iterating raise what
                `AsyncApp.invoke` raises, such as NotFoundError.
        """
        path = (*app_path(app), "runs", check_id(run_id, "run_id"), "artifacts")
        loader = _Loader(self._api, self._downloader, path)

        def read(data: Raw) -> Artifact:
            artifact = _read(data)
            vars(artifact)[_LOADER] = loader
            return artifact

        return pages_of(self._api, path, read, "artifact", **options)


class _Loader(Loader[Artifact]):
    """Loads the content of one run's artifacts."""

    def __init__(self, api: Api, downloader: Downloader, path: tuple[str, ...]) -> None:
        self._api = api
        self._downloader = downloader
        self._path = path

    def _name(self, artifact: Artifact, loaded: Downloaded) -> str:
        link = "" if artifact.name else loaded.url
        fallback = artifact.name or artifact.id or "artifact"
        return file_name(link, artifact.mime_type or loaded.media_type, fallback)

    async def _load(
        self,
        artifact: Artifact,
        sink: Sink,
        max_bytes: int,
        timeout: float | None,
        progress: Progress | None,
    ) -> Downloaded:
        check_count(max_bytes, "max_bytes")
        if artifact.download_url is None:
            raise OutputMissingError(f"artifact {artifact.id} has no link")
        options = self._api.options.with_total(timeout).with_policy(max_wait=MAX_WAIT)
        deadline = deadline_in(timeout)
        near = reach_of(urlsplit(self._api.url).hostname or "")
        target: dict[str, Any] = {"sink": sink, "max_bytes": max_bytes, "progress": progress}

        async def renew() -> str | None:
            return await self._fresh_link(artifact, seconds_left(deadline))

        return await self._downloader.get_or_renew(
            artifact.download_url, renew, options, deadline, near=near, **target
        )

    async def _fresh_link(self, artifact: Artifact, timeout: float | None) -> str | None:
        """A fresh link to the same content, if the service returns one."""
        listed = pages_of(
            self._api,
            self._path,
            _read,
            "artifact",
            page_size=MAX_PAGE_SIZE,
            timeout=UNSET if timeout is None else timeout,
        )
        try:
            async with listed as found:
                async for other in found:
                    if other.id == artifact.id and other.download_url != artifact.download_url:
                        return other.download_url
        except DynamiqError:
            return None  # the caller gets the error that the link has expired
        return None
