"""Projects, each with its own Apps and its own Access Key.

The vendor documents that a key that is scoped to another project gets a 403.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from collections.abc import Collection

_IDS = UUID("00000000-0000-4000-8000-0000000000b1")


class ProjectError(ValueError):
    """A project names an App that does not exist, or two projects share an App, a key or an id."""


@dataclass(eq=False, kw_only=True)
class Project:
    """A project beside the default one.

    Attributes:
        apps: the names of its Apps.
        access_key: the key that its Apps require; by default one derived from the name. None: its
            Apps are public.
        id: the project's id; by default one derived from the name.
    """

    name: str
    apps: Collection[str]
    access_key: str | None = ""
    id: str = ""

    def __post_init__(self) -> None:
        slug = re.sub(r"\W+", "-", self.name.lower())
        if self.access_key == "":
            self.access_key = f"dynamiq_acc_{slug}"
        self.id = self.id or str(uuid5(_IDS, self.name))


class Projects:
    """The projects beside the default one.

    Args:
        apps: the names of all Apps.
        default_key: the key of the default project.

    Raises:
        ValueError: an App, key or id belongs to several projects, or an App does not exist.
    """

    def __init__(
        self,
        projects: Collection[Project] = (),
        apps: Collection[str] = (),
        default_key: str | None = None,
    ) -> None:
        self.all: list[Project] = list(projects)
        placed = [app for project in self.all for app in project.apps]
        every = [default_key, *(project.access_key for project in self.all)]
        keys = [key for key in every if key is not None]
        ids = [project.id for project in self.all]
        for told, what in ((placed, "the App"), (keys, "the key"), (ids, "the id")):
            for one in told:
                if told.count(one) > 1:
                    raise ProjectError(f"{what} {one!r} belongs to one project only")
        for app in placed:
            if app not in apps:
                raise ProjectError(f"there is no App {app!r} for a project")

        self._of = {app: project for project in self.all for app in project.apps}

    def of(self, app: str) -> Project | None:
        """The project of an App, by its name; None for the default one."""
        return self._of.get(app)

    def put(self, app: str, project_id: str) -> None:
        """Put an App in the project with this id, or in the default one if there is none."""
        self._of.pop(app, None)
        self._of.update((app, project) for project in self.all if project.id == project_id)
