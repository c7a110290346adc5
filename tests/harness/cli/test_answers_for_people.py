"""What commands print for people: whole values, whole commands to copy, a word where there is nothing to do."""

import click
import pytest
from click.testing import CliRunner

from harness.cli import doctor as doctor_command
from harness.cli.faults import faults
from harness.cli.inspect import query
from harness.core.errors import UnavailableError
from harness.core.op import Op, OpKind, OpOutcome
from harness.record.history import HistoryWriter
from harness.record.run_directory import RunDirectory
from harness.run.doctor import Finding


def output(command: click.Command, *words: str) -> str:
    done = CliRunner().invoke(command, list(words), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


@pytest.fixture
def run(tmp_path):
    made = RunDirectory(tmp_path / "run").create()
    made.scenario.write_text("{}")
    times = {"due_ns": 1, "sent_ns": 2, "done_ns": 3}
    with HistoryWriter(made.history / "locust-0.jsonl") as writer:
        for number in (1, 2):
            op = Op(id=number, kind=OpKind.FEED, session="s", user=1, region="r", outcome=OpOutcome.OK, **times)
            op.ids, op.item_ts_us, op.item_authors, op.item_hashes = ["[post]"], [7], [8], [9]
            writer.append(op)
    return made


def test_a_narrow_answer_is_a_table(run):
    lines = output(query, str(run.path), "select kind, count(*) as n, ids from ops group by all").splitlines()
    assert [line.split() for line in lines] == [["kind", "n", "ids"], ["feed", "2", "['[post]']"]]


def test_an_answer_too_wide_for_a_table_has_a_line_for_each_value(run):
    rows = output(query, str(run.path), "select * from ops order by id").split("\n\n")
    assert len([row for row in rows if row.strip()]) == 2
    values = dict(line.split(maxsplit=1) for line in rows[1].splitlines() if len(line.split()) > 1)
    assert (values["id"], values["kind"], values["ids"], values["item_hashes"]) == ("2", "feed", "['[post]']", "[9]")


def test_what_the_program_that_answers_lacks_is_told_without_its_insides(run):
    done = CliRunner().invoke(query, [str(run.path), "select now()"])
    said = str(done.exception)
    assert said.startswith("query: ")
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


def test_the_doctor_tells_a_fix_in_one_line(monkeypatch):
    fix = "apt-get install " + "-y " * 100
    made = {"detail": "", "needed_for": "this", "required": False}
    findings = [Finding(name="thing", found=False, fix=fix, **made), Finding(name="other", found=True, **made)]
    monkeypatch.setattr(doctor_command, "examine", lambda: findings)
    lines = output(doctor_command.doctor).splitlines()
    assert [line.strip() for line in lines if "apt-get" in line] == [fix.strip()]


def test_nothing_to_undo_is_told(tmp_path):
    assert output(faults, "undo", "--all", "--runs", str(tmp_path)) == "no fault is active\n"


def test_where_no_run_directory_can_be_made_is_told(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(UnavailableError, match="taken/run: cannot be made: Not a directory"):
        RunDirectory(tmp_path / "taken" / "run").create()
