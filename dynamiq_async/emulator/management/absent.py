"""The endpoints of the vendor's management API that the emulator does not have.

They respond with 501 and the reason, rather than with a success that has no effect.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.pages import respond_page
from ..core.refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.exchange import Exchange
    from ..core.service import Handler, Route
    from .apps import Management

NOT_EMULATED = "not_emulated"
"""The code of the error, which is the emulator's own."""

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

# Paths that the vendor's command line requests or its pages name, and what is missing.
_ABSENT = (
    (
        "/v1/workflows/test",
        "the emulator does not run a flow's JSON; serve the workflow, by `dynamiq-async serve "
        "module:workflow`, and invoke its App",
    ),
    (
        "/v1/workflows/[^/]+/requirements(?:/.*)?",
        "requirements are those of the emulator's Apps; add them by `Emulator.requirements.add`",
    ),
    ("/v1/agent-builder/.*", "the emulator has no catalogue of nodes"),
    (
        "/v1/apps/[^/]+/triggers(?:/.*)?",
        "the emulator has no scheduler and no sources of events, so no trigger would ever fire",
    ),
    ("/v1/apps/[^/]+/metrics", "the emulator has no metrics"),
    ("/v[13]/conversations(?:/.*)?", "the emulator has no conversations beside Apps' sessions"),
    (
        "/v1/(?:apps/[^/]+/evaluations|admin|agents|app-evaluations|artifacts|connections|databases"
        "|dataset-items|dataset-versions|datasets|evaluations|fine-tuning|inference-runtimes"
        "|inferences|knowledgebase-items|knowledgebase-sources|knowledgebases|memories"
        "|memory-stores|metrics|pipedream|resource-profiles|services|skills|user)(?:/.*)?",
        "the emulator has Apps, workflows, and what Apps have done; this is not among them",
    ),
)


def not_emulated(why: str) -> RefusalError:
    """A refusal with 501, and what is missing."""
    return RefusalError(501, NOT_EMULATED, why)


async def list_triggers(exchange: Exchange[Management], app_id: str) -> None:
    """`GET /v1/apps/{id}/triggers`: always empty, because no trigger can be made."""
    exchange.state.get(app_id)
    await respond_page(exchange, [], lambda trigger: trigger)


def _refusing(why: str) -> Handler[Management]:
    async def refuse(exchange: Exchange[Management]) -> None:
        raise not_emulated(why)

    return refuse


ABSENT: Sequence[Route[Management]] = [
    (method, re.compile(path), _refusing(why)) for path, why in _ABSENT for method in _METHODS
]
