"""Who owns what: user number -> one of 256 partitions -> lane.

The partition is a multiplicative hash of the dense user number (Knuth, TAOCP vol. 3, 6.4), so neighbours
in a sorted follower page spread evenly. A lane is a fixed group of partitions, the unit of ownership.
"""

from __future__ import annotations

PARTITIONS = 256
GOLDEN = 2654435761
U64 = (1 << 64) - 1
STEP, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""constants of splitmix64 (Steele, Lea and Flood, 2014), which scores a key and a node"""


def partition_of(user: int) -> int:
    """Partition 0..255 of a user."""
    return ((user * GOLDEN) & 0xFFFFFFFF) >> 24


def lane_of(user: int, lanes: int) -> int:
    """Lane 0..lanes-1 of a user; `lanes` divides 256."""
    return partition_of(user) * lanes // PARTITIONS


def node_of(key: int, nodes: int) -> int:
    """Cache node 0..nodes-1 of a key (a user number, or the last 8 bytes of a post id).

    Rendezvous hashing (Thaler and Ravishankar, 1998): each node scores the key, the highest score has it; a node more
    or less moves only the keys it takes or had.
    """
    best, highest = 0, -1
    for node in range(nodes if nodes > 1 else 0):
        mixed = (key + (node + 1) * STEP) & U64
        mixed = ((mixed ^ mixed >> 30) * FIRST) & U64
        mixed = ((mixed ^ mixed >> 27) * SECOND) & U64
        score = mixed ^ mixed >> 31
        if score > highest:
            best, highest = node, score
    return best
