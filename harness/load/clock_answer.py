"""How a load process tells the harness its time; `harness.record.clocks` works out the offset."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from harness.core.clock import now_ns
from harness.record.clocks import clock_name


def answer_clock(order: dict[str, Any], received_ns: int) -> None:
    """Print the answer to a command {"cmd": "clock", "sent_ns": N} that was received at `received_ns`."""
    answer = {"machine": clock_name(), "sent_ns": int(order["sent_ns"]), "received_ns": received_ns}
    answer["replied_ns"] = now_ns()
    sys.stdout.write(msgspec.json.encode({"clock": answer}).decode() + "\n")
    sys.stdout.flush()
