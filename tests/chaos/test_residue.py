"""What a fault left behind is found, and what the target does by itself is not taken for it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest
from chaos_targets import Target, free_port, wait_for

from chaos.marks import new_mark
from chaos.residue import observe, residue
from chaos.toxiproxy import Toxic

pytestmark = pytest.mark.slow


def differences(before: dict[str, dict[str, str]], target: Target, marks: Collection[str] = ()) -> list[str]:
    return residue(before, target.handles, marks, settle_s=0.0)


def test_stopped_processes_hold_files_and_limits(service: Target) -> None:
    before = observe(service.handles)
    assert differences(before, service) == []
    pid = service.leader.identity.pid
    os.kill(pid, signal.SIGSTOP)
    Path(service.handle["hold_file"]).touch()
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft - 1, hard))
    wait_for(lambda: "T" in service.states(), what="the stop")
    told = differences(before, service)
    assert [line.split(": ")[1] for line in told] == ["hold file", "limit of open files", "stopped processes"]
    assert f"service: stopped processes: {pid}, was none" in told
    os.kill(pid, signal.SIGCONT)
    Path(service.handle["hold_file"]).unlink()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert residue(before, service.handles) == []


def test_a_process_that_is_gone_or_new_is_none(service: Target) -> None:
    before = observe(service.handles)
    old = service.leader.identity
    os.killpg(old.pid, signal.SIGKILL)
    assert residue(before, service.handles) == []
    wait_for(lambda: service.leader and service.leader.identity != old, what="restarted")
    assert residue(before, service.handles) == []


def test_toxics_and_disabled_proxies(link: Target) -> None:
    before = observe(link.handles)
    link.server.set_toxic("a--b", Toxic(name="more", type="latency", stream="upstream", attributes={"latency": 1}))
    (told,) = differences(before, link)
    assert told.startswith("link.a.b: toxics: ")
    link.server.remove_toxic("a--b", "more")
    assert differences(before, link) == []


def test_processes_with_marks_of_these_faults_only(service: Target) -> None:
    mark, other = new_mark(), new_mark()
    before = observe(service.handles, [mark])
    command = [sys.executable, "-c", "input()", mark]
    helper = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        assert differences(before, service, [other]) == []
        wait_for(
            lambda: (
                differences(before, service, [mark])
                == [f"this machine: processes that faults started: {helper.pid}, was none"]
            ),
            what="the helper is found",
        )
    finally:
        helper.kill()
        helper.communicate()
    assert differences(before, service, [mark]) == []


def test_a_link_that_leads_elsewhere(link: Target) -> None:
    before = observe(link.handles)
    upstream = link.server.proxy("a--b").upstream
    link.server.set_upstream("a--b", f"127.0.0.1:{free_port()}")
    (told,) = differences(before, link)
    assert told.startswith("link.a.b: upstream: 127.0.0.1:")
    link.server.set_upstream("a--b", upstream)
    assert differences(before, link) == []
