"""Fixtures of the judge's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_history import MadeHistory


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., MadeHistory]:
    """Makes literal histories: made({follower: [authors]}, ...)."""

    def make(follows: Mapping[int, Sequence[int]], **options: Any) -> MadeHistory:
        return MadeHistory(tmp_path, follows, **options)

    return make
