"""What a machine is busy with, from /proc: whose processes ran, who stood in line, what the hypervisor took away.

Costs about 25 µs for each process of the run and look; who belongs to the run is looked up now and then only. Where
the kernel does not tell something (no schedstat, no pressure), that is left at zero or None.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from harness.core.clock import NS_PER_S, now_ns
from harness.record.noise_file import MainThread

SCAN_EVERY_S = 2.0
SCAN_COST = 0.002
"""most that looking through all processes may take of a core: with many processes it is done less often"""
LEAST_WAIT_US = 1000
"""who waited less between two looks, and slept, is not named"""
BUSY = 0.9
"""who ran for that share is named"""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Use:
    """The machine between two looks, as in `harness.record.noise_file.NoiseRow`."""

    steal: float = 0.0
    outside: float = 0.0
    own: float = 0.0
    waited: float = 0.0
    in_line: float = 0.0
    processors: float = 1
    processes: list[MainThread] = field(default_factory=list)
    running: int = 0
    load: float = 0.0
    pressure_cpu: float | None = None
    pressure_memory: float | None = None
    pressure_io: float | None = None


@dataclass(frozen=True)
class Processor:
    """Time of all allowed cores so far, in ticks."""

    busy: int = 0
    steal: int = 0
    total: int = 0


@dataclass(frozen=True)
class Account:
    """One process so far."""

    ticks: int
    """of all its threads"""
    ran_ns: int
    """of its main thread"""
    waited_ns: int
    """the same thread, ready to run, in line"""
    turns: int
    """how often it got a processor"""

    def since(self, before: Account, pid: int) -> MainThread:
        """What the main thread of process `pid` did since then."""
        ran_ns, waited_ns = self.ran_ns - before.ran_ns, self.waited_ns - before.waited_ns
        return MainThread(pid, ran_ns // 1000, waited_ns // 1000, self.turns - before.turns)


class Machine:
    """Looks at the machine; each look tells what happened since the one before."""

    def __init__(self, roots: Callable[[], Iterable[int]]) -> None:
        """`roots`: the processes that the run's are descended from."""
        self._roots = roots
        self._cores = os.sched_getaffinity(0)
        self._quota = quota_cores() or len(self._cores)
        self._scanned_ns = self._scan_cost_ns = 0
        self._accounts: dict[int, Account] = {}
        self._scan()
        self._looked_ns = now_ns()
        self._processor = self._read_processor()
        self._pressure = {name: read_pressure_us(name) for name in ("cpu", "memory", "io")}

    def look(self) -> Use:
        """What happened since the last look."""
        ended_ns = now_ns()
        seconds = max(1e-9, (ended_ns - self._looked_ns) / NS_PER_S)
        self._looked_ns = ended_ns
        processor, before = self._read_processor(), self._processor
        self._processor = processor
        own_s, threads = self._own()
        ran_s, waited_s = sum(t.ran_us for t in threads) / 1e6, sum(t.waited_us for t in threads) / 1e6
        total = max(1, processor.total - before.total)
        busy = (processor.busy - before.busy) / total
        running, load = read_load()
        pressure = self._pressed(seconds)
        return Use(
            steal=_share((processor.steal - before.steal) / total),
            outside=_share(busy - own_s / seconds / len(self._cores)),
            own=_share(own_s / seconds / min(self._quota, len(self._cores))),
            waited=_share(waited_s / (ran_s + waited_s or 1.0)),
            in_line=round(waited_s / seconds, 4),
            processors=round(min(self._quota, len(self._cores)), 2),
            processes=[t for t in threads if t.waited_us >= LEAST_WAIT_US or t.ran_us >= BUSY * 1e6 * seconds],
            running=running,
            load=load,
            pressure_cpu=pressure["cpu"],
            pressure_memory=pressure["memory"],
            pressure_io=pressure["io"],
        )

    def _own(self) -> tuple[float, list[MainThread]]:
        """Processor seconds of the run's processes, and what their main threads did."""
        ticks = 0
        threads: list[MainThread] = []
        gone = False
        for pid, before in list(self._accounts.items()):
            account = read_account(pid)
            if account is None:
                del self._accounts[pid]
                gone = True
                continue
            self._accounts[pid] = account
            ticks += account.ticks - before.ticks
            threads.append(account.since(before, pid))
        pause_ns = max(SCAN_EVERY_S * NS_PER_S, self._scan_cost_ns / SCAN_COST)
        if gone or now_ns() - self._scanned_ns >= pause_ns:
            self._scan()
        return ticks / _TICKS_PER_S, threads

    def _scan(self) -> None:
        """Find the run's processes; what new ones did before is not counted."""
        begun_ns = time.thread_time_ns()
        for pid in descendants(self._roots(), read_parents()):
            if pid not in self._accounts and (account := read_account(pid)) is not None:
                self._accounts[pid] = account
        self._scanned_ns, self._scan_cost_ns = now_ns(), time.thread_time_ns() - begun_ns

    def _read_processor(self) -> Processor:
        return parse_processor(_read("/proc/stat") or b"", self._cores)

    def _pressed(self, seconds: float) -> dict[str, float | None]:
        shares: dict[str, float | None] = {}
        for name, before in self._pressure.items():
            after = read_pressure_us(name)
            known = before is not None and after is not None
            shares[name] = _share(((after or 0) - (before or 0)) / 1e6 / seconds) if known else None
            self._pressure[name] = after
        return shares


def parse_processor(stat: bytes, cores: Iterable[int]) -> Processor:
    """/proc/stat, of these cores only."""
    wanted = {b"cpu%d" % core for core in cores}
    busy = steal = total = 0
    for line in stat.splitlines():
        name, _, rest = line.partition(b" ")
        if name not in wanted:
            continue
        user, nice, system, idle, iowait, irq, softirq, stolen = map(int, rest.split()[:8])
        busy += user + nice + system + irq + softirq
        steal += stolen
        total += user + nice + system + idle + iowait + irq + softirq + stolen
    return Processor(busy, steal, total)


def read_account(pid: int) -> Account | None:
    """A process's account; None when it is gone."""
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    ran, waited, turns = map(int, (_read(f"/proc/{pid}/schedstat") or b"0 0 0").split())
    return Account(int(fields[11]) + int(fields[12]), ran, waited, turns)


def read_parents() -> dict[int, int]:
    """Process -> its parent, of all that can be seen."""
    parents = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - each second counts here, Path objects take as long as the reads
        if name.isdigit() and (stat := _read(f"/proc/{name}/stat")):
            parents[int(name)] = int(stat[stat.rindex(b")") + 2 :].split(None, 2)[1])
    return parents


def descendants(roots: Iterable[int], parents: dict[int, int]) -> set[int]:
    """The roots that live, and all that they and theirs started."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid in parents]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, ())
    return found


def handle_pids(profile: Path) -> dict[str, int]:
    """Handle of a target -> the process in its pid file, `PID STARTTIME`; of those that can be read."""
    try:
        handles: dict[str, dict[str, Any]] = msgspec.json.decode(profile.read_bytes()).get("handles", {})
    except (OSError, msgspec.DecodeError):
        return {}
    found = {}
    for name, handle in handles.items():
        try:
            found[name] = int(Path(handle["pid_file"]).read_text(encoding="ascii").split()[0])
        except (OSError, LookupError, ValueError, TypeError):
            continue
    return found


def read_load() -> tuple[int, float]:
    """Threads that run or stand in line now, and the load average of the last minute."""
    words = (_read("/proc/loadavg") or b"0 0 0 0/0 0").split()
    return int(words[3].partition(b"/")[0]), float(words[0])


def read_pressure_us(resource: str) -> int | None:
    """Microseconds so far in which some task waited for "cpu", "memory" or "io"; None: the kernel does not tell."""
    first = (_read(f"/proc/pressure/{resource}") or b"").partition(b"\n")[0]
    return int(first.rpartition(b"total=")[2]) if b"total=" in first else None


def quota_cores() -> float | None:
    """Cores that the control group of this process may use; None: all."""
    group = (_read("/proc/self/cgroup") or b"").rpartition(b"0::")[2].strip().decode()
    for folder in (Path("/sys/fs/cgroup") / group.lstrip("/"), Path("/sys/fs/cgroup")):
        quota, _, period = (_read(str(folder / "cpu.max")) or b"").partition(b" ")
        if quota.isdigit() and period.strip().isdigit():
            return int(quota) / int(period)
    return None


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4)


def _read(path: str) -> bytes | None:
    """A small file of /proc in one read; None when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _READ_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)
