"""Many slots at once, as numpy sees them. Apart from entry.py: who knows single entries only, starts without numpy."""

from __future__ import annotations

import numpy as np

SLOT_DTYPE = np.dtype(
    [("seq", ">u8"), ("id", "V16"), ("ts_us", ">u8"), ("author", ">i8"), ("score", ">f4"), ("status", "u1")]
)
"""an array of slots; itemsize is SLOT_BYTES; `status` is the whole last byte"""
