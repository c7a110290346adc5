"""Starts the parts, reaps them, starts them again; ends them all.

Each part leads its own session and process group. It dies with the supervisor (PR_SET_PDEATHSIG); whoever outlives its
leader is killed with the leader's group, or swept by its mark.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from reference_server.supervisor.layout import StackDirectory, start_time, write_whole
from reference_server.supervisor.log_files import keep_small
from reference_server.supervisor.part import Layer, Part
from reference_server.supervisor.programs import StackUnavailable
from reference_server.supervisor.sweep import MARK_VARIABLE

log = logging.getLogger(__name__)
RESTART_AFTER_S = 1.0
HOLD_POLL_S = 0.05
GRACE_S = {Layer.SERVICE: 2.0, Layer.STORE: 1.5}
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])


@dataclass
class _Child:
    part: Part
    process: subprocess.Popen[bytes]
    ended: asyncio.Event


class Family:
    """All parts that run. `on_restart` is told of each restart; `on_death` of each end that was not ordered."""

    def __init__(self, directory: StackDirectory, mark: str) -> None:
        self.on_restart: Callable[[Part], None] = lambda part: None
        self.on_death: Callable[[Part, str], None] = lambda part, how: None
        self._directory = directory
        self._mark = mark
        self._children: dict[int, _Child] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._restarts: dict[str, int] = {}
        self._stopping = False
        self._supervisor = os.getpid()

    def watch(self) -> None:
        """Begin to reap: ours, and orphans of ours (this process becomes their parent)."""
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        self._spawn(keep_small(self._directory.logs))

    def start(self, part: Part) -> None:
        """Run the part and write its pid file. Raises StackUnavailable; the part does not run then."""
        try:
            output = self._directory.log(part.log_name).open("ab")
        except OSError as error:
            raise StackUnavailable(f"{part.handle}: cannot write its log ({error})") from error
        with output:
            process = self._run(part, output)
        pid = process.pid
        try:
            write_whole(self._directory.pid_file(part.handle), b"%d %d\n" % (pid, start_time(pid)))
        except OSError as error:
            _kill_group(pid, signal.SIGKILL)
            process.returncode = -signal.SIGKILL  # reaped like a stranger: nobody is to hear of its end
            raise StackUnavailable(f"{part.handle}: cannot write its pid file ({error})") from error
        self._children[pid] = _Child(part, process, asyncio.Event())

    def _run(self, part: Part, output: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [*read_wrapper(part.handle, self._directory.wrapper_file(part.handle)), *part.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(part),
                start_new_session=True,
                preexec_fn=self._die_with_supervisor,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StackUnavailable(f"{part.handle}: cannot run {part.argv[0]} ({error})") from error

    def _die_with_supervisor(self) -> None:
        """In the child, before exec: ended by the kernel with its parent, even if that is gone already."""
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != self._supervisor:
            os.kill(os.getpid(), signal.SIGKILL)

    def _environment(self, part: Part) -> dict[str, str]:
        paths = [_PACKAGE_PARENT, *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **part.env,
            MARK_VARIABLE: self._mark,
        }

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            child = self._children.pop(ended.si_pid, None)
            if child is not None:
                _kill_group(ended.si_pid, signal.SIGKILL)
            os.waitpid(ended.si_pid, 0)
            if child is not None:
                how = "status" if ended.si_code == os.CLD_EXITED else "signal"
                self._ended(child, f"{how} {ended.si_status}", ended.si_status)

    def _ended(self, child: _Child, how: str, status: int) -> None:
        child.process.returncode = status
        child.ended.set()
        if self._stopping:
            return
        log.warning("%s ended with %s", child.part.handle, how)
        self.on_death(child.part, how)
        self._spawn(self._restart(child.part))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _restart(self, part: Part) -> None:
        await asyncio.sleep(RESTART_AFTER_S)
        hold = self._directory.hold_file(part.handle)
        while True:
            while hold.exists():  # noqa: ASYNC110 - the hold is set and removed by another process
                await asyncio.sleep(HOLD_POLL_S)
            try:
                self.start(part)
                break
            except StackUnavailable as error:
                log.error("%s", error)
                await asyncio.sleep(RESTART_AFTER_S)
        log.info("%s restarted", part.handle)
        self._count_restart(part)
        self.on_restart(part)

    def _count_restart(self, part: Part) -> None:
        self._restarts[part.handle] = self._restarts.get(part.handle, 0) + 1
        try:
            write_whole(self._directory.restarts, msgspec.json.encode(self._restarts))
        except OSError as error:
            log.error("cannot count restarts (%s)", error)

    async def stop(self) -> None:
        """End every part: services first, each layer asked first, then made to (SIGKILL)."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        for layer in sorted(Layer, reverse=True):
            members = {pid: c for pid, c in self._children.items() if c.part.layer is layer}
            for pid, child in members.items():
                _kill_group(pid, child.part.stop_signal)
                _kill_group(pid, signal.SIGCONT)
            await _all_ended(members, GRACE_S[layer])
            for pid in members.keys() & self._children.keys():
                log.warning("%s did not end in time: killed", members[pid].part.handle)
                _kill_group(pid, signal.SIGKILL)
            await _all_ended(members, GRACE_S[layer])
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)


async def _all_ended(members: dict[int, _Child], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    for child in members.values():
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                await child.ended.wait()
        except TimeoutError:
            return


def _kill_group(leader: int, sig: signal.Signals) -> None:
    try:
        os.killpg(leader, sig)
    except (ProcessLookupError, PermissionError):
        return


def read_wrapper(handle: str, path: Path) -> list[str]:
    """Words before a part's command, by which somebody has it started in another way; none as a rule.

    They are run with our rights. Raises StackUnavailable when others could have written them, or they are no words.
    """
    try:
        for place in (path, path.parent):
            found = place.stat()
            if found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
                raise StackUnavailable(f"{handle}: {place} could have been written by others")
        return msgspec.json.decode(path.read_bytes(), type=list[str])
    except FileNotFoundError:
        return []
    except msgspec.MsgspecError as error:
        raise StackUnavailable(f"{handle}: {path} is no JSON list of words ({error})") from error
