"""A supervisor as small as can be, for chaos tests: keeps one process group alive unless its hold file exists.

usage: stub_supervisor.py PID_FILE HOLD_FILE WRAPPER_FILE COMMAND...   (ends its child when its standard input closes)
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

RESTART_AFTER_S = 0.1


def main() -> None:
    pid_file, hold_file, wrapper_file, *command = sys.argv[1:]
    child = None
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        if child is not None and child.poll() is None:
            continue
        if child is not None:
            time.sleep(RESTART_AFTER_S)
        if Path(hold_file).exists():
            continue
        wrapper = json.loads(Path(wrapper_file).read_text()) if Path(wrapper_file).exists() else []
        child = subprocess.Popen([*wrapper, *command], start_new_session=True)
        start_time = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        draft = Path(pid_file + ".draft")
        draft.write_text(f"{child.pid} {start_time}\n")
        draft.replace(pid_file)
    if child is not None and child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


main()
