"""How far a lane's log was written, told beside it in LANE.written: a log that lost its tail must not pass for whole.

RocksDB opens a log whose end is torn or damaged as if it had never been longer. The posts of the tail come again from
the queue, under other numbers; but listeners and caches know the numbers they had, and sessions begun and posts handed
over in the tail come from nowhere. So the lane must know.

    epoch u64 BE, next record number u64 BE, boot id of the host 16 bytes
It is noted after each batch, before anybody can learn of the records in it, and handed to the kernel only. So it stands
after the end of the process. After a start of the host it may be behind, as may the log: then the tail counts as lost.
"""

from __future__ import annotations

import contextlib
import os
import struct
import uuid
from pathlib import Path

_FORMAT = struct.Struct(">QQ16s")
_NEXT = struct.Struct(">Q")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Written:
    """The file of one lane; for the lane's owner alone."""

    def __init__(self, path: Path, boot_id: bytes | None = None) -> None:
        """Raises OSError. `boot_id`: of the host, as far as it tells one."""
        self._boot_id = _host_boot_id() if boot_id is None else boot_id
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        known = os.pread(self._file, _FORMAT.size, 0)
        self._known = _FORMAT.unpack(known) if len(known) == _FORMAT.size else None

    def lost_tail(self, epoch: int, number: int) -> str:
        """What tells that the log, of this epoch and next record, was longer; empty: nothing does."""
        if self._known is None:
            return ""
        known_epoch, known_number, boot_id = self._known
        if (known_epoch, known_number) > (epoch, number):
            return f"it ends at record {number - 1} of epoch {epoch}, {known_number - 1} of {known_epoch} were written"
        return "the host has been started since it was written" if boot_id != self._boot_id else ""

    @property
    def epoch(self) -> int:
        """The newest epoch of any log of the lane, also of one that is gone; 0: none is known."""
        return 0 if self._known is None else self._known[0]

    def begin(self, epoch: int, number: int) -> None:
        """The log goes on under that epoch with that record. Raises OSError."""
        self._known = (epoch, number, self._boot_id)
        os.pwrite(self._file, _FORMAT.pack(*self._known), 0)

    def note(self, number: int) -> None:
        """All records before that number are written. Raises OSError."""
        os.pwrite(self._file, _NEXT.pack(number), 8)

    def close(self) -> None:
        """Release the file. Repeating it changes nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _host_boot_id() -> bytes:
    with contextlib.suppress(OSError, ValueError):
        return uuid.UUID(_BOOT_ID.read_text().strip()).bytes
    return bytes(16)
