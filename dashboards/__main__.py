"""`python -m dashboards generate` writes what is generated; `prometheus --dir STACK` points Prometheus at a stack."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dashboards import rules, targets
from dashboards.board import to_json
from dashboards.boards import BOARDS

FOLDER = Path(__file__).parent
UNAVAILABLE = 4


def generated() -> dict[Path, str]:
    """Every generated file below this folder, and what stands in it."""
    files = {Path("grafana") / f"{board.uid}.json": to_json(board) for board in BOARDS}
    files[Path("prometheus", "rules.yml")] = rules.to_yaml()
    files[Path("prometheus", "prometheus.yml")] = targets.configuration()
    return files


def generate() -> None:
    """Write them; files of boards that are gone go too."""
    wanted = generated()
    for path in (FOLDER / "grafana").glob("*.json"):
        if path.relative_to(FOLDER) not in wanted:
            path.unlink()
    for path, text in wanted.items():
        (FOLDER / path).parent.mkdir(exist_ok=True)
        (FOLDER / path).write_text(text)
        print(FOLDER / path)


def main() -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m dashboards")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("generate", help="write dashboards, rules and configuration anew")
    prometheus = commands.add_parser("prometheus", help="configuration for Prometheus beside a running stack")
    prometheus.add_argument("--dir", required=True, type=Path, help="directory of the stack")
    prometheus.add_argument("--out", type=Path, help="where to write (default: prometheus/ in the stack's directory)")
    options = parser.parse_args()
    if options.command == "generate":
        generate()
        return 0
    try:
        written = targets.write_configuration(options.dir, options.out or options.dir / "prometheus")
    except targets.StackAbsent as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    print(f"prometheus --config.file={written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
