"""What a selftest leaves in its directory beside its runs: matrix.json, selftest.html, detection.md."""

from __future__ import annotations

from pathlib import Path

from harness.core.json_file import write_json
from harness.selftest import markdown, page
from harness.selftest.matrix import Matrix

MATRIX, PAGE, DETECTION = "matrix.json", "selftest.html", "detection.md"


def write_files(matrix: Matrix, out: Path) -> None:
    """Write all three, as far as the matrix goes."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MATRIX, matrix)
    (out / PAGE).write_text(page.render(matrix), encoding="utf-8")
    (out / DETECTION).write_text(markdown.render(matrix), encoding="utf-8")
