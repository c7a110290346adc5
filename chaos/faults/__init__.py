"""The fault kinds. A new kind is one file beside this one and one line here (docs/extend/fault.md)."""

from __future__ import annotations

from typing import Any

from chaos.faults.bandwidth import Bandwidth
from chaos.faults.buffering_proxy import BufferingProxy
from chaos.faults.cache_eviction import CacheEviction
from chaos.faults.cache_flush import CacheFlush
from chaos.faults.clock_skew import ClockSkew
from chaos.faults.container_cpu_limit import ContainerCpuLimit
from chaos.faults.container_disconnect import ContainerDisconnect
from chaos.faults.container_kill import ContainerKill
from chaos.faults.container_pause import ContainerPause
from chaos.faults.container_restart import ContainerRestart
from chaos.faults.container_stop import ContainerStop
from chaos.faults.cpu_hog import CpuHog
from chaos.faults.disk_full import DiskFull
from chaos.faults.down import Down
from chaos.faults.durable_lock import DurableLock
from chaos.faults.durable_slow import DurableSlow
from chaos.faults.fd_exhaustion import FdExhaustion
from chaos.faults.flag import Flag
from chaos.faults.greedy_client import GreedyClient
from chaos.faults.isolate import Isolate
from chaos.faults.kill import Kill
from chaos.faults.latency import Latency
from chaos.faults.limit_data import LimitData
from chaos.faults.mass_disconnect import MassDisconnect
from chaos.faults.memory_pressure import MemoryPressure
from chaos.faults.partition import Partition
from chaos.faults.pause import Pause
from chaos.faults.queue_pause import QueuePause
from chaos.faults.reset import Reset
from chaos.faults.restart import Restart
from chaos.faults.ring import Ring
from chaos.faults.slicer import Slicer
from chaos.faults.slow_close import SlowClose
from chaos.faults.slow_readers import SlowReaders
from chaos.faults.slow_start import SlowStart
from chaos.faults.torn_log_tail import TornLogTail
from chaos.kind import FaultKind

_ALL: tuple[FaultKind[Any], ...] = (
    Kill(),
    Pause(),
    Restart(),
    SlowStart(),
    CpuHog(),
    MemoryPressure(),
    FdExhaustion(),
    ClockSkew(),
    Flag(),
    CacheFlush(),
    CacheEviction(),
    DurableLock(),
    DurableSlow(),
    QueuePause(),
    DiskFull(),
    TornLogTail(),
    SlowReaders(),
    GreedyClient(),
    MassDisconnect(),
    Latency(),
    Bandwidth(),
    Slicer(),
    Reset(),
    SlowClose(),
    LimitData(),
    Down(),
    BufferingProxy(),
    Partition(),
    Isolate(),
    Ring(),
    ContainerKill(),
    ContainerPause(),
    ContainerStop(),
    ContainerRestart(),
    ContainerDisconnect(),
    ContainerCpuLimit(),
)
KINDS: dict[str, FaultKind[Any]] = {kind.name: kind for kind in _ALL}
_EXCLUSIVE = (
    frozenset({"kill", "restart", "slow-start", "clock-skew", "torn-log-tail"}),
    frozenset({"down", "slicer", "buffering-proxy"}),
    frozenset({"container-kill", "container-stop", "container-restart", "container-pause"}),
)
"""kinds that change the same thing of a handle: the undo of one would end the other"""


def exclude_each_other(one: str, other: str) -> bool:
    """Whether faults of these kinds must not be active on one handle at the same time."""
    return one == other or any(one in kinds and other in kinds for kinds in _EXCLUSIVE)
