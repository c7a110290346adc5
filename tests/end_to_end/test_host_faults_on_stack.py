"""Faults on processes of the real stack: its supervisor starts them in another way, and its clocks can be read."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from real_servers import wait_until
from stack_process import StackProcess

from chaos.addresses import unready
from chaos.clocks import read_offset_s
from chaos.faults import KINDS
from chaos.faults.clock_skew import find_libfaketime
from chaos.handles import parse_handle
from chaos.kind import FaultError, Witness, parse_parameters

pytestmark = [pytest.mark.stack, pytest.mark.slow]
Start = Callable[..., StackProcess]
CLOCKLESS = {"edge"}
"""HAProxy tells no time of its own"""


def planned(stack: StackProcess, kind_name: str, handle: str, **params: Any) -> tuple[Any, Any]:
    kind = KINDS[kind_name]
    parsed, problems = parse_parameters(kind, params)
    assert not problems
    return kind, kind.plan(parse_handle(handle, stack.endpoints["handles"][handle]), parsed)


@pytest.mark.nightly
def test_every_part_tells_its_time_and_can_be_skewed(start_stack: Start) -> None:
    try:
        find_libfaketime()
    except FaultError as error:
        pytest.skip(str(error))
    stack = start_stack("--regions", "us-east").await_ready()
    handles = stack.endpoints["handles"]
    clocks = {name: table["clock"] for name, table in handles.items() if table.get("clock")}
    processes = {name for name, table in handles.items() if table["backend"] == "process"}
    assert {name.removeprefix("us-east.") for name in processes - clocks.keys()} == CLOCKLESS

    def skewed(name: str) -> tuple[Witness, str]:
        kind, plan = planned(stack, "clock-skew", name, offset="3m")
        kind.inject(plan)
        try:
            witness = kind.witness(plan, 30)
        finally:
            told = kind.undo(plan)
        return witness, told

    assert [name for name, clock in clocks.items() if abs(read_offset_s(clock)) > 2] == []
    with ThreadPoolExecutor() as pool:
        for name, (witness, told) in zip(clocks, pool.map(skewed, clocks), strict=True):
            assert witness.ok, f"{name}: {witness.evidence}"
            assert "its clock is as before" in told, name
    ready = [handles[name]["ready"] for name in processes]
    wait_until(lambda: not any(map(unready, ready)), "all serve, and the edge has seen it")


def test_a_slow_start_holds_up_a_part_and_then_not(start_stack: Start) -> None:
    stack = start_stack("--only", "").await_ready()
    kind, plan = planned(stack, "slow-start", "us-east.memcached", delay="1m")
    kind.inject(plan)
    witness = kind.witness(plan, 10)
    assert witness.ok, witness.evidence
    assert "serves again" in kind.undo(plan)


def test_a_wrapper_that_is_none_is_told_and_tried_again(start_stack: Start) -> None:
    stack = start_stack("--only", "").await_ready()
    wrapper = Path(stack.endpoints["handles"]["us-east.memcached"]["wrapper_file"])
    wrapper.write_text("nice -n 5")
    os.killpg(stack.pid("us-east.memcached"), signal.SIGKILL)
    log = stack.stack.log("supervisor")
    wait_until(lambda: "is no JSON list of words" in log.read_text(), "the supervisor says so")
    assert not stack.pid("us-east.memcached")
    wrapper.write_text('["nice", "-n", "5"]')
    pid = wait_until(lambda: stack.pid("us-east.memcached"), "it starts, wrapped")
    nicer = os.getpriority(os.PRIO_PROCESS, 0) + 5
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == nicer, "its wrapper has begun")
