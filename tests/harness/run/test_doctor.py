"""The doctor names what is missing and the exact command that fixes it."""

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
