"""Flowy's apps: their inputs and outputs as plain data, and the check of a run's inputs.

The vendor documents the fields. Every field has a default, and every list of values is open. So
a caller gets the rest even if the service adds or leaves out a field or a value.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec
from msgspec import Raw, Struct, structs

from dynamiq_async import _json
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

InputsForm = Literal["auto", "array", "map"]
"""The form of the request that starts a run. The vendor documents two forms, but not which one
a server accepts:

- an `array` of entries, in which `node_id` is an input's name, or the node id if it has no name;
- a `map` by node id.

`auto` is our guess: the array for an app whose inputs have names, the map for any other app.
"""

_MEDIA = {"image_url": "an image", "video_url": "a video", "audio_url": "an audio file"}
_URL = re.compile(r"(?i)(?:[a-z][a-z0-9+.-]*://[^\s/?#]\S*|data:\S+)")
_GAP = re.compile(r"[^0-9a-z]+")


class Named(Protocol):
    """The names of a node of an app."""

    @property
    def node_id(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def label(self) -> str | None: ...


N = TypeVar("N", bound=Named)
T = TypeVar("T", bound=Struct)


def find_named(things: Iterable[N], wanted: str) -> list[N]:
    """Those with this node id, else with this name, else with this label in any case.

    A label in kebab case also counts as the name (documented), because a run's outputs come without
    their labels.
    """
    things, wanted = list(things), str(wanted)
    label = wanted.strip().casefold()
    return (
        [thing for thing in things if thing.node_id == wanted]
        or [thing for thing in things if thing.name == wanted]
        or [thing for thing in things if label and (thing.label or "").strip().casefold() == label]
        or [thing for thing in things if thing.name and thing.name == _kebab(label)]
    )


def _kebab(label: str) -> str:
    return _GAP.sub("-", label).strip("-")


class FlowyArity(Struct, frozen=True, kw_only=True):
    """The least and the most values of a variable input; None for no limit."""

    min: int | None = None
    max: int | None = None

    def __str__(self) -> str:
        if self.max is None:
            return f"{self.min or 0} or more values"
        return f"{self.min or 0} to {self.max} values"

    def takes(self, count: int) -> bool:
        """Whether this number of values is within the limits."""
        return (self.min or 0) <= count and (self.max is None or count <= self.max)


class FlowyInput(Struct, frozen=True, kw_only=True, rename="camel"):
    """An input of an app.

    Attributes:
        node_id: the node that takes it.
        name: the name for its value in requests, if it has one: the title in kebab case
            (documented).
        label: its name for people.
        kind: `text`, `image_url`, `video_url`, `audio_url`, or one that was added later.
        required: whether a run needs it.
        arity: how many values it takes, if it takes several. They are given as a list.
    """

    node_id: str = ""
    name: str | None = None
    label: str | None = None
    kind: str | None = None
    required: bool = False
    arity: FlowyArity | None = None

    def __str__(self) -> str:
        known = [
            self.name or self.node_id,
            self.kind,
            None if self.arity is None else str(self.arity),
            "required" if self.required else None,
        ]
        return f"{self.label or 'input'!r} ({', '.join(filter(None, known))})"

    @property
    def may_be_empty(self) -> bool:
        """Whether an empty list counts as no value, rather than as too few values."""
        return self.arity is not None and not self.arity.min

    def complaint(self, value: Any) -> str | None:
        """What is wrong with a value of this input, judging by its kind; None if nothing is."""
        values = value if isinstance(value, list) else [value]
        if self.arity is None:
            if isinstance(value, list):
                known = self.kind == "text" or self.kind in _MEDIA
                return f"{self} takes one value, not a list" if known else None
        elif not self.arity.takes(len(values)):
            return f"{self} takes {self.arity}, not {len(values)}"
        return next(filter(None, map(self._value_complaint, values)), None)

    def _value_complaint(self, value: Any) -> str | None:
        if self.kind == "text" and not isinstance(value, str):
            return f"{self} must be a string, not {type(value).__name__}"
        if self.kind in _MEDIA and not (isinstance(value, str) and _URL.fullmatch(value)):
            shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
            return f"{self} must be the URL of {_MEDIA[self.kind]}, not {shown}"
        return None


class FlowyOutputSpec(Struct, frozen=True, kw_only=True, rename="camel"):
    """An output of an app. `output_type` is `image`, `video`, `audio`, `text`, `flam`, or one that
    was added later."""

    node_id: str = ""
    name: str | None = None
    label: str | None = None
    output_type: str | None = None


class FlowyApp(Struct, frozen=True, kw_only=True, rename="camel"):
    """An app.

    Attributes:
        inputs, outputs: its inputs and outputs; None if the response had none, as in a list.
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
        """`inputs` by node ids, without those that are None.

        Name an input by its node id, by its name, or by its label in any case, if no other input
        has the same label. An input for several values takes a list or a tuple. A single value
        counts as a list of one. An app whose `inputs` are None checks nothing. `flowy.apps.get()`
        returns an app with its inputs.

        Raises:
            InvalidArgumentError: an input is unknown, missing, named twice, of the wrong kind, or
                has too few or too many values. The message lists the app's inputs.
        """
        given = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in inputs.items()
            if value is not None
        }
        if self.inputs is None:
            return given
        found: dict[str, Any] = {}
        complaints = []
        for name, value in given.items():
            match find_named(self.inputs, name):
                case [spec] if spec.node_id in found:
                    complaints.append(f"{spec} is given twice")
                case [spec]:
                    found[spec.node_id] = value
                    if value != [] or not spec.may_be_empty:
                        complaints += filter(None, [spec.complaint(value)])
                case []:
                    complaints.append(f"{name!r} is none of its inputs")
                case several:
                    ids = ", ".join(spec.name or spec.node_id for spec in several)
                    complaints.append(f"{name!r} is the label of several inputs: use one of {ids}")
        for spec in self.inputs:
            value = found.get(spec.node_id)
            if spec.required and (value is None or (value == [] and spec.may_be_empty)):
                complaints.append(f"{spec} is missing")
        if complaints:
            takes = ", ".join(map(str, self.inputs)) or "no inputs"
            raise InvalidArgumentError(
                f"inputs do not fit {str(self)!r}: {'; '.join(complaints)}. It takes {takes}",
                argument="inputs",
            )
        return {node: value for node, value in found.items() if value != []}

    def body(self, inputs: Mapping[str, Any], form: InputsForm = "auto") -> dict[str, Any]:
        """The body that starts a run with `inputs`, which `fit` returned."""
        specs = self.inputs
        if specs is not None and not specs and not inputs:
            return {}  # documented: an app without inputs needs none, in either form
        if form == "auto":
            form = "array" if any(spec.name for spec in specs or []) else "map"
        if form == "map":
            return {"inputs": dict(inputs)}
        return {"inputs": [self._entry(node, value) for node, value in inputs.items()]}

    def _entry(self, node: str, value: Any) -> dict[str, Any]:
        """An entry of the array. If the kind of the input is not known, a URL is assumed to lead to
        media (our guess)."""
        found = find_named(self.inputs or [], node)
        kind = found[0].kind if found else None
        values = value if isinstance(value, list) else [value]
        media = kind != "text" and (
            (kind or "").endswith("_url")
            or all(isinstance(one, str) and _URL.fullmatch(one) for one in values)
        )
        name = found[0].name if found else None
        return {"node_id": name or node, "asset_url" if media else "prompt": value}


def app_of(data: Raw) -> FlowyApp:
    """An app as it came, without fields of an unexpected type.

    Raises one of `_json.DECODE_ERRORS` if it is not an object.
    """
    try:
        return _json.decode_with(_decode_app, data)
    except msgspec.ValidationError:
        content = _json.decode(data, dict[str, Any])
    parts = {
        "inputs": items_of(content.pop("inputs", None), FlowyInput, _input_of),
        "outputs": items_of(content.pop("outputs", None), FlowyOutputSpec),
    }
    return structs.replace(_json.fitting(content, FlowyApp), **parts)


def _input_of(content: dict[str, Any], type: type[FlowyInput]) -> FlowyInput:
    arity = content.pop("arity", None)
    found = _json.fitting(content, type)
    if arity is None:
        return found
    limits = _json.fitting(arity, FlowyArity) if isinstance(arity, dict) else FlowyArity()
    return structs.replace(found, arity=limits)


def items_of(
    content: Any, type: type[T], read: Callable[[dict[str, Any], type[T]], T] = _json.fitting
) -> list[T] | None:
    """The objects of a list, without fields of an unexpected type."""
    if not isinstance(content, list):
        return None
    return [read(item, type) for item in content if isinstance(item, dict)]


_decode_app = msgspec.json.Decoder(FlowyApp).decode
