"""A whole reference stack for a benchmark, and what its parts use."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reference_server.supervisor.control import read_endpoints
from reference_server.supervisor.endpoints import Endpoints
from reference_server.supervisor.layout import StackDirectory, read_pid_file
from reference_server.supervisor.sweep import marked
from reference_server.supervisor.usage import Usage, usage_by_group

END_LIMIT_S = 15.0
REST = "supervisor and guard"


class RunningStack:
    """A stack that is up."""

    def __init__(self, directory: StackDirectory) -> None:
        running, endpoints = directory.running(), read_endpoints(directory)
        assert running is not None
        assert endpoints is not None
        self.directory = directory
        self.endpoints: Endpoints = endpoints
        self._supervisor = running.pid
        self._mark = running.marker

    def usage(self) -> dict[str, Usage]:
        """Part ("us-east.api", ...) -> what it has used so far; everything else under REST."""
        groups = usage_by_group({self._supervisor, *marked(self._mark)})
        named = {}
        for path in sorted((self.directory.path / "pids").glob("*.pid")):
            leader = read_pid_file(path)
            if leader is not None and leader[0] in groups:
                named[path.stem] = groups.pop(leader[0])
        rest = Usage(sum(g.cpu_s for g in groups.values()), sum(g.memory_bytes for g in groups.values()))
        return named | {REST: rest}


@contextmanager
def running_stack(*options: str, core: int | None = None) -> Iterator[RunningStack]:
    """A stack with these options of `up`, in a directory of its own; gone afterwards. `core`: all of it runs there."""
    with tempfile.TemporaryDirectory(prefix="fs-stack-") as folder:
        argv = [sys.executable, "-m", "reference_server", "up", "--dir", folder, "--parent-pipe", *options]
        if core is not None:
            argv = ["taskset", "-c", str(core), *argv]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != b"ready":
                raise RuntimeError("the stack did not start")
            yield RunningStack(StackDirectory(Path(folder).resolve()))
        finally:
            process.stdin.close()
            try:
                process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
