import re
from pathlib import Path

import msgspec
import pytest

from harness.contract.profile import Profile, RegionUrls, load_profile, require_loopback, with_endpoints
from harness.core.errors import UsageError

ENDPOINTS = {
    "regions": {"us-east": {"api": "http://127.0.0.1:1/", "stream": "http://127.0.0.1:2"}},
    "handles": {"us-east.memcached": {"backend": "process", "pid_file": "/tmp/x", "ready": "tcp://127.0.0.1:3"}},
    "missing": ["toxiproxy"],
    "supervisor_pid": 7,
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def problems_of(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(UsageError) as raised:
        load_profile(written(tmp_path, text))
    return [problem.removeprefix("target mine: ") for problem in raised.value.problems]


def test_the_reference_profile_ships_and_starts_itself():
    profile = load_profile("reference")
    assert profile.start is not None
    assert profile.start.command[1:4] == ["-m", "reference_server", "up"]
    assert profile.start.options == ["defect", "flag"]
    assert profile.slo.convergence_s == 15
    assert profile.users.numbers(200) == range(200)
    assert profile.users.identity_of(42) == "42"


def test_a_fixed_target_needs_no_start(tmp_path):
    text = 'name = "x"\n[regions.eu]\napi = "https://feed.example:8443/"\n'
    text += '[users]\nidentities = "10..20"\nidentity = "test-{number}"'
    profile = load_profile(written(tmp_path, text))
    assert profile.regions == {"eu": RegionUrls(api="https://feed.example:8443", stream="https://feed.example:8443")}
    assert list(profile.users.numbers(5)) == list(range(10, 20))
    assert profile.users.identity_of(11) == "test-11"


def test_every_problem_is_told_at_once_with_its_path_and_the_nearest_name(tmp_path):
    text = """
nam = "x"
adapter = "mastodon"
[users]
identities = "9..3"
[start]
command = ["{pyton}"]
ready_timeout = "soon"
presets = { small = [] }
options = ["flags"]
[capabilities]
steam = "sse"
resume = "yes"
[slo]
convergence = "0s"
[handles.cache]
backend = "process"
[regions.eu]
stream = "ftp://x"
"""
    told = "\n".join(problems_of(tmp_path, text))
    for expected in (
        "name: is required",
        "nam: unknown key (did you mean 'name'?)",
        "adapter: must be one of feedstorm-v1, got 'mastodon'",
        "users.identities: must not be empty",
        "start.command: unknown placeholder {pyton} (did you mean 'python'?)",
        "start.ready_timeout: must be a duration",
        "start.presets: small must have at least one region",
        "start.options: must be one of defect, flag, got 'flags' (did you mean 'flag'?)",
        "capabilities.steam: unknown key (did you mean 'stream'?)",
        "capabilities.resume: must be true or false",
        "slo.convergence: must be longer than 0",
        "handles.cache.pid_file: is required",
        "regions.eu.api: is required",
        "regions.eu.stream: must be a base URL",
    ):
        assert expected in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name = "x"', "regions: a target without [start] must name at least one region"),
        ('name = "x"\nregions = 3', "regions: must be a table"),
        ('name = "x"\n[handles]\ncache = "memcached"\n[start]\ncommand = ["x"]', "handles.cache: must be a table"),
        ('name = "x"\n[start]\ncommand = []', "start.command: must name a program"),
        ('name = "x"\n[start]\ncommand = ["x"]\npresets = 3', "start.presets: must be a table of regions by preset"),
        ('name = "x"\n[start]\ncommand = ["{"]', "start.command: "),
        ("name = ", "not TOML"),
    ],
)
def test_one_problem(tmp_path, text, expected):
    assert any(expected in problem for problem in problems_of(tmp_path, text))


def test_the_folder_of_the_profile_is_known_to_its_command(tmp_path):
    folder = tmp_path / "a{b}c"
    folder.mkdir()
    start = load_profile(written(folder, 'name = "x"\n[start]\ncommand = ["{profile_dir}/server"]')).start
    assert start is not None
    assert start.command[0].format() == f"{folder}/server"


@pytest.mark.parametrize("name", ["referense", "nothing/here.toml"])
def test_a_profile_that_is_not_there(name):
    with pytest.raises(UsageError, match=re.escape(name)):
        load_profile(name)


def test_endpoints_fill_in_addresses_and_handles():
    profile = with_endpoints(load_profile("reference"), ENDPOINTS)
    assert profile.regions["us-east"].api == "http://127.0.0.1:1"
    assert profile.handles["us-east.memcached"]["pid_file"] == "/tmp/x"
    assert profile.missing == ["toxiproxy"]


def test_endpoints_may_tell_more():
    region = ENDPOINTS["regions"]["us-east"]
    told = {"edge": "https://127.0.0.1:4/", "apis": ["http://127.0.0.1:1"], "metrics": {"graph": "http://127.0.0.1:5"}}
    files = {"operator_token_file": "/tmp/token", "ca_file": "/tmp/ca.pem", "something": 1}
    profile = with_endpoints(load_profile("reference"), {**ENDPOINTS, **files, "regions": {"us-east": region | told}})
    assert profile.regions["us-east"].edge == "https://127.0.0.1:4"
    assert (profile.operator_token_file, profile.ca_file) == ("/tmp/token", "/tmp/ca.pem")
    profile = with_endpoints(load_profile("reference"), {**ENDPOINTS, "regions": {"us-east": region | {"edge": ""}}})
    assert profile.regions["us-east"].edge == ""


def test_malformed_endpoints_are_refused():
    with pytest.raises(UsageError) as raised:
        with_endpoints(
            load_profile("reference"),
            {"regions": {}, "handles": {"x": {"backend": "spell"}}, "missing": 3, "ca_file": 3},
        )
    assert len(raised.value.problems) == 4


def test_a_profile_survives_its_json_form():
    profile = with_endpoints(load_profile("reference"), ENDPOINTS)
    encoded = msgspec.json.encode(profile)
    assert msgspec.json.decode(encoded, type=Profile) == profile
    assert b'"import":true' in encoded


def test_loopback_is_allowed():
    require_loopback(with_endpoints(load_profile("reference"), ENDPOINTS))
    require_loopback(Profile(name="x", regions={"a": RegionUrls(api="http://[::1]:1", stream="http://localhost:2")}))


def test_other_machines_must_be_named():
    profile = Profile(
        name="x",
        regions={"a": RegionUrls(api="http://10.0.0.1:1", stream="http://127.0.0.1:2")},
        handles={
            "link": {"backend": "toxiproxy", "api": "http://far.example:8474", "proxy": "p"},
            "cache": {"backend": "process", "pid_file": "/x", "memcached": ["10.0.0.2:11211"]},
        },
    )
    with pytest.raises(UsageError) as raised:
        require_loopback(profile, ["10.0.0.2"])
    assert raised.value.problems == [
        "regions.a.api: 10.0.0.1 is not this machine; allow it with --allow-host 10.0.0.1",
        "handles.link.api: far.example is not this machine; allow it with --allow-host far.example",
    ]
    require_loopback(profile, ["10.0.0.1", "10.0.0.2", "far.example"])
