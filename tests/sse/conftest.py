from __future__ import annotations

import pytest
from hypothesis import settings

import dynamiq_async.sse

settings.register_profile("sse", deadline=None, database=None, max_examples=250)
settings.load_profile("sse")


@pytest.fixture(params=[None, (1, 1), (8, 4)], ids=["real sizes", "all large", "some large"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small streams take the paths of large ones, too."""
    if request.param:
        large, several = request.param
        monkeypatch.setattr(dynamiq_async.sse, "_SMALL", large)
        monkeypatch.setattr(dynamiq_async.sse, "_LARGE", large)
        monkeypatch.setattr(dynamiq_async.sse, "_SEVERAL", several)
