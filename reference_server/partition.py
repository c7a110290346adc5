"""Who owns what: user number -> one of 256 partitions -> lane.

The partition is a multiplicative hash of the dense user number (Knuth, TAOCP vol. 3, 6.4), so neighbours
in a sorted follower page spread evenly. A lane is a fixed group of partitions, the unit of ownership.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PARTITIONS = 256
_GOLDEN = 2654435761
_U64 = (1 << 64) - 1
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""constants of splitmix64 (Steele, Lea and Flood, 2014), which scores a key and a node"""


def partition_of(user: int) -> int:
    """Partition 0..255 of a user."""
    return ((user * _GOLDEN) & 0xFFFFFFFF) >> 24


def lane_of(user: int, lanes: int) -> int:
    """Lane 0..lanes-1 of a user; `lanes` divides 256."""
    return partition_of(user) * lanes // PARTITIONS


def lanes_of(users: npt.NDArray[np.uint32], lanes: int) -> npt.NDArray[np.uint8]:
    """The same for many users at once."""
    partitions = (users.astype(np.uint64) * np.uint64(_GOLDEN) & np.uint64(0xFFFFFFFF)) >> np.uint64(24)
    return (partitions * np.uint64(lanes) // np.uint64(PARTITIONS)).astype(np.uint8)


def node_of(key: int, nodes: int) -> int:
    """Cache node 0..nodes-1 of a key (a user number, or the last 8 bytes of a post id).

    Rendezvous hashing (Thaler and Ravishankar, 1998): each node scores the key, the highest score has it; a node more
    or less moves only the keys it takes or had.
    """
    best, highest = 0, -1
    for node in range(nodes if nodes > 1 else 0):
        mixed = (key + (node + 1) * _STEP) & _U64
        mixed = ((mixed ^ mixed >> 30) * _FIRST) & _U64
        mixed = ((mixed ^ mixed >> 27) * _SECOND) & _U64
        score = mixed ^ mixed >> 31
        if score > highest:
            best, highest = node, score
    return best


def nodes_of(keys: npt.NDArray[np.unsignedinteger], nodes: int) -> npt.NDArray[np.uint8]:
    """The same for many keys at once."""
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
        mixed = keys.astype(np.uint64) + np.uint64((node + 1) * _STEP & _U64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_FIRST)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_SECOND)
        result: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return result
