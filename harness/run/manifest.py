"""What a run was made with: versions, git head, machine, seed, command line. Written first, so a crash keeps it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("feedstorm", "locust", "aiohttp", "httpx", "duckdb", "hdrhistogram", "msgspec", "numpy", "uvloop")
CODE = ("chaos", "harness", "reference_server", "scenarios", "pyproject.toml")
"""what of a checkout a run is made with: a scenario of one's own beside it changes nothing"""
ROOT = Path(__file__).resolve().parents[2]
GIT_TIMEOUT_S = 5


def manifest(scenario: str, seed: int, target: str, defects: tuple[str, ...]) -> dict[str, Any]:
    """The facts that make a run reproducible, as plain JSON data."""
    return {"scenario": scenario, "seed": seed, "target": target, "defects": list(defects), **circumstances()}


def circumstances() -> dict[str, Any]:
    """The command, when it was given, and what code on what machine obeys it."""
    return {
        "command": " ".join(["feedstorm", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "machine": machine(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
    }


def machine() -> dict[str, Any]:
    """Cores, memory and kernel of this machine (no host name)."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(pages * page_bytes / 2**30, 1),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
    }


def git_state(root: Path = ROOT) -> dict[str, Any]:
    """Head of the checkout feedstorm runs from, and whether its code was changed; empty outside a checkout."""
    head = _git(root, "rev-parse", "HEAD")
    return {"head": head, "dirty": bool(_git(root, "status", "--porcelain", "--", *CODE))} if head else {}


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=GIT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""
