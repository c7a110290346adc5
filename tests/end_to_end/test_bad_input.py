"""Bad input gets a clear sentence and the right exit code, all problems at once, and does no damage."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def feedstorm(*words, cwd):
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["run", "celebrity-cache-kil"], 2, "did you mean 'celebrity-cache-kill'?"),
        (["run", "celebrity-cache-kill", "--defect", "lose-after-akc"], 2, "did you mean 'lose-after-ack'?"),
        (
            ["run", "celebrity-cache-kill", "--set", "load.post=1/s"],
            2,
            "load.post: unknown key (did you mean 'posts'?)",
        ),
        (["run", "celebrity-cache-kill", "--set", "load.posts=1/day"], 2, "must be a rate such as 40/s"),
        (["run", "celebrity-cache-kill", "--target", "refrence"], 2, "did you mean 'reference'?"),
        (["run"], 2, "Missing argument 'SCENARIO'"),
        (["rum"], 2, "No such command 'rum'"),
        (["check", "no-such-run"], 2, "no such run directory"),
        (["run", "celebrity-cache-kill", "--set", "phase=5"], 2, "phase: must be a list of tables, got 5"),
        (["run", "celebrity-cache-kill", "--set", "phase.baseline.faults=3"], 2, "faults: must be a list of tables"),
        (["run", "celebrity-cache-kill", "--set", "expect=3"], 2, "expect: must be a table, got 3"),
        (["query", "no-such-run", "select 1"], 2, "no such run directory"),
    ],
)
def test_bad_input_is_a_usage_error_that_names_the_nearest(tmp_path, words, code, sentence):
    done = feedstorm(*words, cwd=tmp_path)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_all_problems_of_a_scenario_come_at_once(tmp_path):
    scenario = tmp_path / "bad.toml"
    scenario.write_text(
        'name = "bad"\nabout = "x"\n[population]\nuser = 5\n[load]\nposts = "40"\n'
        '[[phase]]\nname = "a"\nduration = "5s"\n'
    )
    done = feedstorm("run", str(scenario), "--defect", "nope", cwd=tmp_path)
    assert done.returncode == 2
    for part in ("population.user: unknown key", "load.posts: must be a rate", "--defect: unknown defect 'nope'"):
        assert part in done.stderr


def test_faults_and_expectations_are_checked_before_anything_starts(tmp_path):
    scenario = tmp_path / "bad.toml"
    scenario.write_text(
        'name = "bad"\nabout = "x"\n[[phase]]\nname = "a"\nduration = "5s"\n'
        'faults = [{ kind = "kil", handle = "us-west.memcached", hold = "1s" },'
        ' { kind = "latency", handle = "us-east.memcache", hold = "1s", latency = "4 parsecs" }]\n'
        '[expect]\n"feed_red" = "p(99) <= 1s"\n"feed_read{region:us-wst}" = "p(99) << 1s"\ninvariants = ["durabilty"]\n'
    )
    done = feedstorm("run", str(scenario), cwd=tmp_path)
    assert done.returncode == 2
    for part in ("'kil'", "us-west.memcached", "us-east.memcached", "latency", "feed_red", "us-wst", "durabilty"):
        assert part in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_target_that_does_not_answer_is_exit_4(tmp_path):
    profile = tmp_path / "down.toml"
    profile.write_text(
        'name = "down"\nadapter = "feedstorm-v1"\n[regions.one]\napi = "http://127.0.0.1:9"\nstream = "http://127.0.0.1:9"\n'
    )
    done = feedstorm("conform", "--target", str(profile), cwd=tmp_path)
    assert done.returncode == 4
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_target_on_another_machine_needs_leave(tmp_path):
    profile = tmp_path / "far.toml"
    profile.write_text(
        'name = "far"\nadapter = "feedstorm-v1"\n[regions.one]\napi = "http://192.0.2.1"\nstream = "http://192.0.2.1"\n'
    )
    done = feedstorm("conform", "--target", str(profile), cwd=tmp_path)
    assert done.returncode == 2
    assert "--allow-host 192.0.2.1" in done.stderr


def test_results_as_json_are_alone_on_standard_output(tmp_path):
    import json

    done = feedstorm("scenarios", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert {s["name"] for s in json.loads(done.stdout)} >= {"celebrity-cache-kill", "sse-storm"}


def test_a_run_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    done = feedstorm("run", "celebrity-cache-kill", "--out", str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 2
    assert "is a file" in done.stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_a_run_that_ended_early_cannot_be_judged_and_says_so(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "scenario.json").write_text("{}")
    done = feedstorm("check", str(tmp_path / "run"), cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing to judge" in done.stderr


def test_identities_that_are_not_free_are_not_used(tmp_path):
    profile = tmp_path / "shared.toml"
    base = 'name = "shared"\n[regions.one]\napi = "http://127.0.0.1:9"\nstream = "http://127.0.0.1:9"\n'
    for identities, sentence in (("5000..9000", "must begin at 0"), ("0..50", "leaves 50 identities")):
        profile.write_text(base + f'[users]\nidentities = "{identities}"\n')
        done = feedstorm("run", "celebrity-cache-kill", "--target", str(profile), cwd=tmp_path)
        assert done.returncode == 2
        assert sentence in done.stderr
