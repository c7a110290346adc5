"""Another machine, as far as networks and clocks go: a network namespace with a cable to us, and a clock of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

AHEAD_S = 3600
"""its clock is ahead of ours by so much"""
CLOCK = ("unshare", "--fork", "--kill-child", "--time", "--monotonic", str(AHEAD_S))


@dataclass(frozen=True)
class FarMachine:
    """Names and addresses are those of this process: tests beside it have machines of their own."""

    space: str
    near: str
    """our address on the cable"""
    far: str
    inner: str
    outer: str

    @property
    def launcher(self) -> tuple[str, ...]:
        """What to put before a command, so that it runs there."""
        return ("ip", "netns", "exec", self.space, *CLOCK)

    def processes(self) -> list[int]:
        """Who runs there."""
        done = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    def connect(self) -> None:
        """Lay the cable. Raises CalledProcessError."""
        for line in (
            f"link add {self.outer} type veth peer name {self.inner} netns {self.space}",
            f"addr add {self.near}/30 dev {self.outer}",
            f"link set {self.outer} up",
            f"-n {self.space} addr add {self.far}/30 dev {self.inner}",
            f"-n {self.space} link set {self.inner} up",
            f"-n {self.space} link set lo up",
        ):
            subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=True)


@contextmanager
def made_far_machine() -> Iterator[FarMachine]:
    """One; skips the test where none can be made."""
    if os.geteuid() or not shutil.which("ip") or subprocess.run([*CLOCK, "true"], capture_output=True).returncode:
        pytest.skip("needs root, iproute2 and time namespaces")
    pid = os.getpid()
    net = f"10.203.{pid % 250}"
    machine = FarMachine(f"feedstorm-{pid}", f"{net}.1", f"{net}.2", f"fsi{pid}", f"fso{pid}")
    made = subprocess.run(["ip", "netns", "add", machine.space], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    try:
        try:
            machine.connect()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"{' '.join(error.cmd)}: {error.stderr.strip()}")
        yield machine
    finally:
        subprocess.run(["ip", "netns", "del", machine.space], capture_output=True)
        subprocess.run(["ip", "link", "del", machine.outer], capture_output=True)
