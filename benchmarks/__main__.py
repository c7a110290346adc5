"""`make bench`: runs each benchmark in its own process, one at a time, and prints one table.

Each benchmark is a module with a `main()` that prints one JSON line:
{"benchmark", "value" or "ratio", "target", "ok", "details", "machine"}. Exit code 1 when a target is missed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

TIMEOUT_S = 300


def modules() -> list[str]:
    """Names of the benchmarks in this folder."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def measure(name: str) -> dict[str, Any]:
    """The result of one benchmark; a crash or time-out is a missed target with the reason."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"benchmark": name, "ok": False, "details": f"no result within {TIMEOUT_S} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 and not lines:
        return {"benchmark": name, "ok": False, "details": done.stderr.strip().splitlines()[-1:]}
    result: dict[str, Any] = msgspec.json.decode(lines[-1])
    return result


def main() -> int:
    """Run all benchmarks, or those named on the command line."""
    wanted = sys.argv[1:] or modules()
    table = Table("benchmark", "measured", "target", "", "details", box=None, pad_edge=False)
    results = []
    for name in wanted:
        result = measure(name)
        results.append(result)
        measured = result.get("ratio", result.get("value", ""))
        mark = "[green]ok[/]" if result["ok"] else "[red]missed[/]"
        table.add_row(name, str(measured), str(result.get("target", "")), mark, str(result.get("details", "")))
    Console().print(table)
    return 0 if all(r["ok"] for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
