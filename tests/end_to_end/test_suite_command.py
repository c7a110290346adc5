"""`feedstorm suite` end to end: a clean run passes, one with its defect is caught, one that cannot be made is told."""

import json
import os
import signal
import subprocess
import xml.etree.ElementTree as ET

import pytest
from killed_cache_run import ROOT, processes_of
from small_runs import EXPECT, LOAD, command, phase, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(300)]
TOLD = """
[catalogue]
story = "s"
real = "r"
ratios = "k"
fails_with = [{ defect = "lose-after-ack", check = "durability" }]
"""


def write(folder, name, *phases):
    path = folder / f"{name}.toml"
    path.write_text(LOAD.replace('"small"', f'"{name}"') + TOLD + "".join(phases) + EXPECT)
    return path


def test_a_suite_proves_itself_and_tells_what_it_could_not_run(tmp_path):
    small = write(tmp_path, "small", phase("only", 10))
    link = '{ kind = "down", handle = "link.us-east.ap-tokyo", at = "1s", hold = "1s" }'
    unable = write(tmp_path, "unable", phase("only", 4, link))
    out = tmp_path / "suite"
    words = ["suite", small, unable, "--prove", "--scale", "0.8", "--set", "load.posts=20/s", "--out", out, "--json"]
    environment = os.environ | {"FEEDSTORM_TOXIPROXY": "none"}
    done = subprocess.run(
        command(*words), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 4, done.stderr
    told = json.loads(done.stdout)
    found = {(run["scenario"], run["planted"]): run["outcome"] for run in told["suite"]["runs"]}
    assert found == {
        ("small", ""): "pass",
        ("small", "--defect lose-after-ack"): "pass",
        ("unable", ""): None,
        ("unable", "--defect lose-after-ack"): None,
    }, done.stderr
    assert "scenario unable needs toxiproxy" in done.stderr
    names = [suite.get("name") for suite in ET.fromstring((out / "junit.xml").read_bytes())]
    assert names == ["small", "small --defect lose-after-ack", "unable", "unable --defect lose-after-ack"]
    assert json.loads((out / "01-small" / "scenario.json").read_text())["population"]["users"] == 240
    assert (out / "01-small" / "report.html").exists()
    assert processes_of(str(out)) == []


def test_ctrl_c_undoes_and_tells_what_was_done(tmp_path):
    small = write(tmp_path, "small", phase("only", 60))
    out = tmp_path / "suite"
    process = subprocess.Popen(
        command("suite", small, "--out", out, "--json"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    started = out / "01-small" / "phases.json"
    wait_until(lambda: started.exists() or process.poll() is not None, 90, "the run is under way")
    process.send_signal(signal.SIGINT)
    told, said = process.communicate(timeout=60)
    assert process.returncode == 130, said.decode()
    answer = json.loads(told)
    assert answer["verdict"] == "inconclusive"
    assert answer["summary"] == "0 of 0 scenarios passed, in 0 s; 1 run was not made: interrupted."
    assert b"Traceback" not in said
    wait_until(lambda: processes_of(str(out)) == [], 20, "no process is left")
