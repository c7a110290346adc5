"""`python -m reference_server.fanout`: one fan-out worker."""

from __future__ import annotations

import gc

from reference_server.fanout.worker import Worker
from reference_server.process import Context, run


async def main(context: Context) -> None:
    """Work until stopped; a worker that was overtaken by the flag `wal` is followed by the next one."""
    while not context.stopping.is_set():
        await Worker(context).run()
        gc.unfreeze()  # what the worker before had frozen, whole indexes, can be let go of


if __name__ == "__main__":
    run(main)
