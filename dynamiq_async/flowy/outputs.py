"""The outputs of Flowy's runs, and how their content is brought."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamiq_async import errors
from dynamiq_async._http.timers import deadline_in
from dynamiq_async._tasks import in_thread
from dynamiq_async.downloads import (
    MAX_WAIT,
    Downloader,
    Got,
    Memory,
    PartFile,
    Sink,
    file_name,
    placed,
)
from dynamiq_async.options import check_count, check_seconds

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async.flowy.models import FlowyOutput, FlowyRun


EXPIRED_STATUS = frozenset({400, 401, 403, 404, 410})
"""What storage services answer for a link whose time is up: they do not agree on one."""


class Origin:
    """Where the content of one output of a run comes from; what `FlowyOutput` is bound to."""

    def __init__(
        self,
        downloader: Downloader,
        options: SendOptions,
        reread: Callable[[str, float | None], Awaitable[FlowyRun]],
        run: FlowyRun,
        position: int,
    ) -> None:
        self._downloader = downloader
        self._options = options
        self._reread = reread
        self._run_id = run.run_id
        self._position = position

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
        place, is_folder = await in_thread(placed, path)
        part = PartFile(place if is_folder else place.parent)
        try:
            await part.create()
            got = await self._bring(output, part, max_bytes, timeout, progress)
            if not is_folder:
                return await part.publish(place)
            fallback = output.node_id or "output"
            return await part.publish_beside(file_name(got.url, got.media_type, fallback))
        finally:
            part.discard()

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
        await self._bring(output, memory, max_bytes, timeout, progress)
        return bytes(memory.content)

    async def _bring(
        self,
        output: FlowyOutput,
        sink: Sink,
        max_bytes: int,
        timeout: float | None,
        progress: Callable[[int, int | None], object] | None,
    ) -> Got:
        check_count(max_bytes, "max_bytes")
        # Beside the link to an image, a text (an empty one, too) is not what was made.
        if output.text is not None and (output.url is None or output.kind == "text"):
            return await self._write_text(output.text, sink, max_bytes, progress)
        if output.url is None:
            raise errors.OutputMissingError(
                f"node {output.node_id} of run {self._run_id} has neither a text nor a link",
                run_id=self._run_id,
            )
        options = self._limited(timeout)
        deadline = deadline_in(timeout)
        to = {"sink": sink, "max_bytes": max_bytes, "progress": progress}
        try:
            return await self._downloader.get(output.url, options, deadline, **to)
        except errors.APIStatusError as error:
            refused = error
        if refused.status in EXPIRED_STATUS:
            if url := await self._fresh_link(output, deadline):
                return await self._downloader.get(url, options, deadline, **to)
            raise self._expired(output, refused) from refused
        raise refused

    def _limited(self, timeout: float | None) -> SendOptions:
        """The client's options. Its patience is for another service, whose limits are known."""
        return self._options.with_total(timeout).with_policy(patient=False, max_wait=MAX_WAIT)

    async def _write_text(
        self,
        text: str,
        sink: Sink,
        max_bytes: int,
        progress: Callable[[int, int | None], object] | None,
    ) -> Got:
        content = text.encode("utf-8", "replace")
        if len(content) > max_bytes:
            raise errors.ResponseTooLargeError(
                f"the text of run {self._run_id} is larger than max_bytes ({max_bytes})",
                run_id=self._run_id,
            )
        await sink.write(content)
        if progress is not None:
            progress(len(content), len(content))
        return Got("", "text/plain")

    async def _fresh_link(self, output: FlowyOutput, deadline: float | None) -> str | None:
        """Another link to the same content, if the run has one by now."""
        try:
            run = await self._reread(self._run_id, deadline)
        except errors.DynamiqError:
            return None  # that the link has expired is what the caller is told
        same = [o for o in run.outputs if (o.node_id, o.kind) == (output.node_id, output.kind)]
        if self._position < len(run.outputs) and run.outputs[self._position] in same:
            same.insert(0, run.outputs[self._position])
        return next((o.url for o in same if o.url and o.url != output.url), None)

    def _expired(self, output: FlowyOutput, refused: errors.APIStatusError) -> errors.DynamiqError:
        return refused.retold(
            type(refused),
            f"{refused.message}: the link to the output of node {output.node_id} of run "
            f"{self._run_id} has expired or is refused, and the run has no other. Links expire: "
            "save outputs soon after the run is completed",
            run_id=self._run_id,
        )
