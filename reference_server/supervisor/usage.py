"""Processor time and memory of process groups, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """What a group of processes has used so far."""

    cpu_s: float
    memory_bytes: int
    """resident; pages that processes share count for each"""


def usage_by_group(pids: Iterable[int]) -> dict[int, Usage]:
    """Process group (its leader's pid) -> what the living ones among `pids` use."""
    groups: dict[int, Usage] = {}
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        fields = text[text.rindex(")") + 2 :].split()
        group = int(fields[2])
        before = groups.get(group, Usage(0.0, 0))
        groups[group] = Usage(
            before.cpu_s + (int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
            before.memory_bytes + int(fields[21]) * _PAGE_BYTES,
        )
    return groups
