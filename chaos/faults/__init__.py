"""The fault kinds. A new kind is one file beside this one and one line here (docs/extend/fault.md)."""

from __future__ import annotations

from typing import Any

from chaos.faults.cache_flush import CacheFlush
from chaos.faults.kill import Kill
from chaos.faults.latency import Latency
from chaos.faults.partition import Partition
from chaos.faults.pause import Pause
from chaos.kind import FaultKind

KINDS: dict[str, FaultKind[Any]] = {kind.name: kind for kind in (Kill(), Pause(), CacheFlush(), Latency(), Partition())}
