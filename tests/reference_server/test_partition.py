"""Users spread evenly over partitions and cache nodes, and a further node moves only what it takes."""

from __future__ import annotations

import numpy as np
import pytest

from reference_server.partition import PARTITIONS, lane_of, node_of, partition_of
from reference_server.partition_arrays import lanes_of, nodes_of

USERS = np.arange(50_000, dtype=np.uint32)


def test_no_partition_has_more_than_a_third_above_the_mean() -> None:
    counts = np.bincount([partition_of(user) for user in USERS.tolist()], minlength=PARTITIONS)
    assert counts.max() <= 1.3 * counts.mean()


def test_one_and_many_agree() -> None:
    assert [lane_of(user, 4) for user in range(100)] == lanes_of(USERS[:100], 4).tolist()
    assert [node_of(user, 3) for user in range(100)] == nodes_of(USERS[:100], 3).tolist()
    keys = np.random.default_rng(1).integers(0, 1 << 64, 1000, np.uint64)
    assert [node_of(key, 5) for key in keys.tolist()] == nodes_of(keys, 5).tolist()


@pytest.mark.parametrize("nodes", [1, 2, 3, 7])
def test_nodes_share_evenly(nodes: int) -> None:
    counts = np.bincount(nodes_of(USERS, nodes), minlength=nodes)
    assert len(counts) == nodes
    assert counts.min() > 0.9 * counts.mean()


def test_a_further_node_only_takes() -> None:
    before, after = nodes_of(USERS, 3), nodes_of(USERS, 4)
    moved = before != after
    assert set(after[moved].tolist()) == {3}
    assert 0.2 < moved.mean() < 0.3
