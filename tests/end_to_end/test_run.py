"""`feedstorm run` end to end: a verdict on a clean stack and on a foreign target, and nothing left behind."""

import json
import subprocess

import pytest
from killed_cache_run import KILLED_CACHE, ROOT, processes_of, run_command

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(180)]


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(KILLED_CACHE.format(fault=6, hold=3))
    return path


def verdict_of(out) -> dict:
    return json.loads((out / "verdict.json").read_text())


def test_a_clean_stack_passes_and_leaves_a_whole_run_directory(scenario, tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(run_command(scenario, out, "--json"), cwd=ROOT, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["verdict"] == "pass"
    for name in ("verdict.json", "report.html", "junit.xml", "summary.md", "faults.jsonl", "manifest.json"):
        assert (out / name).stat().st_size > 0
    assert not (out / "stack").exists()
    assert not (out / "tokens.json").exists()
    assert processes_of(str(out)) == []


def test_a_preset_of_one_region_is_run_with_what_there_is_and_judged_by_it(scenario, tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(
        run_command(scenario, out, "--preset", "x-early"), cwd=ROOT, capture_output=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    skipped = {c["name"]: c["reason"] for c in verdict_of(out)["checks"] if c.get("skipped")}
    assert {skipped[name] for name in ("cross_region", "convergence")} == {"skipped: target reference has one region"}
    assert list(json.loads((out / "target.json").read_text())["regions"]) == ["us-east"]


def test_a_target_without_handles_is_judged_and_what_it_lacks_is_skipped_by_name(scenario, tmp_path):
    out = tmp_path / "run"
    words = run_command(scenario, out, "--target", "tests/conformance/memory_feed.toml")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()
    skipped = {c["name"]: c["reason"] for c in verdict_of(out)["checks"] if c.get("skipped")}
    assert {"cross_region", "convergence", "witness"} <= skipped.keys()
    assert all("target" in skipped[name] for name in ("cross_region", "witness"))
