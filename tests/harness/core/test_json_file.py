"""What is said of files that are missing or damaged, and of the line that a kill cut short."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.core.errors import UsageError
from harness.core.json_file import read_json, read_json_lines, write_json


class Row(msgspec.Struct):
    n: int


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "row.json", Row(3))
    assert read_json(tmp_path / "row.json", Row) == Row(3)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "row.json: is missing"),
        (b"", "row.json: damaged: "),
        (b"\xff\x00\xfe", "row.json: damaged: "),
        (b'{"n": "\xff"}', "row.json: damaged: "),
        (b'{"n": "three"}', "row.json: damaged: Expected `int`, got `str` - at `$.n`"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, data: bytes | None, problem: str) -> None:
    if data is not None:
        (tmp_path / "row.json").write_bytes(data)
    with pytest.raises(UsageError) as raised:
        read_json(tmp_path / "row.json", Row)
    assert problem in str(raised.value)


def test_of_a_file_that_grows_a_last_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_json_lines(path, Row) == []
    path.write_bytes(b'{"n": 1}\n\n{"n": 2}\n{"n":')
    assert read_json_lines(path, Row) == [Row(1), Row(2)]
    with pytest.raises(UsageError, match=r"rows\.jsonl: line 4: damaged: "):
        read_json_lines(path, Row, may_be_torn=False)


def test_any_other_line_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n":\n{"n": 3}\n')
    with pytest.raises(UsageError, match=r"rows\.jsonl: line 2: damaged: "):
        read_json_lines(path, Row)
