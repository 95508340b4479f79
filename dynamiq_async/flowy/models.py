"""Flowy's apps and runs, as plain data.

The fields are documented by the vendor, who also documents a `name` of inputs and outputs and the
`arity` of inputs: these are not read yet. Times are texts, as they come. Every field but a run's id
has a default, and every list of values is open: what the service adds later, or leaves out, does
not keep the rest from a caller.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Raw, Struct, structs

from dynamiq_async import _json
from dynamiq_async.errors import (
    InvalidArgumentError,
    OutputMissingError,
    RunCanceledError,
    RunError,
    RunFailedError,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

COMPLETED = "completed"
CANCELED_STATUS = frozenset({"canceled", "cancelled"})  # our guess: no way to cancel is documented
TERMINAL_STATUS = frozenset({COMPLETED, "failed"}) | CANCELED_STATUS
_MEDIA = {"image_url": "an image", "video_url": "a video", "audio_url": "an audio file"}
_URL = re.compile(r"(?i)(?:[a-z][a-z0-9+.-]*://[^\s/?#]\S*|data:\S+)")

DEFAULT_MAX_BYTES = 1024 * 1024 * 1024
"""The largest output that is downloaded unless more is allowed, in bytes."""


class FlowyInput(Struct, frozen=True, kw_only=True, rename="camel"):
    """An input of an app.

    Attributes:
        node_id: the key under which its value is sent.
        label: its name for people.
        kind: `text`, `image_url`, `video_url`, `audio_url`, or one added since.
        required: whether a run needs it.
    """

    node_id: str = ""
    label: str | None = None
    kind: str | None = None
    required: bool = False

    def __str__(self) -> str:
        known = [self.node_id, self.kind, "required" if self.required else None]
        return f"{self.label or 'input'!r} ({', '.join(filter(None, known))})"

    def complaint(self, value: Any) -> str | None:
        """What is wrong with a value of this input, as far as its kind tells; None for nothing."""
        if self.kind == "text" and not isinstance(value, str):
            return f"{self} must be a string, not {type(value).__name__}"
        if self.kind in _MEDIA and not (isinstance(value, str) and _URL.fullmatch(value)):
            shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
            return f"{self} must be the URL of {_MEDIA[self.kind]}, not {shown}"
        return None


class FlowyOutputSpec(Struct, frozen=True, kw_only=True, rename="camel"):
    """An output of an app. `output_type` is `image`, `video`, `audio`, `text`, `flam`, or one added
    since."""

    node_id: str = ""
    label: str | None = None
    output_type: str | None = None


class FlowyApp(Struct, frozen=True, kw_only=True, rename="camel"):
    """An app.

    Attributes:
        inputs, outputs: what it takes and makes; None where the response had none, as in a list.
    """

    id: str | None = None
    slug: str | None = None
    title: str | None = None
    description: str | None = None
    published: bool | None = None
    run_count: int | None = None
    thumbnail_url: str | None = None
    inputs: list[FlowyInput] | None = None
    outputs: list[FlowyOutputSpec] | None = None

    def __str__(self) -> str:
        return self.title or self.slug or self.id or "an app without a name"

    def fit(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """`inputs` as they are sent: by node ids, without those that are None.

        An input may be named by its label, in whatever case, where no other has the same. An app
        whose `inputs` are None checks nothing; `flowy.apps.get()` returns one that has them.

        Raises:
            InvalidArgumentError: an input is unknown, missing, named twice or of the wrong kind;
                the message lists what the app takes.
        """
        given = {name: value for name, value in inputs.items() if value is not None}
        if self.inputs is None:
            return given
        found: dict[str, Any] = {}
        complaints = []
        for name, value in given.items():
            match self._find_inputs(name):
                case [spec] if spec.node_id in found:
                    complaints.append(f"{spec} is given twice")
                case [spec]:
                    found[spec.node_id] = value
                    complaints += filter(None, [spec.complaint(value)])
                case []:
                    complaints.append(f"{name!r} is none of its inputs")
                case several:
                    ids = ", ".join(spec.node_id for spec in several)
                    complaints.append(f"{name!r} is the label of several inputs: use one of {ids}")
        for spec in self.inputs:
            if spec.required and spec.node_id not in found:
                complaints.append(f"{spec} is missing")
        if complaints:
            takes = ", ".join(map(str, self.inputs)) or "no inputs"
            raise InvalidArgumentError(
                f"inputs do not fit {str(self)!r}: {'; '.join(complaints)}. It takes {takes}",
                argument="inputs",
            )
        return found

    def _find_inputs(self, name: str) -> list[FlowyInput]:
        """The input with this node id, else those with this label."""
        inputs = self.inputs or []
        if by_id := [spec for spec in inputs if spec.node_id == name]:
            return by_id[:1]
        label = str(name).strip().casefold()
        return [spec for spec in inputs if (spec.label or "").strip().casefold() == label]


class ContentLoader(Protocol):
    """Loads the content of an output, by the client that the run came from."""

    async def save(
        self,
        output: FlowyOutput,
        path: str | os.PathLike[str],
        *,
        max_bytes: int,
        timeout: float | None,
        progress: Callable[[int, int | None], object] | None,
    ) -> Path: ...

    async def read(
        self,
        output: FlowyOutput,
        *,
        max_bytes: int,
        timeout: float | None,
        progress: Callable[[int, int | None], object] | None,
    ) -> bytes: ...


class FlowyOutput(Struct, frozen=True, kw_only=True, rename="camel", dict=True):
    """An output of a run.

    Attributes:
        node_id: the node that made it.
        kind: `image`, `video`, `audio`, `text`, `flam`, or one added since.
        url: a link to its content. It is signed and expires, so download soon (documented).
        text: the content itself, where it is a text.
    """

    node_id: str = ""
    kind: str | None = None
    url: str | None = None
    text: str | None = None

    def __repr__(self) -> str:
        # The query opens the link to anybody.
        link = None if self.url is None else self.url.partition("?")[0]
        return (
            f"{type(self).__name__}(node_id={self.node_id!r}, kind={self.kind!r}, url={link!r}, "
            f"text={self.text!r})"
        )

    async def save(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout: float | None = None,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> Path:
        """Write the content to a file, as it arrives.

        It is written under another name in the same folder and renamed when it is whole; whatever
        goes wrong, nothing of it is left. The key is never sent to the link's host. Where the link
        has expired, the run is fetched once for a fresh one.

        Args:
            path: the file, which is replaced if it is there; or a folder, in which the file is
                named after the link and gets a number where there is such a file.
            max_bytes: the most that is downloaded.
            timeout: seconds for all of it; None for no limit.
            progress: called as `progress(received, size)`, in bytes, after each piece; the size is
                None where it is not known.

        Returns:
            The file's path.

        Raises:
            InvalidArgumentError: an argument cannot be used.
            ResponseTooLargeError: there is more than `max_bytes`.
            PermissionDeniedError, NotFoundError, GoneError, APIStatusError: the link has expired,
                or the host refuses it.
            APIConnectionError, APITimeoutError: the content did not arrive whole.
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
        progress: Callable[[int, int | None], object] | None = None,
    ) -> bytes:
        """The content, in memory. Arguments and errors are those of `save`; a text is UTF-8."""
        return await self._get_loader().read(
            self, max_bytes=max_bytes, timeout=timeout, progress=progress
        )

    def bind(self, loader: ContentLoader) -> None:
        """Set the loader of `save` and `read`, as a client does for the runs that it returns."""
        vars(self)["_loader"] = loader

    def _get_loader(self) -> ContentLoader:
        loader: ContentLoader | None = vars(self).get("_loader")
        if loader is None:
            raise OutputMissingError(
                "this output has no client, since it was made by hand or unpickled; get its run "
                "again with flowy.runs.get()"
            )
        return loader


class FlowyRun(Struct, frozen=True, kw_only=True, rename="camel"):
    """A run.

    Attributes:
        status: `queued`, `running`, `completed`, `failed`, or one added since.
        outputs: what it made; all of it once the run is completed.
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
        """Whether the run is over, one way or another."""
        return self.status in TERMINAL_STATUS

    def unwrap(self) -> list[FlowyOutput]:
        """The outputs of a completed run.

        Raises:
            RunFailedError, RunCanceledError: the run ended so. The error's `run` is this one.
            RunError: the run is not over.
        """
        if self.status == COMPLETED:
            return self.outputs
        if self.status in CANCELED_STATUS:
            message = f"run {self.run_id} was canceled"
            raise RunCanceledError(message, run_id=self.run_id, run=self)
        if self.is_terminal:
            message = f"run {self.run_id} failed: {_error_text(self.error) or 'no reason given'}"
            raise RunFailedError(message, run_id=self.run_id, run=self)
        message = f"run {self.run_id} is not over, it is {self.status}"
        raise RunError(message, run_id=self.run_id, run=self)

    def output(self, node_id: str | None = None) -> FlowyOutput:
        """The output of one node of a completed run; without an id, the run's only output.

        Raises:
            OutputMissingError: there is none, or there are several.
            What `unwrap` raises.
        """
        outputs = self.unwrap()
        found = [o for o in outputs if node_id is None or o.node_id == node_id]
        if len(found) == 1:
            return found[0]
        nodes = ", ".join(o.node_id for o in outputs) or "none"
        wanted = "the only output" if node_id is None else f"one output of node {node_id}"
        raise OutputMissingError(
            f"run {self.run_id} has not {wanted}; its outputs are of: {nodes}",
            run_id=self.run_id,
            run=self,
        )


def _error_text(error: Any) -> str:
    if isinstance(error, dict):
        return _error_text(error.get("message", error.get("error")))
    return error if isinstance(error, str) else ""


# --- decoding --------------------------------------------------------------------------------


def app_of(data: Raw) -> FlowyApp:
    """An app as it came, without the fields that are of an unforeseen type.

    Raises one of `_json.DECODE_ERRORS` when it is no object.
    """
    try:
        return _json.decode_with(_decode_app, data)
    except msgspec.ValidationError:
        content = _json.decode(data, dict[str, Any])
    parts = {
        "inputs": _items(content.pop("inputs", None), FlowyInput),
        "outputs": _items(content.pop("outputs", None), FlowyOutputSpec),
    }
    return structs.replace(_json.fitting(content, FlowyApp), **parts)


def run_of(data: Raw) -> FlowyRun:
    """A run as it came, without the fields that are of an unforeseen type.

    Raises one of `_json.DECODE_ERRORS` when it is no object, or has no id by which to poll it.
    """
    try:
        return _json.decode_with(_decode_run, data)
    except msgspec.ValidationError:
        content = _json.decode(data, dict[str, Any])
        if not isinstance(content.get("runId"), str):
            raise
    outputs = _items(content.pop("outputs", None), FlowyOutput)
    return structs.replace(_json.fitting(content, FlowyRun), outputs=outputs or [])


def _items(content: Any, type: type[Struct]) -> list[Any] | None:
    if not isinstance(content, list):
        return None
    return [_json.fitting(item, type) for item in content if isinstance(item, dict)]


_decode_app = msgspec.json.Decoder(FlowyApp).decode
_decode_run = msgspec.json.Decoder(FlowyRun).decode
