"""Measuring claims: each source once, kept for another night, and ended in order."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from benchmarks._judge_model import Model, Size
from harness.claims import measuring
from harness.claims.catalogue import CLAIMS, chosen, slo
from harness.claims.measuring import kept, measure, name_of
from harness.claims.model import Asked, Benchmark, Figure, Invariant, Measured, Run, Source
from harness.claims.readings import Standing, read
from harness.claims.running import measure_claims, read_findings, write_page
from harness.core.errors import ExitCode, ResidueError, UsageError
from harness.core.verdict import CheckKind, Outcome
from harness.record.run_directory import FINDINGS, RunDirectory, run_folders

PASS = Outcome.PASS

RESULT = {"value": 9, "ratio": 1, "figures": {"celebrity_writes_percent": -70.0, "busiest_partition": 1.5}}


class Fake:
    """Measures without doing anything, and stores it as a real measurement would."""

    def __init__(self, **facts: object) -> None:
        self.facts, self.asked = facts, list[str]()

    async def __call__(self, source: Source, figures: list[Figure], out: Path) -> Measured:
        self.asked.append(source.command)
        facts = {"results": [RESULT], "date": "2026-01-02", "machine": "2 cores", "commit": "abc"} | self.facts
        found = msgspec.convert({"command": source.command} | facts, Measured)
        (out / f"{name_of(source)}.json").write_bytes(msgspec.json.encode(found))
        return found


async def run(out: Path, *ids: str, fake: Fake, resume: bool = False) -> list[str]:
    told: list[str] = []
    await measure_claims(
        chosen(ids), out, lambda f, _: told.append(f"{f.claim} {f.standing}"), resume=resume, measure=fake
    )
    return told


async def test_what_several_claims_need_is_measured_once(tmp_path):
    fake = Fake()
    assert await run(tmp_path, "C3", "C4", fake=fake) == ["C3 reproduced", "C4 not reproduced"]
    assert fake.asked == ["python -m benchmarks.tiers"]
    assert list(read_findings(tmp_path / FINDINGS)) == ["C3", "C4"]


async def test_a_night_cut_short_goes_on(tmp_path):
    await run(tmp_path, "C3", fake=Fake())
    again = Fake()
    assert await run(tmp_path, "C3", "C7", fake=again, resume=True) == ["C3 reproduced", "C7 not decidable here"]
    assert again.asked == ["python -m benchmarks.rebuild", "feedstorm run celebrity-cache-kill"]


async def test_what_had_a_problem_is_measured_again(tmp_path):
    await run(tmp_path, "C3", fake=Fake(problem="no memcached"))
    assert read_findings(tmp_path / FINDINGS)["C3"].standing is Standing.UNMEASURED
    assert await run(tmp_path, "C3", fake=Fake(), resume=True) == ["C3 reproduced"]


async def test_what_does_not_tell_a_figure_that_is_read_now_is_measured_again(tmp_path):
    older = {**RESULT, "figures": {"busiest_partition": 1.5}}
    await run(tmp_path, "C3", "C4", fake=Fake(results=[older]))
    again = Fake()
    assert await run(tmp_path, "C4", fake=again, resume=True) == ["C4 not reproduced"]
    assert again.asked == []
    assert await run(tmp_path, "C3", fake=again, resume=True) == ["C3 reproduced"]
    assert again.asked == ["python -m benchmarks.tiers"]


async def test_nothing_is_measured_after_a_fault_that_could_not_be_undone(tmp_path):
    fake = Fake(problem="a fault could not be undone", exit_code=int(ExitCode.RESIDUE))
    with pytest.raises(ResidueError, match="tiers"):
        await run(tmp_path, "C3", "C7", fake=fake)
    assert len(fake.asked) == 1


async def test_the_directory_is_one_of_runs_from_the_beginning(tmp_path):
    with pytest.raises(ResidueError):
        await run(tmp_path / "claims", "C3", fake=Fake(problem="x", exit_code=5))
    assert run_folders(tmp_path) == [tmp_path, tmp_path / "claims"]


async def test_the_page_keeps_what_was_not_measured_this_time(tmp_path):
    page = tmp_path / "claims.md"
    for ids, facts in ((("C3", "C4"), {}), (("C4",), {"problem": "no memcached"}), (("C4",), {"date": "2026-05-05"})):
        out = tmp_path / "-".join([*ids, *map(str, facts.values())])
        await run(out, *ids, fake=Fake(**facts))
        write_page(page, read_findings(out / FINDINGS))
        assert list(read_findings(tmp_path / "claims.json")) == ["C3", "C4"]
    text = page.read_text()
    assert "| [C3](#c3) | 70 % fewer writes | entries written for a celebrity's post: -70 % |" in text
    assert "**not reproduced**" in text
    assert "2026-05-05, 2 cores; commit abc." in text
    assert text.count("Not measured yet.") == len(CLAIMS) - 2


def test_findings_that_are_none_are_refused(tmp_path):
    (tmp_path / "claims.json").write_text("[]")
    with pytest.raises(UsageError, match="holds no findings"):
        read_findings(tmp_path / "claims.json")


def test_a_claim_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="no claim is called 'C17'"):
        chosen(["C17"])
    assert [claim.id for claim in chosen(["c9", "C3"])] == ["C3", "C9"]


async def executed(tmp_path: Path, code: str, limit_s: float = 30.0) -> Measured:
    found = Measured(command="x")
    await measuring._execute([sys.executable, "-c", code], limit_s, tmp_path / "x.out", found)
    return found


async def test_a_program_that_says_nothing_is_a_problem_with_its_last_line(tmp_path):
    found = await executed(tmp_path, "import sys; print('up'); sys.exit('memcached is not installed')")
    assert found.problem == ""
    found = await executed(tmp_path, "import sys; sys.exit('memcached is not installed')")
    assert found.problem == "ended with 1 and no result: memcached is not installed"


async def test_while_a_program_runs_others_are_watched(tmp_path):
    found = await executed(tmp_path, "import time; print('up', flush=True); time.sleep(1.3)")
    assert found.others is not None
    assert 0 <= found.others <= 1


async def test_a_program_that_takes_too_long_is_ended(tmp_path):
    found = await executed(tmp_path, "import time; time.sleep(60)", 0.2)
    assert found.problem == "no result within 0.2 s"


async def test_a_program_is_asked_to_end_and_waited_for_when_we_are_stopped(tmp_path):
    code = f"""
import pathlib, time
try:
    pathlib.Path({str(tmp_path / "begun")!r}).touch(); time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path({str(tmp_path / "undone")!r}).touch()
"""
    task = asyncio.ensure_future(executed(tmp_path, code))
    await until((tmp_path / "begun").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "undone").exists()


@pytest.mark.parametrize("ignores", [True, False], ids=["it does not end", "it ends and leaves a child"])
async def test_what_a_program_started_ends_with_it(tmp_path, monkeypatch, ignores):
    monkeypatch.setattr(measuring, "ENDING_S", 0.2 if ignores else 30.0)
    held, begun = tmp_path / "held", tmp_path / "begun"
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    code = f"""
import pathlib, signal, subprocess, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # and so does what it starts
subprocess.Popen(["sleep", "60"], stdout=open({str(held)!r}, "wb"))
signal.signal(signal.SIGINT, signal.SIG_IGN if {ignores} else signal.SIG_DFL)
pathlib.Path({str(begun)!r}).touch()
time.sleep(60)
"""
    task = asyncio.ensure_future(executed(tmp_path, code))
    try:
        await until(begun.exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: is_closed(reader))
    finally:
        os.close(reader)


def is_closed(pipe: int) -> bool:
    """Whether nobody can write to it any more."""
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what another process does
            await asyncio.sleep(0.01)


async def test_a_benchmark_that_is_not_there_is_said_to_be(tmp_path):
    found = await measure(Benchmark("nonesuch"), [], tmp_path)
    assert found.problem.startswith("not measured: benchmarks are part of the checkout")
    assert kept(Benchmark("nonesuch"), tmp_path) is None


def test_what_an_older_run_left_is_moved_aside(tmp_path):
    for number in range(2):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "n").write_text(str(number))
        measuring.free_place(tmp_path / "run")
    assert [(tmp_path / name / "n").read_text() for name in ("run-1", "run-2")] == ["0", "1"]


def test_sources_have_names_of_their_own():
    sources = {source for claim in CLAIMS for source in claim.sources}
    assert len({name_of(source) for source in sources}) == len(sources)
    assert name_of(Run("a", ("f=off",), ("load.x=3",))) == "run-a-flag-f-off-set-load.x-3"


def test_the_list_as_json(capsys):
    from harness.cli.claims import claims

    claims(["C3", "--list", "--json"], standalone_mode=False)
    [listed] = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["measured_by"]) == ("C3", ["python -m benchmarks.tiers"])


@pytest.mark.parametrize(("words", "said"), [(["--resume"], "--resume: goes with --out"), (["C99"], "no claim")])
def test_usage(words, said):
    from harness.cli.claims import claims

    with pytest.raises(UsageError, match=said):
        claims(words, standalone_mode=False)


def test_a_run_is_judged_by_what_the_claims_ask_and_its_history_asked(tmp_path):
    run, source = RunDirectory(tmp_path / "run"), Run("steady-peak")
    Model(run, Size(users=60, listeners=10, panel=4, posts_per_s=6.0, reads_per_s=40.0, phase_s=6.0), 1).make()
    figures = [
        slo("p50", source, "feed_read{phase:baseline}", "p(50) <= 1s"),
        Figure("twice", Invariant(source, "no_duplicates")),
        Figure("reads", Asked(source, "SELECT count(*) FROM ops WHERE kind = 'feed'"), ">= 1"),
        Figure("kinds", Asked(source, "SELECT max(done_ns) FROM ops WHERE kind = 'none'"), ">= 1"),
    ]
    found = Measured(command=source.command)
    measuring._read_run(source, figures, run, found)
    p50, twice, reads, kinds = (read(figure, {source: found}) for figure in figures)
    assert 0 < (p50.value or 0) < 1000
    assert (twice.outcome, reads.outcome, kinds.outcome) == (PASS, PASS, Outcome.INCONCLUSIVE)
    assert {check.name for check in found.checks if check.kind is CheckKind.INVARIANT} == {"no_duplicates"}


def test_what_is_no_run_is_a_problem(tmp_path):
    found = Measured(command="x")
    measuring._read_result(Run("steady-peak"), [], tmp_path, tmp_path / "x.out", found)
    assert "its result cannot be read" in found.problem
