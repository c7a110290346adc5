"""How an api process is started. For the supervisor."""

from __future__ import annotations

import sys
from pathlib import Path

from reference_server.settings import Settings

APP = "reference_server.api.app:app"
LEADER = "FEEDSTORM_API_LEADER"
"""environment variable with the pid of granian's main process, for its worker"""
CONNECTIONS = 4096
"""open connections (granian's --backpressure counts those, not requests); further ones wait in the kernel, as many"""
HEAD_BYTES = 16_384
"""of a request line with its headers; more is answered 431"""
HEAD_TIMEOUT_MS = 30_000
"""for the headers of a request to arrive, and for the next request of a connection to begin"""


def api_command(settings_path: str | Path, settings: Settings, region: str, k: int) -> tuple[list[str], dict[str, str]]:
    """argv and additional environment of api `k` of a region: one granian worker on its port.

    The process ends with its parent, on SIGTERM (requests under way are finished), and with its worker.
    """
    name = f"api-{k}"
    environment = {
        "FEEDSTORM_SETTINGS": str(settings_path),
        "FEEDSTORM_REGION": region,
        "FEEDSTORM_NAME": name,
    }
    arguments = ["--settings", str(settings_path), "--region", region, "--name", name]
    return [sys.executable, "-m", "reference_server.api", *arguments], environment


def granian_command(port: int) -> list[str]:
    """The server itself, as `__main__` replaces itself with it."""
    options = ["--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    options += ["--loop", "uvloop", "--runtime-mode", "st", "--no-ws", "--no-access-log", "--log-level", "warning"]
    options += ["--backpressure", str(CONNECTIONS), "--backlog", str(CONNECTIONS), "--workers-kill-timeout", "3"]
    # With HTTP/2 allowed, granian waits for ever for the first byte of a connection, to tell the two apart.
    options += ["--http", "1", "--http1-buffer-size", str(HEAD_BYTES)]
    options += ["--http1-header-read-timeout", str(HEAD_TIMEOUT_MS)]
    return [sys.executable, "-m", "granian", *options, APP]
