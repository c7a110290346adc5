"""The doctor names what is missing and the exact command that fixes it."""

import pytest

from harness.run import doctor


def test_every_finding_tells_what_it_is_needed_for():
    findings = {f.name: f for f in doctor.examine()}
    assert {"memcached", "redis-server", "toxiproxy-server", "haproxy", "docker", "open files"} <= findings.keys()
    assert all(f.needed_for for f in findings.values())
    assert all(f.fix for f in findings.values() if not f.found)


def test_a_missing_program_comes_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(doctor, "find_program", lambda name: None)
    memcached = next(f for f in doctor.examine() if f.name == "memcached")
    assert not memcached.found
    assert memcached.required
    assert memcached.fix.endswith("apt-get install -y memcached")


@pytest.mark.parametrize(
    ("installed", "detail", "fix"),
    [
        ((), "not found", "apt-get install -y docker.io"),
        (("docker",), "the client alone, no engine", "apt-get install -y docker.io"),
        (
            ("docker", "dockerd"),
            "installed, but no engine answers (the tests start their own)",
            "systemctl start docker",
        ),
    ],
)
def test_docker_without_an_engine_comes_with_the_command_that_gives_one(monkeypatch, installed, detail, fix):
    monkeypatch.setattr(doctor, "find_program", lambda name: "/bin/false" if name in installed else None)
    docker = next(f for f in doctor.examine() if f.name == "docker")
    assert not docker.found
    assert not docker.required
    assert docker.detail == detail
    assert fix in docker.fix
