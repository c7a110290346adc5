"""Holds the write lock of an SQLite file: for ever, or `locked_s` of every `locked_s` + `free_s` seconds.

Writers wait meanwhile. Readers do too, but for a file in WAL mode, where SQLite lets them read on. The lock goes with
this process, however it ends; nothing is ever written.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import time

from chaos.children.lease import begin, say_ready

PATIENCE_S = 5.0
"""how long it waits for a writer of the target to finish"""


def main() -> None:
    """See the module."""
    job = begin()
    db = sqlite3.connect(job["uri"], uri=True, isolation_level=None, timeout=PATIENCE_S)
    db.execute("BEGIN EXCLUSIVE")
    say_ready()
    while job["free_s"] == 0:
        signal.pause()
    while True:
        time.sleep(job["locked_s"])
        db.execute("ROLLBACK")
        time.sleep(job["free_s"])
        while not db.in_transaction:
            with contextlib.suppress(sqlite3.OperationalError):  # the target writes for longer than our patience
                db.execute("BEGIN EXCLUSIVE")


if __name__ == "__main__":
    main()
