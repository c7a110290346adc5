"""Small disks of memory for the lanes' logs, so that a full disk can be tried out without filling the machine's.

They are mounted in a mount namespace of this process and what it starts: nobody else's mounts change, and nothing has
to be unmounted, as the disks and what is on them go with the last of these processes, however it ends. From outside
they are seen through /proc/PID/root.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from reference_server.supervisor.programs import StackUnavailable

_CLONE_NEWNS = 0x20000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def mount_small_disks(folders: Iterable[Path], size_mb: int) -> None:
    """Have a disk of that size (MiB) at each folder; call it before any thread is started. Raises StackUnavailable."""
    try:
        _done(_libc.unshare(_CLONE_NEWNS), "/")
        _mount("none", Path("/"), None, _MS_REC | _MS_PRIVATE, "")
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            _mount("tmpfs", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={size_mb}m,mode=700")
    except OSError as error:
        raise StackUnavailable(
            f"--wal-tmpfs-mb: cannot mount a small disk ({error}); it takes root (CAP_SYS_ADMIN), leave the option out"
        ) from error


def _mount(source: str, folder: Path, kind: str | None, options: int, data: str) -> None:
    kind_name = kind.encode() if kind else None
    _done(_libc.mount(source.encode(), os.fsencode(folder), kind_name, options, data.encode()), str(folder))


def _done(result: int, path: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
