"""A lane with its own memcached, in this process: what the benchmarks of fan-out and rebuild measure."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from reference_server.parent import die_with_parent
from reference_server.timeline.entry import pack_entry
from reference_server.timeline.index import Index, Users
from reference_server.timeline.owner import LaneOwner, PostPage
from reference_server.timeline.takeover import join_cache, lane_users, restore
from reference_server.timeline.wal import Wal

CACHE_MB = 3072


def printed(result: dict[str, Any]) -> int:
    """Print a result as one JSON line; the exit code it stands for."""
    print(msgspec.json.encode(result).decode())
    return 0 if result["ok"] else 1


def peak_mib() -> float:
    """Most that this program had in memory. `ru_maxrss` will not do: it begins with what the parent had."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def machine() -> str:
    """Where it was measured."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_memcached() -> tuple[subprocess.Popen[bytes], int]:
    """A memcached with one worker thread, as the stack runs it. Exits 4 when it is not installed."""
    program = shutil.which("memcached")
    if program is None:
        print("memcached is not installed: apt-get install memcached", file=sys.stderr)
        raise SystemExit(4)
    port = free_port()
    options = ["-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-m", str(CACHE_MB), "-u", getpass.getuser()]
    process = subprocess.Popen([program, *options], preexec_fn=die_with_parent)
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return process, port
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextmanager
def memcached_nodes(count: int) -> Iterator[list[int]]:
    """So many memcached processes; their ports."""
    nodes = [start_memcached() for _ in range(count)]
    try:
        yield [port for _, port in nodes]
    finally:
        for process, _ in nodes:
            process.kill()
            process.wait()


@asynccontextmanager
async def open_lane(users: int) -> AsyncIterator[tuple[LaneOwner, int]]:
    """The owner of an only lane with that many users, connected; and memcached's port."""
    with memcached_nodes(1) as ports:
        async with open_lane_on(ports, users) as owner:
            yield owner, ports[0]


@asynccontextmanager
async def open_lane_on(ports: Sequence[int], users: int) -> AsyncIterator[LaneOwner]:
    """The same over memcached nodes that run already."""
    with TemporaryDirectory(prefix="feedstorm-bench-") as folder:
        wal = Wal(Path(folder) / "0")
        index = Index(wal.epoch, lane_users(0, 1, users), users, kept=800)
        owner = LaneOwner(0, wal, index, lambda _, __: None)
        restore(owner)
        await join_cache(owner, ports, timeout_s=30.0)
        try:
            yield owner
        finally:
            await owner.close()


class PostSource:
    """Posts that were never seen before."""

    def __init__(self, nobody: Users) -> None:
        self._nobody = nobody
        self.count = 0

    def page(self, users: Users) -> PostPage:
        """The next post, with these hot followers."""
        self.count += 1
        post_id = self.count.to_bytes(16, "big")
        entry = pack_entry(post_id, self.count, self.count % 1000)
        return PostPage(b"posts:%d-0" % self.count, post_id, self.count % 1000, entry, users, self._nobody, 0, True)
