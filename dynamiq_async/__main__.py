"""The command line's entry: `dynamiq-async` and `python -m dynamiq_async` both call `main`.

`main` needs the extra `cli`. Without it, `main` prints one line on how to install it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dynamiq_async.cli import INTERRUPTED, USAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

_MISSING = (
    "dynamiq-async: the command line needs an extra that is not installed: "
    "pip install 'dynamiq-async[cli]'\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with `arguments`, by default those of the process.

    Returns the exit code; `dynamiq-async --help` lists them.
    """
    try:
        from dynamiq_async.cli.program import run
    except ModuleNotFoundError as error:
        if error.name != "cyclopts":  # which brings rich along
            raise
        sys.stderr.write(_MISSING)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return run(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
