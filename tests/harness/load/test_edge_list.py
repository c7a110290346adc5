"""Edge lists: the formats people have, and errors that say where and what."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.load.edge_list import read_edges

MM = "%%MatrixMarket matrix coordinate pattern general\n"
GOOD = [
    ("snap with comments", "# Nodes: 3\n# From To\n1\t2\n\n2 3\n", [(1, 2), (2, 3)]),
    ("snap with times", "1 2 1082040961\n2 3 1082155839\n", [(1, 2), (2, 3)]),
    ("snap without a last line end", "1 2\n2 3", [(1, 2), (2, 3)]),
    ("snap, dos line ends", "1 2\r\n2 3\r\n", [(1, 2), (2, 3)]),
    ("csv with header", "source,target\n1,2\n2,3\n", [(1, 2), (2, 3)]),
    ("csv without header", "1,2\n2, 3\n", [(1, 2), (2, 3)]),
    ("csv quoted, weights", '"1","2",0.5\n"2","3",0.25\n', [(1, 2), (2, 3)]),
    ("matrix market", MM + "% made by hand\n3 3 2\n1 2\n2 3\n", [(1, 2), (2, 3)]),
    (
        "matrix market, symmetric with values",
        "%%MatrixMarket matrix coordinate real symmetric\n3 3 2\n1 2 0.5\n2 3 1e3\n",
        [(1, 2), (2, 1), (2, 3), (3, 2)],
    ),
]
BAD = [
    ("snap, one column", "1 2\n3\n", "2: expected two node numbers separated by blanks, got '3'"),
    ("snap, words", "# ok\n1 2\na b\n", "3: expected two node numbers separated by blanks, got 'a b'"),
    ("snap, fraction", "1 2.5\n", "1: expected two node numbers separated by blanks, got '1 2.5'"),
    ("snap, negative", "1 2\n-1 2\n", "2: expected node numbers from 0 to 2^63 - 1, got '-1 2'"),
    ("snap, huge", "1 99999999999999999999\n", "1: expected node numbers from 0 to 2^63 - 1"),
    ("csv, second header", "a,b\nc,d\n1,2\n", "2: expected two node numbers separated by a comma, got 'c,d'"),
    ("csv, header late", "1,2\na,b\n", "2: expected two node numbers separated by a comma, got 'a,b'"),
    ("csv, one column", "1,2\n3\n", "2: expected two node numbers separated by a comma, got '3'"),
    ("csv, empty cell", "1,2\n3,\n", "2: expected two node numbers separated by a comma, got '3,'"),
    ("matrix market, array", "%%MatrixMarket matrix array real general\n", "1: expected %%MatrixMarket matrix coord"),
    ("matrix market, no size", MM + "% x\n", "expected a size line: rows columns entries"),
    ("matrix market, bad size", MM + "3 3\n1 2\n", "2: expected a size line: rows columns entries, got '3 3'"),
    ("matrix market, from zero", MM + "3 3 1\n0 1\n", "3: expected row 1..3 and column 1..3, got '0 1'"),
    ("matrix market, cut", MM + "3 3 2\n1 2\n", "3: expected 2 entries as the size line says, the file ends after 1"),
    ("matrix market, word", MM + "3 3 1\n1 x\n", "3: expected an entry: row column [value], got '1 x'"),
    ("empty", "", " expected at least one edge, found none"),
    ("comments only", "# nothing\n", " expected at least one edge, found none"),
]


@pytest.mark.parametrize(("text", "edges"), [case[1:] for case in GOOD], ids=[case[0] for case in GOOD])
def test_formats(tmp_path: Path, text: str, edges: list[tuple[int, int]]) -> None:
    path = tmp_path / "graph"
    path.write_bytes(text.encode())
    followers, followees = read_edges(path)
    assert list(zip(followers.tolist(), followees.tolist(), strict=True)) == edges


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_malformed(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_edges(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_bytes(b"1 2\n" * 5000 + b"\xff\xfe 3\n" + b"1 2\n" * 5000)
    with pytest.raises(UsageError, match=r"graph\.txt:5001: expected two node numbers"):
        read_edges(path)


def test_compressed(tmp_path: Path) -> None:
    path = tmp_path / "graph.txt.gz"
    path.write_bytes(gzip.compress(b"# c\n1 2\n"))
    assert read_edges(path)[0].tolist() == [1]
    path.write_bytes(b"not gzip")
    with pytest.raises(UsageError, match="cannot be read"):
        read_edges(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.txt: cannot be read"):
        read_edges(tmp_path / "none.txt")
