"""docs/results.md: every column and file is documented, and what it asks the history is answered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks._judge_model import Model, Size
from harness.core.op import OpKind
from harness.record.clocks import Clock
from harness.record.parquet import open_history
from harness.record.run_directory import RunDirectory

PAGE = (Path(__file__).parents[3] / "docs" / "results.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"```sql\n-- (.*?)\n(.*?)```", PAGE, re.DOTALL)
UNANSWERED = "Which posts did answers describe in more than one way?"
"""a healthy target gives no row"""
SMALL = Size(
    users=60, follows=8, listeners=10, panel=6, posts_per_s=5.0, reads_per_s=10.0, phase_s=2.0, final_readers=8
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = RunDirectory(tmp_path_factory.mktemp("made") / "run")
    Model(run, SMALL).make()
    return run


def section(title: str) -> str:
    return PAGE.split(f"\n### {title}\n")[1].split("\n##")[0]


@pytest.mark.parametrize("table", ["ops", "seen"])
def test_every_column_is_documented_with_its_type(made: RunDirectory, table: str) -> None:
    documented = re.findall(r"^\| `(\w+)` \| ([A-Z]+(?:\[\])?) \|", section(f"Table `{table}`"), re.MULTILINE)
    with open_history(made) as history:
        columns = history.execute(f"DESCRIBE {table}").fetchall()
    assert documented == [(name, kind) for name, kind, *_ in columns]


def test_every_kind_of_op_is_documented() -> None:
    row = next(line for line in section("Table `ops`").splitlines() if line.startswith("| `kind`"))
    assert set(re.findall(r"`(\w+)`", row)) - {"kind"} == set(OpKind)


def test_every_key_of_a_clock_is_documented() -> None:
    assert set(re.findall(r"`(\w+)`", section("Clocks"))) - {"clocks"} == set(Clock.__struct_fields__)


def test_every_file_of_the_run_directory_is_documented(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    names = [getattr(run, name).name for name, kind in vars(RunDirectory).items() if isinstance(kind, property)]
    table = PAGE.split("## The directory, file by file\n")[1].split("\n## ")[0]
    assert [name for name in names if f"`{name}`" not in table and f"`{name}/`" not in table] == []


def test_there_are_ten_questions() -> None:
    assert len(QUESTIONS) == 10


@pytest.mark.parametrize(("title", "sql"), QUESTIONS, ids=[title.splitlines()[0] for title, _ in QUESTIONS])
def test_a_question_is_answered(made: RunDirectory, title: str, sql: str) -> None:
    with open_history(made) as history:
        rows = history.execute(sql).fetchall()
    assert bool(rows) != (title.splitlines()[0] == UNANSWERED)
