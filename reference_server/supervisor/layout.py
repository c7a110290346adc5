"""Where a stack keeps its files, below the directory given with `--dir`.

settings.json  seed.json  operator.token  endpoints.json (while it is up)  supervisor.json  lock
edge/          certificates and configurations of the edge proxies
restarts.json  handle -> how often it was started again
pids/{handle}.pid   "PID STARTTIME"      holds/{handle}   exists: the supervisor leaves the handle down
wrappers/{handle}   a JSON list of words that go before the handle's command when it is started
logs/{region}.{part}.log                 {region}/...     data of the parts
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec


class SupervisorFile(msgspec.Struct, kw_only=True, frozen=True):
    """supervisor.json: which process runs the stack."""

    pid: int
    start_time: int
    sockets: str
    marker: str
    """value of FEEDSTORM_STACK in the environment of every process of this stack"""


@dataclass(frozen=True)
class StackDirectory:
    """The directory of one stack."""

    path: Path

    @property
    def settings(self) -> Path:
        """What every part is told at start."""
        return self.path / "settings.json"

    @property
    def seed(self) -> Path:
        """When the history ends; stays for the life of the data."""
        return self.path / "seed.json"

    @property
    def endpoints(self) -> Path:
        """Addresses and handles, there while the stack is ready."""
        return self.path / "endpoints.json"

    @property
    def supervisor(self) -> Path:
        """Which process runs the stack."""
        return self.path / "supervisor.json"

    @property
    def operator_token(self) -> Path:
        """The token of whoever operates the stack; readable by its owner only."""
        return self.path / "operator.token"

    @property
    def edge(self) -> Path:
        """Folder of the edge proxies' configurations and certificates."""
        return self.path / "edge"

    @property
    def authority(self) -> Path:
        """Certificate that clients of the edge proxies trust."""
        return self.edge / "ca.pem"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor (and its guard) while anything of the stack lives."""
        return self.path / "lock"

    def pid_file(self, handle: str) -> Path:
        """Who is the handle's process group leader."""
        return self.path / "pids" / f"{handle}.pid"

    def hold_file(self, handle: str) -> Path:
        """While it exists, the handle is not restarted."""
        return self.path / "holds" / handle

    def wrapper_file(self, handle: str) -> Path:
        """While it exists, the handle is started with the words in it (a JSON list) before its command."""
        return self.path / "wrappers" / handle

    @property
    def restarts(self) -> Path:
        """How often each handle was started again in this life of the stack; absent: none was."""
        return self.path / "restarts.json"

    @property
    def logs(self) -> Path:
        """Folder of all logs."""
        return self.path / "logs"

    def log(self, name: str) -> Path:
        """Log of a part, e.g. "us-east.graph"; an older part of it may stand in the same name with ".1", ".2"."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the folders; holds, wrappers and pid files of an earlier life go."""
        for folder in ("pids", "holds", "wrappers", "logs"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        of_handles = [file for folder in ("pids", "holds", "wrappers") for file in (self.path / folder).iterdir()]
        for stale in [*of_handles, self.endpoints, self.restarts]:
            stale.unlink(missing_ok=True)

    def latest(self) -> SupervisorFile | None:
        """The supervisor that ran the stack last, or runs it now; None once it ended in order."""
        try:
            return msgspec.json.decode(self.supervisor.read_bytes(), type=SupervisorFile)
        except (OSError, msgspec.MsgspecError):
            return None

    def running(self) -> SupervisorFile | None:
        """The supervisor that runs the stack now, if one does."""
        found = self.latest()
        return found if found is not None and start_time(found.pid) == found.start_time else None


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file so that readers see the old or the new content, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(data)
    draft.replace(path)


def start_time(pid: int) -> int:
    """Start time of a process in clock ticks (field 22 of /proc/PID/stat); 0 when it is gone or a zombie."""
    fields = _stat(pid)
    return 0 if not fields or fields[0] in ("Z", "X") else int(fields[19])


def is_stopped(pid: int) -> bool:
    """Whether the process is paused by a signal."""
    fields = _stat(pid)
    return bool(fields) and fields[0] in ("T", "t")


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


def read_pid_file(path: Path) -> tuple[int, int] | None:
    """(pid, start time) in a pid file."""
    try:
        pid, started = path.read_text().split()
        return int(pid), int(started)
    except (OSError, ValueError):
        return None
