"""What is told of a run that could not begin."""

import asyncio

import pytest

from chaos.switch import Switch
from harness.core.errors import UnavailableError
from harness.run.execute import Execution
from harness.run.request import read_request


def test_a_run_that_ends_before_its_time_is_not_told_to_be_done(tmp_path):
    Switch(tmp_path).forbid("customers complain")
    stages = []
    request = read_request("celebrity-cache-kill", None, (), None, tmp_path / "run")
    execution = Execution(request, lambda progress: stages.append(progress.stage))
    with pytest.raises(UnavailableError, match="customers complain"):
        asyncio.run(execution.execute())
    assert stages[-1] == "ended before its time"
