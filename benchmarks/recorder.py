"""What recording costs: the request rate of our Locust users against plain FastHttpUsers, in the same process.

Both make the same request to the same server, which runs on the other core, in stretches of two seconds in turn. Plain
users throw the answer away; ours decode it, take each item of it to the history, keep histograms and what is shown
meanwhile. Counted is the mix of a run: of ten requests four pages of 50 items, four of 5, two posts.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import msgspec

from benchmarks._lane import machine

TARGET_RATIO = 0.8
ASKED = {"page of 50": 50, "page of 5": 5, "post": 0}
MIX = {"page of 50": 0.4, "page of 5": 0.4, "post": 0.2}
START_LIMIT_S = 20.0


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_port(port: int) -> None:
    """Wait until something listens. Raises TimeoutError."""
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on port {port}") from None
            time.sleep(0.02)
        else:
            return


def on_core(core: int) -> Any:
    """Keeps a child on a core, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    return lambda: os.sched_setaffinity(0, {cores[core % len(cores)]})


def measure(limit: int) -> dict[str, Any]:
    """One request: rates of both, median of the ratios of the pairs."""
    port = free_port()
    server = [sys.executable, "-m", "benchmarks._page_server", str(port)]
    with (
        tempfile.TemporaryDirectory(prefix="recorder-bench-") as folder,
        subprocess.Popen(server, stdin=subprocess.PIPE, preexec_fn=on_core(0)) as process,
    ):
        wait_port(port)
        users = [sys.executable, "-m", "benchmarks._recorder_users", str(port), f"{folder}/run", str(limit)]
        done = subprocess.run(users, stdout=subprocess.PIPE, check=True, preexec_fn=on_core(1))
        process.stdin.close()  # type: ignore[union-attr]
    told = msgspec.json.decode(done.stdout)
    return {
        "ratio": round(statistics.median(ours / plain for plain, ours in told["pairs"]), 3),
        "plain_per_s": round(statistics.median(plain for plain, _ in told["pairs"])),
        "ours_per_s": round(statistics.median(ours for _, ours in told["pairs"])),
        "failures": told["failures"],
    }


def main() -> int:
    """Measure and print one JSON line."""
    load = os.getloadavg()[0]
    found = {name: measure(limit) for name, limit in ASKED.items()}
    plain_s, ours_s = (sum(MIX[n] / one[key] for n, one in found.items()) for key in ("plain_per_s", "ours_per_s"))
    ratio = round(plain_s / ours_s, 3)
    failures = sum(one["failures"] for one in found.values())
    result: dict[str, Any] = {
        "benchmark": "recorder",
        "ratio": ratio,
        "target": TARGET_RATIO,
        "ok": ratio >= TARGET_RATIO and failures == 0,
        "details": {**found, "load_before": round(load, 2)},
        "machine": machine(),
    }
    print(msgspec.json.encode(result).decode())
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
