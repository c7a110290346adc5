from __future__ import annotations

import pytest

from reference_server.jobs.trimming import OUTBOX_KEPT, Trimmer
from reference_server.queue import Limits


class Keeper:
    def __init__(self) -> None:
        self.trimmed: list[tuple[str, str | int]] = []

    async def trim_below(self, stream: str, position: str) -> None:
        self.trimmed.append((stream, position))

    async def trim_to(self, stream: str, length: int) -> None:
        self.trimmed.append((stream, length))


@pytest.mark.parametrize(
    ("has_peers", "expected"),
    [
        (False, [("posts", "5-0"), ("jobs", "3-0"), ("outbox", OUTBOX_KEPT)]),
        (True, [("posts", "5-0"), ("jobs", "3-0")]),  # the replicator knows what its peers have
    ],
)
async def test_the_outbox_of_peers_is_left_to_the_replicator(has_peers: bool, expected: list[object]) -> None:
    keeper = Keeper()
    await Trimmer(keeper, [], has_peers=has_peers).step({"posts": "5-0"}, "3-0")  # type: ignore[arg-type]
    assert keeper.trimmed == expected


def test_without_peers_the_outbox_never_reaches_the_limit_of_writes() -> None:
    assert Limits().outbox > OUTBOX_KEPT
