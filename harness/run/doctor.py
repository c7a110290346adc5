"""What is missing on this machine, what that costs, and the exact command that fixes it. Changes nothing."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import msgspec

VERSION_TIMEOUT_S = 5.0
WANTED_DESCRIPTORS = 20_000
TOOLS = Path(__file__).resolve().parents[2] / ".tools" / "bin"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing this machine should have. `needed_for` says what does not work without it."""

    name: str
    found: bool
    detail: str
    needed_for: str
    required: bool
    fix: str = ""


def examine() -> list[Finding]:
    """All findings, required ones first."""
    apt = "apt-get install -y" if os.geteuid() == 0 else "sudo apt-get install -y"
    return [
        _program("memcached", "the reference stack", f"{apt} memcached", ["memcached", "-V"]),
        _program("redis-server", "the reference stack", f"{apt} redis-server", ["redis-server", "--version"]),
        _program(
            "toxiproxy-server",
            "WAN delay between regions; faults latency and partition",
            "make setup  (or: go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0; name it toxiproxy-server)",
            ["toxiproxy-server", "--version"],
            required=False,
        ),
        _program(
            "haproxy",
            "the edge proxy of each region (TLS, HTTP/2, fail over)",
            f"{apt} haproxy",
            ["haproxy", "-v"],
            required=False,
        ),
        _docker(apt),
        _descriptors(),
    ]


def find_program(name: str) -> str | None:
    """Path of a program on PATH, in /usr/sbin, or built into the checkout's tools folder."""
    return shutil.which(name) or shutil.which(name, path=f"/usr/sbin:{TOOLS}")


def _program(name: str, needed_for: str, fix: str, version: list[str], required: bool = True) -> Finding:
    path = find_program(name)
    detail = _version([path, *version[1:]]) if path else "not found"
    return Finding(name=name, found=path is not None, detail=detail, needed_for=needed_for, required=required, fix=fix)


def _docker(apt: str) -> Finding:
    engine, client = find_program("dockerd"), find_program("docker")
    answer = _output([client, "version", "--format", "{{.Server.Version}}"]) if client else ""
    sudo = apt.partition("apt-get")[0]
    if answer:
        detail, fix = f"engine {answer}", ""
    elif engine:
        detail = "installed, but no engine answers (the tests start their own)"
        fix = f"{sudo}systemctl start docker  (without systemd: {sudo}dockerd &)"
    else:
        detail, fix = "the client alone, no engine" if client else "not found", f"{apt} docker.io"
    return Finding(
        name="docker",
        found=bool(answer),
        detail=detail,
        needed_for="faults on containers (container-kill, container-pause, ...)",
        required=False,
        fix=fix,
    )


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding(
        name="open files",
        found=soft >= WANTED_DESCRIPTORS,
        detail=f"limit {soft:,} (hard {hard:,})",
        needed_for=f"{WANTED_DESCRIPTORS:,} streams a process; fewer streams fit otherwise",
        required=False,
        fix=f"ulimit -n {WANTED_DESCRIPTORS}",
    )


def _version(command: list[str]) -> str:
    match = re.search(r"\d+\.\d+[\w.+-]*", _output(command))
    return match[0] if match else "found"


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""
