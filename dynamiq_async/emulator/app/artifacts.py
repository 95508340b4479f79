"""Artifacts: files that a run makes, and that callers download by links."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass, field
from datetime import datetime

from ..core.clock import utc_now
from ..core.ids import new_id


@dataclass(eq=False, kw_only=True)
class Artifact:
    """A file that a run made. Each has its own `id`, even if several have the same name."""

    name: str
    content: bytes = field(repr=False)
    mime_type: str
    id: str = field(default_factory=new_id)
    saved_at: datetime = field(default_factory=utc_now)


def artifact(name: str, content: bytes, mime_type: str | None) -> Artifact:
    """An artifact. Its type is guessed from its name unless `mime_type` is given."""
    guessed = mime_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Artifact(name=name, content=content, mime_type=guessed)
