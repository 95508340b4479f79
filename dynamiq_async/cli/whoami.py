"""The command `whoami`: what the management API says about the token and the settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async._http.client import api_of
from dynamiq_async.cli import output, tables
from dynamiq_async.cli.apps import DEFAULT_MANAGEMENT, Management
from dynamiq_async.management.accounts import no_project_error

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from dynamiq_async.management import AsyncManagement, Org, Project, User

_UNREACHED = (errors.NotFoundError, errors.PermissionDeniedError)


def whoami(*, management: Management = DEFAULT_MANAGEMENT) -> None:
    """Show who owns the management API's token, and the organisation and project in use.

    The exit code is 1 if the token is not accepted, or has no access to one of them. If no project
    is set, the command lists the existing projects on stderr.

    ```
    dynamiq-async whoami
    dynamiq-async whoami | jq -r .project.id
    ```
    """
    said: dict[str, Any] = {}
    problems: list[errors.DynamiqError] = []

    async def fetch() -> None:
        async with management.open() as client:
            said["url"] = client.url
            said["user"] = await _user(client)
            org, project = client.org_id, client.project_id
            said["org"] = org and await _reached(client.orgs.get(org), problems)
            said["project"] = project and await _reached(client.projects.get(project), problems)
            if project is None:
                output.remark((await no_project_error(api_of(client))).message)

    asyncio.run(fetch())
    _print(said)
    if problems:
        raise problems[0]


async def _user(client: AsyncManagement) -> User | None:
    try:
        return await client.me()
    except errors.PermissionDeniedError:
        output.remark("the token belongs to no user, as that of a service account")
        return None


async def _reached(
    call: Awaitable[Org | Project], problems: list[errors.DynamiqError]
) -> Org | Project | None:
    try:
        return await call
    except _UNREACHED as error:
        problems.append(error)
        return None


def _print(said: dict[str, Any]) -> None:
    if not output.is_terminal():
        output.write(output.json_line(said))
        return
    user = said["user"]
    name = " ".join(filter(None, (user.first_name, user.last_name))) if user else ""
    known = user and (f"{name} <{user.email}>" if name else user.email)
    rows: list[list[tables.Cell]] = [["url", said["url"]], ["user", known or "none"]]
    for kind in ("org", "project"):
        one = said[kind]
        rows.append([kind, f"{one.name} ({one.id})" if one else "none"])
    tables.print_table(("", ""), rows)
