"""Runs faults in a process of its own, for tests that end it.

usage: run_faults.py FOLDER [atexit]
FOLDER/faults.json holds {"handles": ..., "faults": [DueFault without due_ns]}. With "atexit", SIGTERM leaves the loop
at once and the undo is left to atexit.
"""

import asyncio
import atexit
import signal
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path.cwd()))

from chaos.schedule import FaultRunner
from chaos.timeline import DueFault
from harness.core.clock import now_ns


async def main(folder: Path) -> None:
    plan = msgspec.json.decode((folder / "faults.json").read_bytes())
    runner = FaultRunner(plan["handles"], folder / "ledger.jsonl", folder / "faults.jsonl")
    if "atexit" in sys.argv:
        atexit.register(runner.undo_all)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: (_ for _ in ()).throw(SystemExit(3)))
    faults = [msgspec.convert({**f, "due_ns": now_ns()}, DueFault) for f in plan["faults"]]
    await runner.run(faults)


asyncio.run(main(Path(sys.argv[1])))
