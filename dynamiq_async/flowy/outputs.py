"""Loading the content of the outputs of Flowy's runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async import downloads, errors
from dynamiq_async._http.timers import deadline_in
from dynamiq_async.downloads import (
    EXPIRED_STATUS,
    MAX_WAIT,
    Downloaded,
    Downloader,
    Memory,
    Sink,
    file_name,
)
from dynamiq_async.options import check_count, check_seconds

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from dynamiq_async._hosts import Reach
    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async.flowy.models import FlowyOutput, FlowyRun


class OutputLoader:
    """The `ContentLoader` of one output of a run."""

    def __init__(
        self,
        downloader: Downloader,
        options: SendOptions,
        get_run: Callable[[str, float | None], Awaitable[FlowyRun]],
        run: FlowyRun,
        position: int,
        near: Reach,
    ) -> None:
        self._downloader = downloader
        self._options = options
        self._get_run = get_run
        self._run_id = run.run_id
        self._position = position
        self._near = near

    async def save(
        self,
        output: FlowyOutput,
        path: str | os.PathLike[str],
        *,
        max_bytes: int,
        timeout: float | None,
        progress: Callable[[int, int | None], object] | None,
    ) -> Path:
        check_seconds(timeout, "timeout")
        return await downloads.save(
            path,
            lambda sink: self._load(output, sink, max_bytes, timeout, progress),
            lambda it: file_name(it.url, it.media_type, output.node_id or "output"),
        )

    async def read(
        self,
        output: FlowyOutput,
        *,
        max_bytes: int,
        timeout: float | None,
        progress: Callable[[int, int | None], object] | None,
    ) -> bytes:
        check_seconds(timeout, "timeout")
        memory = Memory()
        await self._load(output, memory, max_bytes, timeout, progress)
        return bytes(memory.content)

    async def _load(
        self,
        output: FlowyOutput,
        sink: Sink,
        max_bytes: int,
        timeout: float | None,
        progress: Callable[[int, int | None], object] | None,
    ) -> Downloaded:
        check_count(max_bytes, "max_bytes")
        # Beside the link to an image, a text, such as an empty one, is not the output.
        if output.text is not None and (output.url is None or output.kind == "text"):
            return await self._write_text(output.text, sink, max_bytes, progress)
        if output.url is None:
            raise errors.OutputMissingError(
                f"node {output.node_id} of run {self._run_id} has neither a text nor a link",
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
        if refusal.status in EXPIRED_STATUS:
            if url := await self._fresh_link(output, deadline):
                return await self._downloader.get(url, options, deadline, **target)
            raise self._expired_error(output, refusal) from refusal
        raise refusal

    def _download_options(self, timeout: float | None) -> SendOptions:
        """The client's options without its patience, which is for Flowy's own rate limit."""
        return self._options.with_total(timeout).with_policy(patient=False, max_wait=MAX_WAIT)

    async def _write_text(
        self,
        text: str,
        sink: Sink,
        max_bytes: int,
        progress: Callable[[int, int | None], object] | None,
    ) -> Downloaded:
        content = text.encode("utf-8", "replace")
        if len(content) > max_bytes:
            raise errors.ResponseTooLargeError(
                f"the text of run {self._run_id} is larger than max_bytes ({max_bytes})",
                run_id=self._run_id,
            )
        await sink.write(content)
        if progress is not None:
            progress(len(content), len(content))
        return Downloaded("", "text/plain")

    async def _fresh_link(self, output: FlowyOutput, deadline: float | None) -> str | None:
        """Another link to the same content, if the run has one by now."""
        try:
            run = await self._get_run(self._run_id, deadline)
        except errors.DynamiqError:
            return None  # the caller's error is that the link has expired
        same = [o for o in run.outputs if (o.node_id, o.kind) == (output.node_id, output.kind)]
        if self._position < len(run.outputs) and run.outputs[self._position] in same:
            same.insert(0, run.outputs[self._position])
        return next((o.url for o in same if o.url and o.url != output.url), None)

    def _expired_error(
        self, output: FlowyOutput, refusal: errors.APIStatusError
    ) -> errors.DynamiqError:
        return refusal.retold(
            type(refusal),
            f"{refusal.message}: the link to the output of node {output.node_id} of run "
            f"{self._run_id} has expired or is refused, and the run has no other. Links expire: "
            "save outputs soon after the run is completed",
            run_id=self._run_id,
        )
