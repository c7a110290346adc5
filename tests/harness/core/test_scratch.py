"""Folders of work under way: gone afterwards, also those of killed processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.scratch import FRESH_S, scratch_folder

HOLD = """
import sys
from pathlib import Path
from harness.core.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), ".work-") as folder:
    (folder / "table").write_text("rows")
    print(folder, flush=True)
    sys.stdin.read()
"""


def age(folder: Path) -> None:
    """As if nothing had been made in it for a while."""
    then = folder.stat().st_mtime - 2 * FRESH_S
    os.utime(folder, (then, then))


def test_it_is_gone_afterwards_also_after_an_error(tmp_path):
    with scratch_folder(tmp_path, ".work-") as folder:
        (folder / "table").write_text("rows")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="bad"), scratch_folder(tmp_path, ".work-"):
        raise ValueError("bad")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        age(theirs)
        with scratch_folder(tmp_path, ".work-"):
            assert (theirs / "table").exists()
        process.send_signal(signal.SIGKILL)
    age(theirs)
    with scratch_folder(tmp_path, ".work-"):
        assert not theirs.exists()


def test_fresh_folders_other_names_and_files_stay(tmp_path):
    for name in (".work-new", ".other-old"):
        (tmp_path / name).mkdir()
    (tmp_path / ".work-file").touch()
    age(tmp_path / ".other-old")
    age(tmp_path / ".work-file")
    with scratch_folder(tmp_path, ".work-"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {".work-new", ".other-old", ".work-file"}
