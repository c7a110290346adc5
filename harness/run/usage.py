"""Processor time of each part of a run while its phases last: an observer of `harness.run.execute`.

Who belongs to which part: what descends from the process in the pid file of one of the target's handles is that part;
what else descends from this process is the generator, when it runs a module of the harness, or a target without
handles. A look reads some hundred small files of /proc (5 ms), every two seconds. What ends or is restarted between the
first look and the last is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.core.clock import NS_PER_S, now_ns
from harness.judge.saturation import GENERATOR, LOAD, TARGET, PartUsage, Usage
from harness.load.machine import descendants, handle_pids, read_parents
from harness.run.execute import Progress

LOOK_EVERY_NS = 2 * NS_PER_S
HARNESS = "the harness itself"


class Ran(NamedTuple):
    """A thread so far, ns."""

    ran_ns: int
    waited_ns: int


class Look(NamedTuple):
    """All threads at one moment, by part and group."""

    at_ns: int
    threads: dict[tuple[str, str], dict[int, Ran]]


class UsageWatch:
    """Looks at the parts from the first phase on; `usage` tells what they did between the first look and the last."""

    def __init__(self) -> None:
        self._first: Look | None = None
        self._last: Look | None = None

    def __call__(self, progress: Progress) -> None:
        """Look, when it is time."""
        now = now_ns()
        if progress.stage != "running" or progress.plan is None or now < progress.t0_ns:
            return
        if now > progress.t0_ns + progress.plan.end_ns:
            return
        if self._last is None or now - self._last.at_ns >= LOOK_EVERY_NS:
            self._last = look(progress.run.profile)
            self._first = self._first or self._last

    @property
    def usage(self) -> Usage:
        """Of all parts; of none when the phases were too short for two looks."""
        if self._first is None or self._last is None or self._first is self._last:
            return Usage()
        return usage_between(self._first, self._last, len(os.sched_getaffinity(0)))


def usage_between(first: Look, last: Look, processors: int) -> Usage:
    """What the threads did that are in both looks."""
    length_ns = last.at_ns - first.at_ns
    parts = []
    for (part, group), threads in last.threads.items():
        before = first.threads.get((part, group), {})
        spent = [
            (ran.ran_ns - before[thread].ran_ns, ran.waited_ns - before[thread].waited_ns)
            for thread, ran in threads.items()
            if thread in before
        ]
        if not spent:
            continue
        busiest_ns, waited_ns = max(spent)
        parts.append(
            PartUsage(
                part=part,
                group=group,
                busiest=round(busiest_ns / length_ns, 4),
                in_line=round(waited_ns / length_ns, 4),
                cores=round(sum(ran_ns for ran_ns, _ in spent) / length_ns, 4),
            )
        )
    parts.sort(key=lambda part: -part.busiest)
    return Usage(processors=processors, seconds=round(length_ns / NS_PER_S, 1), parts=parts)


def look(profile: Path) -> Look:
    """All threads of the run, now."""
    at_ns, parents = now_ns(), read_parents()
    threads: dict[tuple[str, str], dict[int, Ran]] = {}
    for pid, owner in owners(profile, parents).items():
        threads.setdefault(owner, {}).update(threads_of(pid))
    return Look(at_ns, threads)


def owners(profile: Path, parents: dict[int, int]) -> dict[int, tuple[str, str]]:
    """Process -> part and group."""
    found: dict[int, tuple[str, str]] = {}
    for name, leader in handle_pids(profile).items():
        for pid in descendants([leader], parents):
            found.setdefault(pid, (name, TARGET))
    for pid in descendants([os.getpid()], parents):
        if pid not in found:
            found[pid] = part_of(command_of(pid), pid == os.getpid())
    return found


def part_of(command: list[str], is_this: bool) -> tuple[str, str]:
    """What a process that is no handle's belongs to, by its command line."""
    modules = [word for word in command if word.startswith("harness.")]
    if is_this:
        return HARNESS, LOAD
    if modules:
        named = [word for word in command if word.startswith(("locust-", "streams-"))]
        return f"{GENERATOR}{named[0] if named else modules[0].rpartition('.')[2]}", LOAD
    return f"target {program_of(command)}".strip(), TARGET


def program_of(command: list[str]) -> str:
    """What a command line runs: the module, script or program."""
    if "-m" in command[:-1]:
        return command[command.index("-m") + 1]
    scripts = [word for word in command if word.endswith(".py")]
    return Path((scripts or command or [""])[0]).name


def command_of(pid: int) -> list[str]:
    """Words of its command line; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def threads_of(pid: int) -> Iterator[tuple[int, Ran]]:
    """The threads of a process, each with its processor time so far."""
    try:
        for task in os.scandir(f"/proc/{pid}/task"):
            ran, waited, _ = map(int, Path(task.path, "schedstat").read_bytes().split())
            yield int(task.name), Ran(ran, waited)
    except (OSError, ValueError):
        return
