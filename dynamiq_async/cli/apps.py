"""The commands that show deployed Apps, by the management API: `apps list`, `apps get`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from dynamiq_async.cli import output, tables
from dynamiq_async.cli.options import CONNECTION, DEFAULT_NETWORK, Network, commands
from dynamiq_async.management import MAX_PAGE_SIZE, AsyncManagement

if TYPE_CHECKING:
    from dynamiq_async.management import models

app: App = commands("apps", "The deployed Apps of a project, with their names, ids and hostnames.")


@Parameter(name="*", group=CONNECTION)
@dataclass(frozen=True)
class Management:
    """Where the management API is. Its token is never an argument."""

    project_id: Annotated[
        str | None,
        Parameter(
            help="The project. [default: DYNAMIQ_PROJECT_ID, or that of the vendor's command line]"
        ),
    ] = None
    base_url: Annotated[
        str | None,
        Parameter(
            help="The management API's URL. [default: DYNAMIQ_API_BASE_URL, or that of the "
            "vendor's command line, or https://api.getdynamiq.ai]"
        ),
    ] = None
    network: Network = DEFAULT_NETWORK

    def open(self) -> AsyncManagement:
        """A client.

        Raises:
            InvalidArgumentError: there is no token, or a setting cannot be used.
        """
        network = self.network.arguments()
        return AsyncManagement(self.base_url, project_id=self.project_id, **network)


DEFAULT_MANAGEMENT = Management()


@app.command(name="list")
def list_(
    *,
    archived: Annotated[bool, Parameter(help="Only archived Apps.")] = False,
    include_archived: Annotated[bool, Parameter(help="Archived Apps too.")] = False,
    workflow_id: Annotated[
        str | None, Parameter(help="Only Apps that were deployed from this workflow.")
    ] = None,
    sort: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="Fields, separated by commas; `-` before one for descending. [default: by name]",
        ),
    ] = None,
    limit: Annotated[
        int, Parameter(validator=Number(gte=1), help="The most to list. [default: 100]")
    ] = 100,
    management: Management = DEFAULT_MANAGEMENT,
) -> None:
    """List a project's Apps: as a table on a terminal, one App's JSON a line anywhere else.

    The token comes from DYNAMIQ_API_TOKEN, or from the settings of the vendor's command line.

    ```
    dynamiq-async apps list
    dynamiq-async apps list --include-archived --sort -updated_at | jq -r .hostname
    ```
    """

    async def fetch() -> list[models.App]:
        async with management.open() as client:
            pages = client.apps.list(
                archived=archived or None,
                include_archived=include_archived or None,
                workflow_id=workflow_id,
                sort=sort,
                page_size=min(limit + 1, MAX_PAGE_SIZE),
            )
            return await tables.beginning(pages, limit)

    tables.print_list(
        asyncio.run(fetch()),
        ("name", "id", "access", "hostname"),
        _row,
        none="no Apps",
        limit=limit,
    )


@app.command
def get(
    name: Annotated[str, Parameter(name="APP", help="Its name or id.")],
    /,
    *,
    management: Management = DEFAULT_MANAGEMENT,
) -> None:
    """Print an App, with its hostname, by its name or id.

    ```
    dynamiq-async apps get 0f0e52c2-9c1d-4f0b-8a30-5d6f4a7c1c11
    dynamiq-async apps get 'Support bot' | jq -r .hostname
    ```
    """

    async def fetch() -> models.App:
        async with management.open() as client:
            return await client.find(name)

    output.print_json(asyncio.run(fetch()))


def _row(one: models.App) -> list[tuple[str, str]]:
    access = one.access_control.access_type if one.access_control else None
    shown = (one.name, one.id, "archived" if one.is_archived else access, one.hostname)
    return [(text or "", "dim" if one.is_archived else "") for text in shown]
