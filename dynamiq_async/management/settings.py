"""The settings of the vendor's own command line: environment variables, then the files
`config.json` and `credentials.json` in `$XDG_CONFIG_HOME/dynamiq`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dynamiq_async import errors


class Setting(NamedTuple):
    """Where the vendor's command line finds a setting. The environment takes precedence over the
    file."""

    argument: str
    variables: tuple[str, ...]
    file: str
    field: str

    def find(self) -> str | None:
        """The setting's value, if there is one.

        Raises:
            InvalidArgumentError: the environment has none, and the file cannot be read.
        """
        found = (os.environ.get(name) for name in self.variables)
        return next(filter(None, found), None) or self._find_in_file()

    def _find_in_file(self) -> str | None:
        home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - which raises without a home
        path = Path(home, "dynamiq", self.file)
        try:
            content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            problem = error.strerror
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            problem = str(error)
        else:
            value = content.get(self.field)
            if value is None or isinstance(value, str):
                return value or None
            problem = f"its {self.field} is not a string"
        # No cause is chained, since the content that could not be decoded may contain the token.
        raise errors.InvalidArgumentError(
            f"{path} cannot be used: {problem}; correct it, or set {self.variables[0]}",
            argument=self.argument,
        )


URL = Setting(
    "base_url", ("DYNAMIQ_API_BASE_URL", "DYNAMIQ_API_HOST"), "credentials.json", "api_host"
)
TOKEN = Setting("token", ("DYNAMIQ_API_TOKEN", "DYNAMIQ_API_KEY"), "credentials.json", "api_key")
PROJECT = Setting("project_id", ("DYNAMIQ_PROJECT_ID",), "config.json", "project_id")
ORGANISATION = Setting("org_id", ("DYNAMIQ_ORG_ID",), "config.json", "org_id")

TOKEN_VARIABLE = TOKEN.variables[0]


def is_configured() -> bool:
    """Whether there is a token, in the environment or the files of the vendor's command line.

    Raises:
        InvalidArgumentError: the file that may contain a token cannot be read.
    """
    return TOKEN.find() is not None
