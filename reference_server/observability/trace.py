"""Follows one post through the logs of all processes: `python -m reference_server trace POST_ID --dir DIR`.

One post in `trace_one_in` (a flag) leaves a line at each stage; errors and warnings about a post are there in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec


class Step(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One line of a log that concerns the post; its other fields stay in the log."""

    ts: datetime
    level: str
    region: str
    part: str
    message: str
    post: str
    stage: str = ""
    seconds: float = 0.0
    """since the post was accepted"""


def steps_of(post_id: str, logs: Path) -> list[Step]:
    """All lines about the post in the folder's logs, rotated ones included, in order of time."""
    found = [step for path in sorted(logs.glob("*.log*")) for step in _in_file(path, post_id)]
    return sorted(found, key=lambda step: step.ts)


def _in_file(path: Path, post_id: str) -> Iterator[Step]:
    needle = post_id.encode()
    with path.open("rb") as lines:
        for line in lines:
            if needle not in line:
                continue
            try:
                step = msgspec.json.decode(line, type=Step)
            except msgspec.MsgspecError:
                continue  # a server's own line, or the torn one at the end
            if step.post == post_id:
                yield step


def as_text(steps: Iterable[Step]) -> str:
    """A line a step: time, ms since the step before, who, what."""
    lines = []
    before: datetime | None = None
    for step in steps:
        delta_ms = 0.0 if before is None else (step.ts - before).total_seconds() * 1000
        before = step.ts
        who = f"{step.region}.{step.part}".lstrip(".")
        mark = "" if step.level == "info" else f"{step.level}: "
        lines.append(f"{step.ts:%H:%M:%S.%f}  {delta_ms:+9.1f} ms  {who:<24} {mark}{step.message}")
    return "\n".join(lines)
