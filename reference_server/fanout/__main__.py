"""`python -m reference_server.fanout`: one fan-out worker."""

from __future__ import annotations

from reference_server.fanout.worker import Worker
from reference_server.process import Context, run


async def main(context: Context) -> None:
    """Work until stopped."""
    await Worker(context).run()


if __name__ == "__main__":
    run(main)
