"""`feedstorm selftest` end to end: a handful of defects are caught in one run; the whole matrix is for the night."""

import json
import signal
import subprocess
import sys

import pytest
from killed_cache_run import ROOT, processes_of
from small_runs import wait_until

from harness.selftest.catalogue import PLANTED

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(180)]
HANDFUL = ("skip-notify", "key-forgotten", "reply-before-parent", "unordered-page", "foreign-cursor")
"""for checkers that do not mind a busy machine"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "selftest", *words]


def test_a_handful_of_defects_is_caught_each_by_its_checker(tmp_path):
    out = tmp_path / "selftest"
    words = command("--only", "+".join(HANDFUL), "--json", "--out", str(out))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=150, check=False)
    lines = {line["defect"]: line["result"] for line in json.loads(done.stdout)["lines"]}
    assert lines == dict.fromkeys(HANDFUL, "caught"), done.stderr.decode()
    assert done.returncode == 0
    for name in ("matrix.json", "selftest.html", "detection.md"):
        assert (out / name).stat().st_size > 0
    assert (out / f"01-{'+'.join(HANDFUL)}" / "report.html").exists()
    assert processes_of(str(out)) == []


def test_ctrl_c_undoes_and_tells_what_is_known(tmp_path):
    out = tmp_path / "selftest"
    process = subprocess.Popen(
        command("--only", "no-wal", "--json", "--out", str(out)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    started = out / "01-no-wal" / "phases.json"
    wait_until(lambda: started.exists() or process.poll() is not None, 90, "the run is under way")
    process.send_signal(signal.SIGINT)
    told, said = process.communicate(timeout=60)
    assert process.returncode == 130, said.decode()
    assert json.loads(told)["verdict"] == "inconclusive"
    assert b"Traceback" not in said
    wait_until(lambda: processes_of(str(out)) == [], 20, "no process is left")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--only", "no-wall"], "did you mean 'no-wal'?"),
        (["--quick", "--only", "no-wal"], "--quick, --only: choose one"),
    ],
)
def test_a_wrong_choice_is_exit_2(words, what, tmp_path):
    done = subprocess.run(command(*words), cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode, what in done.stderr.decode()) == (2, True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.nightly
@pytest.mark.timeout(3 * 3600)
def test_every_defect_is_caught_and_no_clean_run_flagged(tmp_path):
    words = command("--json", "--out", str(tmp_path / "selftest"))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=3 * 3600, check=False)
    lines = json.loads(done.stdout)["lines"]
    bad = {
        line["defect"] or line["trouble"]: line["says"] for line in lines if line["result"] not in ("caught", "clean")
    }
    assert (done.returncode, bad) == (0, {}), done.stderr.decode()[-2000:]
    assert {line["defect"] for line in lines} == {"", *(entry.defect for entry in PLANTED)}
