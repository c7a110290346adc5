"""What a run is asked for is checked as a whole: the shape a target starts in, against what the scenario needs."""

import pytest

from harness.contract.profile import load_profile
from harness.core.errors import UsageError
from harness.run.request import read_request
from harness.run.scenario_file import scenario_paths

REFERENCE = load_profile("reference").start


def problems_of(scenario, tmp_path, **options):
    with pytest.raises(UsageError) as raised:
        read_request(scenario, None, (), None, tmp_path, **options)
    return raised.value.problems


def test_a_preset_reaches_the_command_and_says_what_there_will_be(tmp_path):
    request = read_request("celebrity-cache-kill", None, (), None, tmp_path, preset="x-early")
    start = request.profile.start
    assert start.command[-2:] == ["--preset", "x-early"]
    assert start.regions == ["us-east"]
    assert start.handles
    assert not [name for name in start.handles if "ap-tokyo" in name]
    assert "network" not in start.handles  # there is none within one region


@pytest.mark.parametrize("scenario", scenario_paths())
def test_the_whole_preset_changes_nothing_that_a_scenario_needs(scenario, tmp_path):
    start = read_request(scenario, None, (), None, tmp_path, preset="threads").profile.start
    plain = read_request(scenario, None, (), None, tmp_path).profile.start
    assert (start.regions, start.handles) == (plain.regions, plain.handles)
    assert (start.regions, start.handles[: len(REFERENCE.handles)]) == (REFERENCE.regions, REFERENCE.handles)


def test_a_scenario_that_needs_a_second_region_is_refused_by_name(tmp_path):
    problems = problems_of("region-lag", tmp_path, preset="x-early")
    assert len(problems) == 2
    for problem in problems:
        assert problem.startswith(
            "--preset x-early: scenario region-lag needs more than it has (its regions: us-east): phase["
        )
        assert "'link.*'" in problem


def test_an_expectation_of_a_region_that_is_not_there_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    expectation = '\n"feed_read{region:ap-tokyo}" = ["failures == 0"]\n'
    path.write_text(scenario_paths()["signup-surge"].read_text() + expectation)
    read_request(str(path), None, (), None, tmp_path, preset="threads")
    [problem] = problems_of(str(path), tmp_path, preset="x-early")
    assert "its regions: us-east" in problem
    assert "ap-tokyo" in problem


def test_presets_that_nobody_knows_are_told_beside_every_other_problem(tmp_path):
    problems = problems_of("signup-surge", tmp_path, preset="x-erly", flags=("wrong",))
    assert problems == [
        "--flag wrong: must look like NAME=VALUE",
        "--preset: unknown preset 'x-erly' (did you mean 'x-early'?)",
    ]


def test_flags_that_the_target_cannot_take_are_told_before_it_starts(tmp_path):
    path = tmp_path / "mine.toml"
    text = scenario_paths()["follower-cache"].read_text()
    text = text.replace('"follower_cache_ttl_s=3"', '"follower_cache_ttl_s=0", "two_teir=on"')
    path.write_text(text.replace('"read_filters=off"', '"read_filters=of"'))
    assert problems_of(str(path), tmp_path, flags=("cache_mb=lots", "wall=off")) == [
        "--flag cache_mb=lots: must be a whole number from 8 to 65,536, got 'lots'",
        "--flag wall=off: unknown flag 'wall' (did you mean 'wal'?)",
        "flags: follower_cache_ttl_s=0: must be a whole number from 1 to 86,400, got '0'",
        "flags: two_teir=on: unknown flag 'two_teir' (did you mean 'two_tier'?)",
        "catalogue.fails_with[1].flag: read_filters=of: must be on or off, got 'of' (did you mean 'off'?)",
    ]


def test_a_target_that_is_not_started_has_no_presets(tmp_path):
    path = tmp_path / "far.toml"
    path.write_text('name = "far"\n[regions.eu]\napi = "http://127.0.0.1:1"\n')
    with pytest.raises(UsageError) as raised:
        read_request("signup-surge", str(path), (), None, tmp_path, preset="threads")
    assert raised.value.problems == ["--preset: target far has no presets"]


def test_people_who_join_late_have_to_be_handed_over(tmp_path):
    path = tmp_path / "far.toml"
    path.write_text('name = "far"\n[regions.eu]\napi = "http://127.0.0.1:1"\n[users]\nidentities = "0..N"\n')
    assert read_request("hyper-follower", str(path), (), None, tmp_path)
    with pytest.raises(UsageError) as raised:
        read_request("pending-follow-avalanche", str(path), (), None, tmp_path)
    assert raised.value.problems == [
        "population.late_celebrities: target far is not handed the population at its start",
        "population.newcomers: target far is not handed the population at its start",
    ]


def naming(tmp_path, *faults):
    path = tmp_path / "mine.toml"
    text = scenario_paths()["region-lag"].read_text()
    before, phase, after = text.partition('[[phase]]\nname = "cut"\nduration = "15s"\n')
    assert phase
    path.write_text(before + phase + f"faults = [{', '.join(faults)}]\n" + after.partition("\n")[2])
    return str(path)


def proxies_of(start):
    return [word for flag, word in zip(start.command, start.command[1:], strict=False) if flag == "--proxy"]


def test_links_within_a_region_get_a_proxy_when_a_network_fault_names_them(tmp_path):
    named = naming(
        tmp_path,
        '{ kind = "down", handle = "us-east.api-to-redis-queue", at = "1s", hold = "2s" }',
        '{ kind = "reset", handle = "*.edge-to-api", at = "4s", hold = "2s" }',
        '{ kind = "kill", handle = "us-east.memcached", at = "7s", hold = "2s" }',
    )
    start = read_request(named, None, (), None, tmp_path).profile.start
    wanted = ["ap-tokyo.edge-to-api", "us-east.api-to-redis-queue", "us-east.edge-to-api"]
    assert proxies_of(start) == wanted
    assert set(wanted) < set(start.handles)


def test_no_other_link_gets_one(tmp_path):
    for name, path in scenario_paths().items():
        named = [link for link in REFERENCE.proxies if f'"{link}"' in path.read_text()]
        assert proxies_of(read_request(name, None, (), None, tmp_path).profile.start) == named
    killing = naming(tmp_path, '{ kind = "kill", handle = "us-east.*", at = "1s", hold = "2s" }')
    assert proxies_of(read_request(killing, None, (), None, tmp_path).profile.start) == []


def test_a_link_of_a_region_that_the_preset_leaves_out_is_refused(tmp_path):
    named = naming(tmp_path, '{ kind = "down", handle = "ap-tokyo.edge-to-api", at = "1s", hold = "2s" }')
    assert any("ap-tokyo.edge-to-api" in problem for problem in problems_of(named, tmp_path, preset="x-early"))


def in_one_region(tmp_path, fault):
    """A scenario that fits one region as well as two, with this fault."""
    path = tmp_path / "one.toml"
    killing = '{ kind = "kill", handle = "us-east.memcached", at = "2s", hold = "10s" }'
    text = scenario_paths()["celebrity-cache-kill"].read_text()
    assert killing in text
    path.write_text(text.replace(killing, fault))
    return str(path)


def test_a_pattern_of_links_means_those_of_the_regions_that_the_preset_has(tmp_path):
    named = in_one_region(tmp_path, '{ kind = "down", handle = "*.api-to-memcached", at = "1s", hold = "2s" }')
    start = read_request(named, None, (), None, tmp_path, preset="x-early").profile.start
    assert proxies_of(start) == ["us-east.api-to-memcached"]
    assert [name for name in start.handles if name.endswith("api-to-memcached")] == ["us-east.api-to-memcached"]
    whole = read_request(named, None, (), None, tmp_path, preset="threads").profile.start
    assert proxies_of(whole) == ["ap-tokyo.api-to-memcached", "us-east.api-to-memcached"]


def test_a_fault_on_the_whole_network_needs_two_regions(tmp_path):
    named = in_one_region(
        tmp_path, '{ kind = "isolate", handle = "network", region = "us-east", at = "1s", hold = "2s" }'
    )
    read_request(named, None, (), None, tmp_path, preset="threads")
    [problem] = problems_of(named, tmp_path, preset="x-early")
    assert "phase[1].faults[0].handle: no handle is called 'network'" in problem


def test_a_metric_of_the_target_has_to_fail_only_where_the_scenario_judges_it(tmp_path):
    drops = "target:feed_stream_slow_drops"
    path = tmp_path / "mine.toml"
    text = scenario_paths()["slow-readers"].read_text()
    path.write_text(text)
    read_request(str(path), None, (), None, tmp_path)
    path.write_text(text.replace(f'check = "{drops}"', f'check = "{drops}s"'))
    [problem] = problems_of(str(path), tmp_path)
    assert problem.startswith("catalogue.fails_with[0].check: unknown check")
    assert f"did you mean {drops!r}" in problem
