"""selftest.html: the matrix as one page, without network. A mark leads to the report of its run."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.report.page import TEMPLATES as REPORT_TEMPLATES
from harness.selftest.matrix import Matrix, lines_of, outcome_of, tally

_TEMPLATES = Path(__file__).parent


def render(matrix: Matrix) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    lines = lines_of(*matrix.rows)
    return environment.get_template("page.html.j2").render(
        matrix=matrix,
        outcome=outcome_of(matrix),
        tally=tally(lines),
        lines=lines,
        named={line.defect: line.caught_by for line in lines if line.defect},
        minutes=sum(row.took_s for row in matrix.rows) / 60,
        style=Markup((REPORT_TEMPLATES / "report.css").read_text(encoding="utf-8")),
    )
