"""Input files of an App: sent with a request, or uploaded before and named in the request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..core.multipart import Part


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file as an App sees it. `read` returns its whole content, `pieces` a MiB at a time."""

    id: str
    app_id: str
    name: str
    size: int
    mime_type: str
    read: Callable[[], bytes] = field(repr=False)
    pieces: Callable[[], Iterable[bytes]] = field(default=tuple, repr=False)

    @classmethod
    def from_part(cls, part: Part, *, app_id: str = "", name: str | None = None) -> InputFile:
        """A file that was sent with a request. A run can refer to it only if it has an `app_id`."""
        return cls(
            id=new_id(),
            app_id=app_id,
            name=part.filename or part.name if name is None else name,
            size=part.size,
            mime_type=part.content_type,
            read=lambda: b"".join(part.pieces()),
            pieces=part.pieces,
        )

    def public(self) -> dict[str, Any]:
        """The file as the API shows it."""
        return {"id": self.id, "name": self.name, "size": self.size, "mime_type": self.mime_type}
