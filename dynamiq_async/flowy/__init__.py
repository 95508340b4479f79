"""`AsyncFlowy`: runs Flowy's apps, and makes generations without an app.

Flowy has no streams and no callbacks. So the client starts a run and polls it until it is over. All
calls of a client share the limiters that keep it within the service's limits (documented: 60 or 120
requests a minute, and a small cap on runs in flight).

The wire facts and their sources are in docs/contract.md.
"""

from dynamiq_async.flowy.apps import FlowyApps
from dynamiq_async.flowy.assets import FlowyAssets
from dynamiq_async.flowy.client import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE, AsyncFlowy
from dynamiq_async.flowy.generations import FlowyGenerations
from dynamiq_async.flowy.models import (
    FlowyAsset,
    FlowyCredits,
    FlowyGeneration,
    FlowyOutput,
    FlowyRun,
)
from dynamiq_async.flowy.requests import DEFAULT_WAIT
from dynamiq_async.flowy.runs import FlowyRuns
from dynamiq_async.flowy.schema import (
    FlowyApp,
    FlowyArity,
    FlowyInput,
    FlowyOutputSpec,
    InputsForm,
)

__all__ = [
    "DEFAULT_URL",
    "DEFAULT_WAIT",
    "KEY_VARIABLE",
    "URL_VARIABLE",
    "AsyncFlowy",
    "FlowyApp",
    "FlowyApps",
    "FlowyArity",
    "FlowyAsset",
    "FlowyAssets",
    "FlowyCredits",
    "FlowyGeneration",
    "FlowyGenerations",
    "FlowyInput",
    "FlowyOutput",
    "FlowyOutputSpec",
    "FlowyRun",
    "FlowyRuns",
    "InputsForm",
]
