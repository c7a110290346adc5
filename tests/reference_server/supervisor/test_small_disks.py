"""Small disks for logs are seen by the stack alone, and go with it; who may not mount learns why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
MOUNT = """
import os, sys
from pathlib import Path
from reference_server.supervisor.programs import StackUnavailable
from reference_server.supervisor.small_disks import mount_small_disks
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
folder = Path(sys.argv[1])
try:
    mount_small_disks([folder / "one", folder / "two"], 4)
except StackUnavailable as error:
    sys.exit(str(error))
for name in ("one", "two"):
    state = os.statvfs(folder / name)
    print(state.f_blocks * state.f_frsize)
    (folder / name / "file").write_text("mine")
"""


def mounting(folder: Path, *user: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MOUNT, str(folder), *user]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount takes root")
def test_disks_are_seen_by_their_process_alone(tmp_path: Path) -> None:
    done = mounting(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(4 << 20)] * 2
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert list((tmp_path / "one").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="to become another user takes root")
def test_who_may_not_mount_learns_why(tmp_path: Path) -> None:
    done = mounting(tmp_path, "65534")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "--wal-tmpfs-mb: cannot mount a small disk ([Errno 1] Operation not permitted: '/'); "
        "it takes root (CAP_SYS_ADMIN), leave the option out"
    )
    assert list(tmp_path.iterdir()) == []
