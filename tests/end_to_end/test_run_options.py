"""`feedstorm run` on other stacks and graphs than the usual: what is told does not hang on how busy the machine is."""

import json
import os
import subprocess

import pytest
from small_runs import ROOT, checks, command, phase, write_scenario

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(180)]
EXPECT = """
[expect]
"invariants" = ["durability", "order", "no_phantom"]
"""


@pytest.fixture
def scenario(tmp_path):
    return write_scenario(tmp_path, phase("calm", 5), expect=EXPECT)


def run(scenario, out, *words, env=None):
    return subprocess.run(
        command("run", scenario, "--out", out, *words), cwd=ROOT, env=env, capture_output=True, timeout=150, check=False
    )


def verdicts(out) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in checks(out, "")}


def test_a_planted_defect_is_exit_1_and_names_the_invariant(scenario, tmp_path):
    """Each 50th post of an api is lost, each 10th page has two neighbours swapped."""
    out = tmp_path / "run"
    planted = ("--defect", "unordered-page", "--defect", "lose-after-ack", "--set", "load.posts=40/s")
    done = run(scenario, out, *planted)
    assert done.returncode == 1, done.stderr.decode()
    found = verdicts(out)
    assert [found[name] for name in ("order", "durability", "no_phantom")] == ["fail", "fail", "pass"]


def test_a_missing_toxiproxy_is_said(scenario, tmp_path):
    done = run(scenario, tmp_path / "run", env=os.environ | {"FEEDSTORM_TOXIPROXY": "none"})
    assert done.returncode in (0, 3), done.stderr.decode()  # 3: a busy machine
    assert b"without toxiproxy" in done.stderr


def test_a_real_edge_list_is_the_population(scenario, tmp_path):
    edges = tmp_path / "edges.txt"
    edges.write_text("# SNAP\n" + "".join(f"{u}\t{(u * 7 + k) % 120}\n" for u in range(120) for k in range(1, 9)))
    done = run(scenario, tmp_path / "run", "--set", f"population.graph=edges:{edges}")
    assert "fail" not in verdicts(tmp_path / "run").values(), done.stderr.decode()
    resolved = json.loads((tmp_path / "run" / "scenario.json").read_text())
    assert resolved["population"]["users"] == 120
