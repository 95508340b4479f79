"""The built-in apps of the emulator's Flowy.

| id | what it does |
|---|---|
| `haiku` | writes a text about a topic |
| `poster` | makes an image from a slogan and, if there is one, a photo, and a text beside it |
| `clip` | makes a video, in 8 seconds |
| `collage` | makes an image of one to four photos, and a text of up to three captions |
| `broken` | fails |

The inputs and outputs of `collage` have names, and two of its inputs take several values. Those of
the other apps have no names, as in older flows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n"


class FlowyFailedError(Exception):
    """Raised by an app: the run fails, with this text."""


@dataclass(frozen=True, kw_only=True)
class FlowyContent:
    """An output of a run that is not a text. `name` is the last part of its link."""

    content: bytes
    kind: str = "image"
    name: str = "output.png"
    media_type: str = "image/png"


Values = Mapping[str, Any]
"""The inputs of a run by node id: a text each, or a list of texts for a variable input."""

Outputs = Mapping[str, "str | FlowyContent"]


@dataclass(frozen=True, kw_only=True)
class FlowyApp:
    """An app of Flowy.

    Attributes:
        make: makes the outputs, by node id, from the inputs; raises FlowyFailedError.
        inputs, outputs: the inputs and outputs, as the API shows them.
        seconds: how long a run takes.
    """

    id: str
    title: str
    make: Callable[[Mapping[str, Any]], Outputs]
    slug: str = ""
    description: str = ""
    inputs: Sequence[Mapping[str, Any]] = ()
    outputs: Sequence[Mapping[str, Any]] = ()
    seconds: float = 0.0

    def listed(self) -> dict[str, Any]:
        """The app as a list shows it."""
        return {
            "id": self.id,
            "slug": self.slug or self.id,
            "title": self.title,
            "description": self.description,
            "published": True,
            "runCount": 0,
            "thumbnailUrl": f"https://cdn.example/{self.id}.png",
        }

    def public(self) -> dict[str, Any]:
        """The app as the API shows it by itself."""
        return {**self.listed(), "inputs": list(self.inputs), "outputs": list(self.outputs)}


def node_input(
    node: str,
    label: str,
    kind: str = "text",
    *,
    required: bool = True,
    name: str | None = None,
    arity: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """An input, as the API shows it. `arity` is the minimum and maximum number of values."""
    shown: dict[str, Any] = {"nodeId": node, "label": label, "kind": kind, "required": required}
    if name is not None:
        shown["name"] = name
    if arity is not None:
        shown["arity"] = {"min": arity[0], "max": arity[1]}
    return shown


def node_output(
    node: str, label: str, output_type: str, *, name: str | None = None
) -> dict[str, Any]:
    """An output, as the API shows it."""
    shown = {"nodeId": node, "label": label, "outputType": output_type}
    return shown if name is None else {**shown, "name": name}


def _haiku(inputs: Values) -> Outputs:
    return {
        "text-1": f"An old silent pond, / {inputs['topic-1']} jumps in: / a splash, and silence."
    }


def _poster(inputs: Values) -> Outputs:
    slogan = inputs["text-1"]
    image = PNG + slogan.encode() + inputs.get("image-1", "").encode()
    return {"out-1": FlowyContent(content=image, name="poster.png"), "out-2": slogan.upper()}


def _clip(inputs: Values) -> Outputs:
    film = b"\0\0\0\x18ftypmp42" + inputs["text-1"].encode() * 1000
    return {
        "out-1": FlowyContent(content=film, kind="video", name="clip.mp4", media_type="video/mp4")
    }


def _collage(inputs: Values) -> Outputs:
    photos, captions = inputs["photos-1"], inputs.get("captions-1", [])
    listed = [photos] if isinstance(photos, str) else photos
    texts = [captions] if isinstance(captions, str) else captions
    content = PNG + "|".join([inputs["title-1"], *listed]).encode()
    return {
        "collage-1": FlowyContent(content=content, name="collage.png"),
        "legend-1": " / ".join(texts),
    }


def _broken(inputs: Values) -> Outputs:
    raise FlowyFailedError("the model is out of paint")


BUILTIN_FLOWY: Mapping[str, FlowyApp] = {
    app.id: app
    for app in (
        FlowyApp(
            id="haiku",
            title="Haiku",
            make=_haiku,
            inputs=[node_input("topic-1", "Topic")],
            outputs=[node_output("text-1", "Haiku", "text")],
        ),
        FlowyApp(
            id="poster",
            slug="product-poster",
            title="Product poster",
            make=_poster,
            inputs=[
                node_input("text-1", "Slogan"),
                node_input("image-1", "Photo", "image_url", required=False),
            ],
            outputs=[node_output("out-1", "Poster", "image"), node_output("out-2", "Text", "text")],
        ),
        FlowyApp(
            id="clip",
            title="Clip",
            make=_clip,
            inputs=[node_input("text-1", "Scene")],
            outputs=[node_output("out-1", "Clip", "video")],
            seconds=8.0,
        ),
        FlowyApp(
            id="collage",
            title="Collage",
            make=_collage,
            inputs=[
                node_input("title-1", "Title", name="title"),
                node_input(
                    "photos-1", "Your photos", "image_url", name="your-photos", arity=(1, 4)
                ),
                node_input("captions-1", "Captions", required=False, name="captions", arity=(0, 3)),
            ],
            outputs=[
                node_output("collage-1", "The collage", "image", name="the-collage"),
                node_output("legend-1", "Legend", "text", name="legend"),
            ],
        ),
        FlowyApp(
            id="broken",
            title="Broken",
            make=_broken,
            inputs=[node_input("text-1", "Anything", required=False)],
        ),
    )
}
