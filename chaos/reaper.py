"""The reaper: a small process that undoes faults when whoever injected them cannot.

    python -m chaos.reaper LEDGER OWNER_PID OWNER_START_TIME

It is started before the first fault, in a session of its own, so it outlives the harness and its process group. It says
"ready" on standard output, then watches two things: its owner (by pidfd, so it knows at once), and the leases in the
ledger, which end also when the owner hangs. Once the owner is gone it undoes everything and ends; what cannot be undone
is tried again for GIVE_UP_S, then left in the ledger, where the next run and `feedstorm faults undo` find it.

`Reaper` is the owner's side. Signals that end a terminal's processes are ignored; SIGTERM ends it once nothing is open.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from chaos.addresses import wait_until
from chaos.kind import FaultError
from chaos.ledger import heal, open_faults
from chaos.processes import Identity, living, own_identity, read_state, send
from harness.core.errors import ResidueError

_log = logging.getLogger(__name__)
LOOK_EVERY_S = 0.1
RETRY_EVERY_S = 1.0
GIVE_UP_S = 60.0
START_LIMIT_S = 15.0
END_LIMIT_S = 5.0
READY = b"ready\n"
_ROOT = Path(__file__).parents[1]


class Reaper:
    """One reaper of this process, for one ledger."""

    def __init__(self, ledger: Path) -> None:
        """Start it. Raises FaultError when it does not come up: then no fault may begin."""
        self._ledger = ledger
        owner = own_identity()
        command = [sys.executable, "-m", "chaos.reaper", str(ledger.resolve()), str(owner.pid), str(owner.start_time)]
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with ledger.with_name("reaper.log").open("ab") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
        state = read_state(process.pid)
        self._identity = state.identity if state is not None else Identity(process.pid, 0)
        if not _came_up(process):
            process.kill()
            process.wait()
            raise FaultError(f"the reaper did not start within {START_LIMIT_S:g} s (see {errors.name})")
        process.returncode = 0  # from here on only its identity counts: it may outlive us

    @property
    def is_alive(self) -> bool:
        """Whether it watches."""
        return living(self._identity) is not None

    def end(self) -> None:
        """Let it go; with faults still open it stays until we are gone, and undoes them. Idempotent."""
        if self.is_alive and open_faults(self._ledger):
            return
        send(self._identity, signal.SIGTERM)
        if not wait_until(lambda: not self.is_alive, END_LIMIT_S):
            send(self._identity, signal.SIGKILL)
            wait_until(lambda: not self.is_alive, END_LIMIT_S)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._identity.pid, os.WNOHANG)


def _came_up(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    with process.stdout as said:
        readable, _, _ = select.select([said], [], [], START_LIMIT_S)
        return bool(readable) and said.readline() == READY


class _Watch:
    """The reaper's own side."""

    def __init__(self, ledger: Path, owner: Identity) -> None:
        self.ledger = ledger
        self.owner = owner
        self.dismissed = False

    def dismiss(self, *_: object) -> None:
        """Signal handler: end when nothing is open."""
        self.dismissed = True

    def run(self) -> int:
        """Watch until all is undone and nobody can open more. Returns the exit code."""
        poll = _poll_for(self.owner)
        retry_at_s = 0.0
        while living(self.owner) is not None:
            if time.monotonic() >= retry_at_s:
                if not self._undone():
                    retry_at_s = time.monotonic() + RETRY_EVERY_S
                elif self.dismissed and not open_faults(self.ledger):
                    return 0
            if poll is None:
                time.sleep(LOOK_EVERY_S)
            else:
                poll.poll(LOOK_EVERY_S * 1000)
        return self._finish()

    def _finish(self) -> int:
        """The owner is gone."""
        deadline = time.monotonic() + GIVE_UP_S
        while not self._undone():
            if time.monotonic() > deadline:
                _log.error("given up; the faults stay in %s", self.ledger)
                return ResidueError.exit_code
            time.sleep(RETRY_EVERY_S)
        return 0

    def _undone(self) -> bool:
        """Undo what nobody has in hand; False: something is left."""
        try:
            if all(row.is_held for row in open_faults(self.ledger)):
                return True
            for told in heal(self.ledger):
                _log.warning("%s", told)
        except Exception as error:  # nobody else is left to undo: whatever it was, try again
            _log.error("%s", error or type(error).__name__)
            return False
        return True


def _poll_for(owner: Identity) -> select.poll | None:
    """Something that wakes when the owner ends; None when it has, or its kernel has no pidfd."""
    try:
        descriptor = os.pidfd_open(owner.pid)
    except OSError:
        return None
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll


def main() -> int:
    """See the module."""
    ledger, pid, start_time = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s reaper %(levelname)s %(message)s")
    for sig in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(sig, signal.SIG_IGN)
    watch = _Watch(Path(ledger), Identity(int(pid), int(start_time)))
    signal.signal(signal.SIGTERM, watch.dismiss)
    os.write(sys.stdout.fileno(), READY)
    return watch.run()


if __name__ == "__main__":
    sys.exit(main())
