"""Files of a target as it sees them: a process may have mounts of its own, such as a small disk for its log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from chaos.kind import FaultError
from chaos.processes import living, read_pid_file
from chaos.supervised import Supervised


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A directory of the target, on that device (st_dev) before the fault. Whoever is left of the target sees it."""

    process: Supervised
    path: str
    device: int

    def find(self) -> Path | None:
        """A path by which it can be reached now; None: nobody sees its file system any more."""
        for view in _views(self.process, self.path):
            try:
                if view.stat().st_dev == self.device:
                    return view
            except OSError:
                continue
        return None

    def there(self) -> Path:
        """The same; raises FaultError when nobody sees it."""
        view = self.find()
        if view is None:
            raise FaultError(f"nobody sees the file system of {self.path} any more")
        return view


def find_folder(process: Supervised, path: str) -> Folder:
    """The directory as the process sees it now. Raises FaultError when there is none."""
    view = next(_views(process, path))
    if not view.is_dir():
        raise FaultError(f"{path} is no directory")
    return Folder(process=process, path=path, device=view.stat().st_dev)


def _views(process: Supervised, path: str) -> Iterator[Path]:
    """`path` as the target's processes that live see it, and as we do."""
    leader = read_pid_file(process.pid_file)
    for identity in (leader.identity if leader else None, process.target, process.supervisor):
        if identity is not None and living(identity) is not None:
            yield Path(f"/proc/{identity.pid}/root{path}")
    yield Path(path)
