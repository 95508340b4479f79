"""Loads the content of Flowy's outputs, by links that may have expired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async._http.timers import deadline_in
from dynamiq_async.downloads import (
    EXPIRED_STATUS,
    MAX_WAIT,
    Downloaded,
    Downloader,
    Loader,
    Sink,
    file_name,
)
from dynamiq_async.options import check_count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dynamiq_async._hosts import Reach
    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async.downloads.requests import Progress
    from dynamiq_async.flowy.models import FlowyOutput

    FindLink = Callable[[FlowyOutput, float | None], Awaitable[str | None]]
    """Finds another link to an output before a deadline; None if there is none."""


class OutputLoader(Loader["FlowyOutput"]):
    """Loads the content of one output.

    Args:
        whose: what the output belongs to, for messages: a run, a generation or an asset.
        run_id: the run id for errors.
        near: the nearest kind of host that its link may lead to; see `Reach`.
        find_links: functions that find another link after one has expired. They are tried in order.
    """

    def __init__(
        self,
        downloader: Downloader,
        options: SendOptions,
        *,
        whose: str,
        run_id: str | None,
        near: Reach,
        find_links: Sequence[FindLink],
    ) -> None:
        self._downloader = downloader
        self._options = options
        self._whose = whose
        self._run_id = run_id
        self._near = near
        self._find_links = find_links

    def _name(self, output: FlowyOutput, loaded: Downloaded) -> str:
        fallback = output.name or output.node_id or output.asset_id or "output"
        return file_name(loaded.url, loaded.media_type, fallback)

    async def _load(
        self,
        output: FlowyOutput,
        sink: Sink,
        max_bytes: int,
        timeout: float | None,
        progress: Progress | None,
    ) -> Downloaded:
        check_count(max_bytes, "max_bytes")
        # If there is a link to an image, a text beside it, such as an empty one, is not the output.
        if output.text is not None and (output.url is None or output.kind == "text"):
            return await self._write_text(output.text, sink, max_bytes, progress)
        if output.url is None:
            raise errors.OutputMissingError(
                f"{output} of {self._whose} has neither a text nor a link",
                run_id=self._run_id,
            )
        options = self._download_options(timeout)
        deadline = deadline_in(timeout)
        target: dict[str, Any] = {"sink": sink, "max_bytes": max_bytes, "progress": progress}
        target["near"] = self._near
        try:
            return await self._downloader.get(output.url, options, deadline, **target)
        except errors.APIStatusError as error:
            refusal = error
        if refusal.status not in EXPIRED_STATUS:
            raise refusal
        tried = {output.url}
        for find_link in self._find_links:
            url = await self._find(find_link, output, deadline)
            if url is None or url in tried:
                continue
            tried.add(url)
            try:
                return await self._downloader.get(url, options, deadline, **target)
            except errors.APIStatusError as error:
                if error.status not in EXPIRED_STATUS:
                    raise
        raise self._expired_error(output, refusal) from refusal

    async def _find(
        self, find_link: FindLink, output: FlowyOutput, deadline: float | None
    ) -> str | None:
        try:
            return await find_link(output, deadline)
        except errors.DynamiqError:
            return None  # the caller gets the error that the link has expired

    def _download_options(self, timeout: float | None) -> SendOptions:
        """The client's options without its patience, which is only for Flowy's own rate limit."""
        return self._options.with_total(timeout).with_policy(patient=False, max_wait=MAX_WAIT)

    async def _write_text(
        self,
        text: str,
        sink: Sink,
        max_bytes: int,
        progress: Progress | None,
    ) -> Downloaded:
        content = text.encode("utf-8", "replace")
        if len(content) > max_bytes:
            raise errors.ResponseTooLargeError(
                f"the text of {self._whose} is larger than max_bytes ({max_bytes})",
                run_id=self._run_id,
            )
        await sink.write(content)
        if progress is not None:
            progress(len(content), len(content))
        return Downloaded("", "text/plain")

    def _expired_error(
        self, output: FlowyOutput, refusal: errors.APIStatusError
    ) -> errors.DynamiqError:
        return refusal.retold(
            type(refusal),
            f"{refusal.message}: the link to the output of {output} of {self._whose} has expired "
            "or is refused, and no other was found. Links expire: save outputs soon after they are "
            "made",
            run_id=self._run_id,
        )
