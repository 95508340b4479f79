from __future__ import annotations

import pytest

from dynamiq_async.sse import decoder


@pytest.fixture(
    params=[None, (1, 1, 1), (8, 8, 4), (0, 64 * 1024, 2)],
    ids=["real sizes", "all large", "some large", "few lines"],
)
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small streams take the paths of large ones, too."""
    if request.param:
        for name, size in zip(("SMALL", "LARGE", "SEVERAL"), request.param, strict=True):
            monkeypatch.setattr(decoder, name, size)
