"""What is told of a run that could not begin."""

import asyncio

import pytest
from click.testing import CliRunner

from chaos.switch import Switch
from harness.cli.run import run
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


def test_the_same_command_may_be_given_again_after_a_start_that_failed(tmp_path):
    profile = tmp_path / "down.toml"
    urls = 'api = "http://127.0.0.1:9"\nstream = "http://127.0.0.1:9"\n'
    profile.write_text(f'name = "down"\nadapter = "feedstorm-v1"\n[regions.one]\n{urls}')
    (tmp_path / "small.toml").write_text(
        'name = "small"\nabout = "x"\n[population]\nusers = 300\n[[phase]]\nname = "a"\nduration = "5s"\n'
    )
    words = [str(tmp_path / "small.toml"), "--target", str(profile), "--out", str(tmp_path / "runs" / "mine")]
    for _ in range(2):
        done = CliRunner().invoke(run, words)
        assert isinstance(done.exception, UnavailableError), done.output
        assert "does not answer" in str(done.exception)
    assert not list((tmp_path / "runs" / "mine" / "history").iterdir())
