"""`make bench`: runs each benchmark in its own process, one at a time, and prints a line for each; the soak comes last.

    python -m benchmarks            all of them: some 35 minutes, 20 of them the soak
    python -m benchmarks feed edge  those named; streams_250k is run only so
Each benchmark is a module with a `main()` that prints one JSON line:
{"benchmark", "value" or "ratio", "target", "ok", "details", "machine"}. Exit code 1 when a target is missed, 2 for a
name that is none.
"""

from __future__ import annotations

import subprocess
import sys
import time
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape

LIMIT_S = 300.0
LONG = {"judge": 900.0, "soak": 1800.0}
"""benchmark -> its limit in s; these run after the others"""
NAMED_ONLY = {"streams_250k": 1800.0}
"""these take the whole machine, and run when they are named"""


def modules() -> list[str]:
    """Names of the benchmarks in this folder, in the order in which they run."""
    names = (p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))
    return sorted(names, key=lambda name: (name in LONG, name))


def measure(name: str) -> dict[str, Any]:
    """The result of one benchmark; a crash or time-out is a missed target with the reason."""
    limit_s = (LONG | NAMED_ONLY).get(name, LIMIT_S)
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return {"ok": False, "details": f"no result within {limit_s:g} s"}
    lines = done.stdout.strip().splitlines()
    if not lines:
        return {"ok": False, "details": done.stderr.strip().splitlines()[-1:]}
    result: dict[str, Any] = msgspec.json.decode(lines[-1])
    return result


def told(name: str, result: dict[str, Any], seconds: float) -> str:
    """A result in two lines."""
    measured = result.get("ratio", result.get("value", "-"))
    mark = "[green]ok[/]" if result["ok"] else "[red]missed[/]"
    target, details = escape(str(result.get("target", ""))), escape(str(result.get("details", "")))
    return f"[bold]{name}[/] {measured} ({target}) {mark}, {seconds:.0f} s\n    {details}"


def main() -> int:
    """Run all benchmarks, or those named on the command line."""
    known, console = modules(), Console(soft_wrap=True, highlight=False)
    wanted = sys.argv[1:] or [name for name in known if name not in NAMED_ONLY]
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, 1) or known
            console.print(f"no benchmark is called {name!r}; there is {', '.join(near)}", style="red")
            return 2
    missed = []
    for name in wanted:
        started_s = time.monotonic()
        result = measure(name)
        console.print(told(name, result, time.monotonic() - started_s))
        missed += [] if result["ok"] else [name]
    console.print(
        f"{len(wanted) - len(missed)} of {len(wanted)} targets reached; missed: {', '.join(missed) or 'none'}"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
