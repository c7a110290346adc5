"""Finds the programs the stack is made of that are not Python, or says how to get them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_FIX = {
    "memcached": "apt-get install memcached",
    "redis-server": "apt-get install redis-server",
}
_ROOT = Path(__file__).resolve().parents[2]
TOXIPROXY_ENV = "FEEDSTORM_TOXIPROXY"
HAPROXY_ENV = "FEEDSTORM_HAPROXY"


class StackRefused(Exception):
    """What was asked for makes no sense. The message names the option and what is wrong."""


class StackUnavailable(Exception):
    """The stack cannot be brought up. The message is one sentence and the fix."""


def find_program(name: str) -> str:
    """Path of a needed program. Raises StackUnavailable."""
    found = shutil.which(name)
    if found is None:
        raise StackUnavailable(f"{name} is not installed; install it with: {_FIX[name]}")
    return found


def find_toxiproxy() -> str | None:
    """Path of toxiproxy-server: $FEEDSTORM_TOXIPROXY, then PATH, then `.tools/bin`; None: links will be direct.

    The variable may say "none". Raises StackUnavailable when the variable names no program.
    """
    named = _named(TOXIPROXY_ENV)
    if named is not None:
        return named or None
    found = shutil.which("toxiproxy-server")
    if found is not None:
        return found
    for root in (Path.cwd(), _ROOT):
        for name in ("toxiproxy-server", "server"):
            candidate = root / ".tools" / "bin" / name
            if os.access(candidate, os.X_OK):
                return str(candidate)
    return None


def find_haproxy() -> str | None:
    """Path of haproxy: $FEEDSTORM_HAPROXY, then PATH, then /usr/sbin; None: regions have no edge proxy.

    The variable may say "none". Raises StackUnavailable when the variable names no program.
    """
    named = _named(HAPROXY_ENV)
    if named is not None:
        return named or None
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


def _named(variable: str) -> str | None:
    """The program that an environment variable names; "" when it says "none", None when it is not set."""
    named = os.environ.get(variable)
    if not named:
        return None
    if named == "none":
        return ""
    if not os.access(named, os.X_OK):
        raise StackUnavailable(f"{variable} names {named}, which is no program; correct or unset it")
    return named
