"""Scenario files are found by name or path, and `--set` reaches every key."""

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.run.scenario_file import find_scenario, load_scenario, override


def scenario_text() -> str:
    return 'name = "x"\nabout = "y"\n[load]\nposts = "1/s"\n[[phase]]\nname = "a"\nduration = "1s"\n'


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text(scenario_text())
    return str(file)


def test_overrides_are_toml_values_or_plain_text(path):
    scenario = load_scenario(path, ["load.posts=80/s", "population.users=300", "phase.a.duration=5s"], seed=7)
    assert scenario.load.posts_per_s == 80
    assert scenario.population.users == 300
    assert scenario.phases[0].duration_s == 5
    assert scenario.seed == 7


def test_more_listeners_than_users_who_may_listen_are_refused_wherever_they_are_asked_for(path):
    crowd = scenario_text() + "[population]\nusers = 100\ncelebrities = [9, 5]\nlisteners = 98\n"
    Path(path).write_text(crowd)
    assert load_scenario(path).population.listeners == 98
    with pytest.raises(UsageError, match=r"listeners: must be <= 98, .* \(100 users - 2 celebrities\), got 99"):
        load_scenario(path, ["population.listeners=99"])
    with pytest.raises(UsageError, match=r"listeners: must be <= 48, .* \(50 users - 2 celebrities\), got 49"):
        load_scenario(path, scale=0.5)


def test_an_override_of_an_unknown_key_names_the_nearest(path):
    with pytest.raises(UsageError, match=r"load\.post: unknown key \(did you mean 'posts'\?\)"):
        load_scenario(path, ["load.post=80/s"])


def test_every_malformed_override_is_reported():
    with pytest.raises(UsageError) as error:
        override({"phase": [{"name": "a"}], "seed": 1}, ["nonsense", "phase.b.duration=1s", "seed.x=1"])
    assert error.value.problems == [
        "--set nonsense: must look like load.posts=80/s",
        "--set phase.b.duration: no phase is called 'b' (valid: a)",
        "--set seed.x: seed is not a table",
    ]


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UsageError, match="unknown"):
        find_scenario("celebrity-cache-kil")


def test_a_file_that_is_no_scenario_is_told_from_one_that_is_missing(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"notes\.txt: is no \.toml file"):
        find_scenario(str(tmp_path / "notes.txt"))
    with pytest.raises(UsageError, match=r"other\.toml: no such file"):
        find_scenario(str(tmp_path / "other.toml"))


def test_broken_toml_is_a_usage_error_with_its_place(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("name = \n")
    with pytest.raises(UsageError, match="line 1"):
        load_scenario(str(file))
