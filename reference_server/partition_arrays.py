"""partition.py for many users or keys at once. Apart from it, so that who asks for single ones starts without numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reference_server.partition import FIRST, GOLDEN, PARTITIONS, SECOND, STEP, U64


def lanes_of(users: npt.NDArray[np.uint32], lanes: int) -> npt.NDArray[np.uint8]:
    """`lane_of` each user."""
    partitions = (users.astype(np.uint64) * np.uint64(GOLDEN) & np.uint64(0xFFFFFFFF)) >> np.uint64(24)
    return (partitions * np.uint64(lanes) // np.uint64(PARTITIONS)).astype(np.uint8)


def nodes_of(keys: npt.NDArray[np.unsignedinteger], nodes: int) -> npt.NDArray[np.uint8]:
    """`node_of` each key."""
    best = np.zeros(len(keys), np.uint8)
    if nodes == 1 or not len(keys):
        return best
    highest = _score(keys, 0)
    for node in range(1, nodes):
        score = _score(keys, node)
        better = score > highest
        best[better] = node
        highest = np.maximum(highest, score)
    return best


def _score(keys: npt.NDArray[np.unsignedinteger], node: int) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        mixed = keys.astype(np.uint64) + np.uint64((node + 1) * STEP & U64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(FIRST)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(SECOND)
        result: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return result
