"""noise.jsonl: what this machine did to a run, one line a second, written by `harness.load.null_probe`.

Lines follow each other without a gap: a second in which the machine stood still is one long line. A killed run keeps
all but the last second. Shares are from 0 to 1.
"""

from __future__ import annotations

import msgspec

from harness.core.clock import NS_PER_S


class Echo(msgspec.Struct, array_like=True, frozen=True):
    """One echo over the loopback, in microseconds."""

    due_us: int
    """when it was due, from the beginning of its line; negative when it was due before that"""
    late_us: int
    """how much later than due it was sent: the lag of a loop that does nothing else"""
    took_us: int
    """from the due time to the answer"""


class MainThread(msgspec.Struct, array_like=True, frozen=True):
    """The main thread of one process of the run in one line."""

    pid: int
    ran_us: int
    waited_us: int
    """ready to run, in line; what began before the line and ended in it is in it whole"""
    turns: int
    """how often it got a processor"""


class NoiseRow(msgspec.Struct, kw_only=True, frozen=True):
    """About a second of the machine; monotonic times. Echoes stand in the line in which their answer came."""

    start_ns: int
    end_ns: int
    echoes: list[Echo] = []
    unanswered: int = 0
    """echoes that were due and had no answer at the end of the line"""
    steal: float = 0.0
    """share of the processors that the hypervisor gave to others"""
    outside: float = 0.0
    """share of the processors that processes took which do not belong to the run"""
    own: float = 0.0
    """share of the processors (of the quota, if there is one) that the run's processes took, the target's included"""
    waited: float = 0.0
    """of the time in which the run's main threads could have run, the share they stood in line"""
    in_line: float = 0.0
    """how many of these threads stood in line, on average over the time"""
    processors: float = 1
    """how many the run may use"""
    processes: list[MainThread] = []
    """those that stood in line for a millisecond or more, or ran nearly all the time"""
    running: int = 0
    """threads that ran or stood in line when the line was written, everywhere on the machine"""
    load: float = 0.0
    """load average of the last minute"""
    pressure_cpu: float | None = None
    """share of the time in which some task waited for a processor; None: the kernel does not tell"""
    pressure_memory: float | None = None
    pressure_io: float | None = None
    cost: float = 0.0
    """share of one core that the probe itself took"""
    wall_ns: int = 0
    """wall clock at `end_ns`; 0: could not be read at one moment with the other clocks"""
    raw_ns: int = 0
    """the clock that nobody adjusts, at `end_ns`; 0 as above"""

    @property
    def seconds(self) -> float:
        """Length of the line."""
        return (self.end_ns - self.start_ns) / NS_PER_S

    @property
    def taken(self) -> float:
        """Share of the processors that others took: processes and hypervisor."""
        return min(1.0, self.outside + self.steal)
