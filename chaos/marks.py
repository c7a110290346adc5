"""Marks: a word that no other fault shares, in the arguments or the environment of processes that a fault brought in.

The mark is in the fault's plan, so whoever undoes the fault finds these processes, whatever became of who started them.
"""

from __future__ import annotations

import re
import secrets
import signal
from pathlib import Path

import msgspec

from chaos.addresses import wait_until
from chaos.kind import FaultError
from chaos.processes import Identity, living, read_state, send

HELPER_MARK = "feedstorm-fault:"
"""begins an argument of every process that a fault starts; letters and digits that are in its plan follow"""
_MARK = re.compile(HELPER_MARK.encode() + rb"[A-Za-z0-9]+")
END_TIMEOUT_S = 5.0


def new_mark() -> str:
    """A mark for one fault."""
    return f"{HELPER_MARK}{secrets.token_hex(8)}"


def marks_in(plan: msgspec.Struct) -> set[str]:
    """Marks of the processes that a fault with this plan starts."""
    return {mark.decode() for mark in _MARK.findall(msgspec.json.encode(plan))}


def marked(mark: str) -> list[Identity]:
    """Living processes that carry the mark; those of others, which we may not look at, are none of ours."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        state = read_state(int(entry.name))
        try:
            if state is not None and carries(state.identity, mark) and living(state.identity) is not None:
                found.append(state.identity)
        except PermissionError:
            continue
    return sorted(found)


def carries(process: Identity, mark: str) -> bool:
    """Whether the process has the mark as an argument, or as the value of a variable. Raises PermissionError."""
    try:
        if mark.encode() in _words(process, "cmdline"):
            return True
        return any(word.partition(b"=")[2] == mark.encode() for word in _words(process, "environ"))
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_marked(mark: str) -> int:
    """SIGKILL to all of them until none is left; how many there were. Raises FaultError."""
    ended: set[Identity] = set()

    def none_left() -> bool:
        left = marked(mark)
        ended.update(identity for identity in left if send(identity, signal.SIGKILL))
        return not left

    if not wait_until(none_left, END_TIMEOUT_S):
        pids = ", ".join(str(identity.pid) for identity in marked(mark))
        raise FaultError(f"still there {END_TIMEOUT_S:g} s after SIGKILL: process {pids}")
    return len(ended)


def _words(process: Identity, file: str) -> list[bytes]:
    return Path(f"/proc/{process.pid}/{file}").read_bytes().split(b"\0")
