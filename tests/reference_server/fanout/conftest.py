"""Fixtures of the fan-out tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fanout_region import FanoutRegion


@pytest.fixture
async def region(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[FanoutRegion]:
    """Parametrise indirectly with settings (lanes, users, fanout_workers, flags, defects), `page` and `real_graph`."""
    sockets = tempfile.mkdtemp(prefix="fs-")
    options = {"lanes": 2, **getattr(request, "param", {})}
    page, has_real_graph = options.pop("page", 1000), options.pop("real_graph", False)
    made = FanoutRegion(tmp_path, sockets, **options)
    made.graph.page = page
    if has_real_graph:
        made.start_graph()
    else:
        await made.graph.serve(made.socket("graph"))
    yield made
    await made.close()
    shutil.rmtree(sockets)
