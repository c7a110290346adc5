"""How the clocks of a run's processes differ, and how surely that is known. Pure but for `clock_name` and the file.

All times of a history are read from monotonic clocks. Processes of one machine share one, so their times compare as
they are. A load process elsewhere is asked the time again and again over its control channel (four timestamps, as NTP
does): the answer lies between question and reply, so the offset is known to within half of the round trip. The reading
with the shortest round trip of each stretch of time counts.

    ours = theirs + offset_ns + drift * (theirs - at_ns), to within error_ns
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from harness.core.clock import NS_PER_S
from harness.core.json_file import read_json_lines

STRETCH_NS = 10 * NS_PER_S
"""the best reading within each such stretch of time counts"""


class Clock(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What is known of one process's clock: a line of clocks.jsonl; the last one of a process counts."""

    process: str
    machine: str
    """name of the clock; equal names, one clock"""
    offset_ns: int = 0
    """to be added to times of the process, to get times of the harness"""
    error_ns: int = 0
    """bound of what the sum is wrong by"""
    at_ns: int = 0
    """time of the process to which the offset belongs"""
    drift: float = 0.0
    """by how much the offset grows, ns each ns"""
    readings: int = 0
    """times the clock was asked; 0: it is the harness's own"""

    def to_ours(self, theirs_ns: int) -> int:
        """A time of the process on the harness's clock."""
        return theirs_ns + self.offset_ns + round(self.drift * (theirs_ns - self.at_ns))

    def to_theirs(self, ours_ns: int) -> int:
        """A time of the harness on the process's clock."""
        near = ours_ns - self.offset_ns
        return near - round(self.drift * (near - self.at_ns))


@dataclass(frozen=True)
class Reading:
    """One question and its answer: sent and back by the harness's clock, received and replied by the process's."""

    sent_ns: int
    received_ns: int
    replied_ns: int
    back_ns: int

    @property
    def offset_ns(self) -> int:
        """Ours minus theirs, in the middle of what is possible."""
        return (self.sent_ns - self.received_ns + self.back_ns - self.replied_ns) // 2

    @property
    def error_ns(self) -> int:
        """Half of the time on the way, rounded up: the offset is no further off."""
        return (self.back_ns - self.sent_ns - self.replied_ns + self.received_ns) // 2 + 1


@cache
def clock_name() -> str:
    """A name for this process's monotonic clock, equal in all processes that share it: the machine as it was booted,
    and the time namespace.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/time').stat().st_ino}"


def fit(process: str, machine: str, readings: Sequence[Reading]) -> Clock:
    """The offset that explains all readings: constant, or drifting when no constant one can.

    The error covers the best reading of each stretch with its own uncertainty. `readings` must not be empty.
    """
    best = _best(readings)
    first, last = best[0], best[-1]
    closest = min(best, key=lambda reading: reading.error_ns)
    drift = 0.0
    if max(r.offset_ns - r.error_ns for r in best) > min(r.offset_ns + r.error_ns for r in best):
        drift = (last.offset_ns - first.offset_ns) / (last.received_ns - first.received_ns)
        closest = first
    clock = Clock(
        process=process,
        machine=machine,
        offset_ns=closest.offset_ns,
        at_ns=closest.received_ns,
        drift=drift,
        readings=len(readings),
    )
    error_ns = max(_distance(clock, reading) + reading.error_ns for reading in best)
    return msgspec.structs.replace(clock, error_ns=error_ns)


def _distance(clock: Clock, reading: Reading) -> int:
    return abs(clock.to_ours(reading.received_ns) - reading.received_ns - reading.offset_ns)


def _best(readings: Sequence[Reading]) -> list[Reading]:
    """The reading with the shortest round trip of each stretch of time, in time order."""
    best: dict[int, Reading] = {}
    for reading in readings:
        stretch = reading.received_ns // STRETCH_NS
        if stretch not in best or reading.error_ns < best[stretch].error_ns:
            best[stretch] = reading
    return [best[stretch] for stretch in sorted(best)]


def write_clocks(path: Path, clocks: Iterable[Clock]) -> None:
    """Replace the clocks of a run, at once."""
    made = path.with_name(f".{path.name}")
    made.write_bytes(b"".join(msgspec.json.encode(clock) + b"\n" for clock in clocks))
    made.replace(path)


def read_clocks(path: Path) -> dict[str, Clock]:
    """The clocks of a run's processes by name; empty when there is no file: one machine, one clock.

    Raises UsageError when it is damaged.
    """
    return {clock.process: clock for clock in read_json_lines(path, Clock, may_be_torn=False)}


def widest_error_ns(clocks: Iterable[Clock]) -> int:
    """What the difference between times of two processes may be wrong by, at most: the two worst errors of different
    clocks, added up. 0 when all share one clock.
    """
    worst: dict[str, int] = {}
    for clock in clocks:
        worst[clock.machine] = max(worst.get(clock.machine, 0), clock.error_ns)
    return sum(sorted(worst.values())[-2:])
