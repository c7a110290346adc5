"""Starts a process in another way: words before its command, for as long as a fault holds.

The handle's supervisor reads the wrapper file (a JSON list of words) each time it starts the process. So the process is
ended once for the fault to begin, and once more for it to end if it still runs wrapped. One fault at a time may wrap a
process; the fault's mark, in the words, tells whose wrapper it is and who runs under it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from chaos.handles import Handle
from chaos.kind import FaultError
from chaos.marks import carries
from chaos.supervised import Supervised, ask_to_end, await_service, find_supervised, kill_group

GRACE_S = 2.0
"""for the process to end by itself, before it is killed"""


class Wrapper(msgspec.Struct, frozen=True, kw_only=True):
    """A process, and the words that go before its command."""

    process: Supervised
    file: str
    mark: str
    words: tuple[str, ...]


def plan_wrapper(handle: Handle, deed: str, mark: str, words: tuple[str, ...]) -> Wrapper:
    """The wrapper of a handle's process. Raises FaultError: not running, or wrapped by another fault already."""
    process = find_supervised(handle, deed)
    if Path(handle.wrapper_file).exists():
        raise FaultError(f"{handle.name} is already started in another way, by {handle.wrapper_file}")
    carries(process.target, mark)  # who may not look would learn so in the undo otherwise
    return Wrapper(process=process, file=handle.wrapper_file, mark=mark, words=words)


def wrap(wrapper: Wrapper) -> None:
    """Put the words in place, end the process; its supervisor starts it with them. Raises FaultError, OSError."""
    path = Path(wrapper.file)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(msgspec.json.encode(wrapper.words))
    draft.replace(path)
    target = wrapper.process.target
    if not ask_to_end(target, GRACE_S):
        kill_group(target)


def unwrap(wrapper: Wrapper) -> str:
    """Remove the words, end the process if it runs under them, await its service. Raises FaultError, OSError."""
    path = Path(wrapper.file)
    try:
        if wrapper.mark in path.read_text(encoding="utf-8", errors="replace"):
            path.unlink()
    except FileNotFoundError:
        pass  # the target's supervisor cleared its files, or this was undone already
    return await_service(wrapper.process, is_stale=lambda leader: carries(leader.identity, wrapper.mark))
