"""Named random streams: the only source of randomness in a run.

`rng(seed, "posts")` and `rng(seed, "reads")` are independent, and adding a stream never
shifts another one: same seed, same ops, same faults.
"""

from __future__ import annotations

import hashlib

import numpy as np


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """A generator for the stream called `names` under `seed`. Equal arguments give equal streams."""
    label = "/".join(str(n) for n in names)
    digest = hashlib.blake2b(f"{seed}:{label}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
