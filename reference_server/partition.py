"""Who owns what: user number -> one of 256 partitions -> lane.

The partition is a multiplicative hash of the dense user number (Knuth, TAOCP vol. 3, 6.4), so neighbours
in a sorted follower page spread evenly. A lane is a fixed group of partitions, the unit of ownership.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PARTITIONS = 256
_GOLDEN = 2654435761


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
