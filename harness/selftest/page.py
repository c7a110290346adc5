"""selftest.html: the matrix as one page, without network. A mark leads to the report of its run."""

from __future__ import annotations

from pathlib import Path

from harness.report.layout import environment, style
from harness.selftest.matrix import Matrix, lines_of, outcome_of, tally

_TEMPLATES = Path(__file__).parent


def render(matrix: Matrix) -> str:
    """The page."""
    lines = lines_of(*matrix.rows)
    return (
        environment(_TEMPLATES)
        .get_template("page.html.j2")
        .render(
            matrix=matrix,
            outcome=outcome_of(matrix),
            tally=tally(lines),
            lines=lines,
            named={line.defect: line.caught_by for line in lines if line.defect},
            minutes=sum(row.took_s for row in matrix.rows) / 60,
            style=style(),
        )
    )
