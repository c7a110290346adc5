"""What recording costs: the request rate of our Locust users against plain FastHttpUsers, in the same process.

Both make the same requests to the same server, which runs on the other core, in stretches of one second of processor
time in turn. Plain users throw the answer away; ours decode it, take each item of it to the history, keep histograms
and what is shown meanwhile. The mix of requests, and how much of a page was not seen before, are those of a run. The
rate of ours with nothing recorded tells the recorder's own part.
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

from benchmarks._lane import machine, printed

TARGET_RATIO = 0.8
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


def measure(*classes: str) -> dict[str, Any]:
    """What the users tell: the rates of those classes for each round; failures; rows."""
    port = free_port()
    server = [sys.executable, "-m", "benchmarks._page_server", str(port)]
    with (
        tempfile.TemporaryDirectory(prefix="recorder-bench-") as folder,
        subprocess.Popen(server, stdin=subprocess.PIPE, preexec_fn=on_core(0)) as process,
    ):
        wait_port(port)
        users = [sys.executable, "-m", "benchmarks._recorder_users", str(port), f"{folder}/run", *classes]
        done = subprocess.run(users, stdout=subprocess.PIPE, check=True, preexec_fn=on_core(1))
        process.stdin.close()  # type: ignore[union-attr]
    return msgspec.json.decode(done.stdout, type=dict[str, Any])


def compared(benchmark: str, target: float, told: dict[str, Any], load: float) -> dict[str, Any]:
    """The result of a benchmark: rate of the second class of users over that of the first, round by round."""
    plain, ours, *_ = zip(*told["rounds"], strict=True)
    ratios = sorted(our / other for our, other in zip(ours, plain, strict=True))
    ratio = round(statistics.median(ratios), 3)
    return {
        "benchmark": benchmark,
        "ratio": ratio,
        "target": target,
        "ok": ratio >= target and told["failures"] == 0,
        "details": {
            "ratios": [round(one, 2) for one in ratios],
            "plain_per_s": round(statistics.median(plain)),
            "ours_per_s": round(statistics.median(ours)),
            "failures": told["failures"],
            "load_before": round(load, 2),
        },
        "machine": machine(),
    }


def main() -> int:
    """Measure and print one JSON line."""
    load = os.getloadavg()[0]
    told = measure("PlainUser", "OurUser", "UnrecordedUser")
    result = compared("recorder", TARGET_RATIO, told, load)
    _, ours, unrecorded = zip(*told["rounds"], strict=True)
    result["details"] |= {
        "unrecorded_per_s": round(statistics.median(unrecorded)),
        "recording_ratio": round(statistics.median(a / b for a, b in zip(ours, unrecorded, strict=True)), 3),
        "rows": told["rows"],
    }
    return printed(result)


if __name__ == "__main__":
    sys.exit(main())
