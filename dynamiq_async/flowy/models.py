"""Flowy's data: runs of apps, generations, their outputs, assets, and credits.

The vendor documents the fields, except those of an asset, which are our guess. Times are texts, as
they come. Every field except an id has a default, and every list of values is open. So a caller
gets the rest even if the service adds or leaves out a field or a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Raw, Struct, structs

from dynamiq_async import _json
from dynamiq_async._http.paging import Pagination
from dynamiq_async.downloads import DEFAULT_MAX_BYTES
from dynamiq_async.errors import OutputMissingError, RunCanceledError, RunError, RunFailedError
from dynamiq_async.flowy.schema import find_named, items_of

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from dynamiq_async.downloads import Loader
    from dynamiq_async.downloads.requests import Progress

COMPLETED = "completed"
CANCELED_STATUS = frozenset({"canceled", "cancelled"})  # our guess: no way to cancel is documented
TERMINAL_STATUS = frozenset({COMPLETED, "failed"}) | CANCELED_STATUS


M = TypeVar("M", bound="FlowyRun | FlowyGeneration")


class FlowyOutput(Struct, frozen=True, kw_only=True, rename="camel", dict=True):
    """An output of a run or of a generation.

    Attributes:
        node_id: the node that made it; empty for a generation.
        name: the node's name, if it has one.
        label: the node's name for people. No response has it. The client takes it from the app, if
            it has fetched that in the last ten minutes, as it does to check inputs.
        kind: `image`, `video`, `audio`, `text`, `flam`, or one that was added later.
        url: a link to its content. It is signed and expires, so download soon (documented).
        text: the content itself, if it is a text.
        asset_id: the asset that keeps the output, if the service names it, as for a generation.
    """

    node_id: str = ""
    name: str | None = None
    label: str | None = None
    kind: str | None = None
    url: str | None = None
    text: str | None = None
    asset_id: str | None = None

    def __str__(self) -> str:
        if named := self.name or self.node_id:
            return f"node {named}"
        return f"asset {self.asset_id}" if self.asset_id else self.kind or "an output"

    def __repr__(self) -> str:
        # Anybody who has a link's query can open the link.
        link = None if self.url is None else self.url.partition("?")[0]
        return _shown(structs.replace(self, url=link), "")

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
        complete. If anything goes wrong, no file is left. The key is never sent to the link's host.
        If the link has expired, the client gets the run again for a fresh link. If that gives none,
        it gets the output's asset (documented), which needs a key that may read assets.

        Args:
            path: the file, which is replaced if it exists; or a folder, in which the file is named
                after the link, with a number if that name exists.
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
            OutputMissingError: there is neither a text nor a link.
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
        """The content, in memory. Arguments and errors are those of `save`. A text becomes
        UTF-8."""
        return await self._get_loader().read(
            self, max_bytes=max_bytes, timeout=timeout, progress=progress
        )

    def bind(self, loader: Loader[FlowyOutput]) -> None:
        """Set the loader of `save` and `read`, as a client does for the runs that it returns."""
        vars(self)["_loader"] = loader

    def _get_loader(self) -> Loader[FlowyOutput]:
        loader: Loader[FlowyOutput] | None = vars(self).get("_loader")
        if loader is None:
            raise OutputMissingError(
                "this output has no client, since it was made by hand or unpickled; get it again "
                "with flowy.runs.get(), flowy.generations.get() or flowy.assets.get()"
            )
        return loader


class FlowyRun(Struct, frozen=True, kw_only=True, rename="camel"):
    """A run.

    Attributes:
        status: `queued`, `running`, `completed`, `failed`, or one that was added later.
        outputs: its outputs; all of them once the run is completed.
        error: why it failed.
    """

    run_id: str
    app_id: str | None = None
    app_title: str | None = None
    status: str = "queued"
    outputs: list[FlowyOutput] = []
    error: Any = None
    created_at: str | None = None
    updated_at: str | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the run is over, with any outcome."""
        return self.status in TERMINAL_STATUS

    def unwrap(self) -> list[FlowyOutput]:
        """The outputs of a completed run.

        Raises:
            RunFailedError, RunCanceledError: the run failed or was canceled. The error's `run` is
                it.
            RunError: the run is not over.
        """
        return _unwrapped(self, "run", self.run_id)

    def output(self, name: str | None = None) -> FlowyOutput:
        """The output of one node of a completed run.

        Args:
            name: the node's id, its name, or its label in any case; see `FlowyOutput.label` for
                where labels come from. None for the run's only output.

        Raises:
            OutputMissingError: there is no such output, or more than one.

        And what `unwrap` raises.
        """
        outputs = self.unwrap()
        return _only(self, f"run {self.run_id}", outputs, name)


class FlowyGeneration(Struct, frozen=True, kw_only=True, rename="camel"):
    """A generation: something made from a prompt, without an app.

    Attributes:
        status: `processing`, `completed`, `failed`, or one that was added later.
        outputs: its outputs, once it is completed.
        error: why it failed (our guess: as for a run).
        estimated_credits: its expected cost, estimated when it was started.
        credits_charged: its actual cost.
    """

    generation_id: str
    status: str = "processing"
    outputs: list[FlowyOutput] = []
    error: Any = None
    estimated_credits: float | None = None
    credits_charged: float | None = None
    created_at: str | None = None
    updated_at: str | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether it is over, with any outcome."""
        return self.status in TERMINAL_STATUS

    def unwrap(self) -> list[FlowyOutput]:
        """The outputs of a completed generation.

        Raises:
            RunFailedError, RunCanceledError: it failed or was canceled. The error's `run` is this
                generation, and its `run_id` is the generation's id.
            RunError: it is not over.
        """
        return _unwrapped(self, "generation", self.generation_id)

    def output(self) -> FlowyOutput:
        """The only output of a completed generation.

        Raises:
            OutputMissingError: there is no output, or more than one.

        And what `unwrap` raises.
        """
        outputs = self.unwrap()
        return _only(self, f"generation {self.generation_id}", outputs, None)


class FlowyCredits(Struct, frozen=True, kw_only=True, rename="camel"):
    """The credits of a workspace (documented).

    Attributes:
        credits: all of its credits.
        blocked_credits: credits reserved for work in flight.
        available: credits that can be spent.
    """

    workspace_id: str | None = None
    credits: float | None = None
    blocked_credits: float | None = None
    available: float | None = None


class FlowyAsset(Struct, frozen=True, kw_only=True):
    """An asset: something that Flowy made, and the workspace keeps.

    The vendor documents no fields, only that an asset gives a fresh link. The client reads the
    fields where they are likely to be (our guess).

    Attributes:
        id: from `assetId`, `id` or `_id`.
        name, created_at: as they come.
        output: the content, to `save` or `read`.
        data: the whole object, as it came.
    """

    output: FlowyOutput
    id: str | None = None
    name: str | None = None
    created_at: str | None = None
    data: dict[str, Any] = {}

    @property
    def kind(self) -> str | None:
        """`image`, `video`, `audio`, or another."""
        return self.output.kind

    @property
    def url(self) -> str | None:
        """A link to the content. It is signed and expires; `flowy.assets.get()` has a fresh one."""
        return self.output.url

    def __repr__(self) -> str:
        return _shown(self, "data")  # it contains the link


def _shown(value: Struct, hidden: str) -> str:
    known = {name: getattr(value, name) for name in value.__struct_fields__ if name != hidden}
    shown = ", ".join(f"{name}={one!r}" for name, one in known.items() if one is not None)
    return f"{type(value).__name__}({shown})"


def _unwrapped(made: FlowyRun | FlowyGeneration, what: str, id: str) -> list[FlowyOutput]:
    if made.status == COMPLETED:
        return made.outputs
    if made.status in CANCELED_STATUS:
        raise RunCanceledError(f"{what} {id} was canceled", run_id=id, run=made)
    if made.is_terminal:
        message = f"{what} {id} failed: {_error_text(made.error) or 'no reason given'}"
        raise RunFailedError(message, run_id=id, run=made)
    raise RunError(f"{what} {id} is not over, it is {made.status}", run_id=id, run=made)


def _only(
    made: FlowyRun | FlowyGeneration, what: str, outputs: list[FlowyOutput], name: str | None
) -> FlowyOutput:
    found = outputs if name is None else find_named(outputs, name)
    if len(found) == 1:
        return found[0]
    nodes = ", ".join(str(output).removeprefix("node ") for output in outputs) or "none"
    wanted = "the only output" if name is None else f"one output of node {name}"
    labels = (
        ""
        if name is None or any(output.label for output in outputs)
        else ("; labels are known once flowy.apps.get() was asked for the app")
    )
    raise OutputMissingError(
        f"{what} has not {wanted}; its outputs are of: {nodes}{labels}",
        run_id=made.run_id if isinstance(made, FlowyRun) else made.generation_id,
        run=made,
    )


def _error_text(error: Any) -> str:
    if isinstance(error, dict):
        return _error_text(error.get("message", error.get("error")))
    return error if isinstance(error, str) else ""


# --- decoding --------------------------------------------------------------------------------


def run_of(data: Raw) -> FlowyRun:
    """A run as it came, without fields of an unexpected type.

    Raises one of `_json.DECODE_ERRORS` if it is not an object, or has no id by which to poll it.
    """
    return _made_of(data, FlowyRun, "runId")


def generation_of(data: Raw) -> FlowyGeneration:
    """A generation as it came. It is read as `run_of` reads a run."""
    return _made_of(data, FlowyGeneration, "generationId")


def _made_of(data: Raw, type: type[M], id: str) -> M:
    try:
        made: M = _json.decode_with(_decoders[type], data)
    except msgspec.ValidationError:
        content = _json.decode(data, dict[str, Any])
        if not isinstance(content.get(id), str):
            raise
        outputs = items_of(content.pop("outputs", None), FlowyOutput)
        made = structs.replace(_json.fitting(content, type), outputs=outputs or [])
    return made


def credits_of(data: Any) -> FlowyCredits:
    """Credits as they came. Raises msgspec.ValidationError if they are not an object."""
    return _json.fitting(msgspec.convert(data, dict[str, Any]), FlowyCredits)


def listed_assets(data: Any) -> tuple[list[Any], Pagination]:
    """The assets of a page, and its place among the others (documented).

    Raises msgspec.ValidationError for another shape.
    """
    content = {"assets": data} if isinstance(data, list) else data
    listed = msgspec.convert(content, _AssetPage)
    told = msgspec.convert(content, dict[str, Any])
    fields = {
        "page": told.get("page"),
        "page_size": told.get("pageSize"),
        "page_count": told.get("totalPages"),
        "total_count": told.get("total"),
    }
    return listed.assets or [], _json.fitting(fields, Pagination)


def asset_of(data: Any) -> FlowyAsset:
    """An asset as it came. Raises msgspec.ValidationError if it is not an object."""
    content = msgspec.convert(data, dict[str, Any])

    def first(*names: str) -> str | None:
        return next((content[name] for name in names if isinstance(content.get(name), str)), None)

    id, name = first("assetId", "id", "_id"), first("name")
    kind, url = first("kind", "mediaType", "type"), first("url", "signedUrl")
    output = FlowyOutput(kind=kind, url=url, text=first("text"), asset_id=id)
    created_at = first("createdAt")
    return FlowyAsset(id=id, name=name, created_at=created_at, output=output, data=content)


class _AssetPage(Struct):
    assets: list[Any] | None


_decoders: dict[Any, Any] = {
    type: msgspec.json.Decoder(type).decode for type in (FlowyRun, FlowyGeneration)
}
