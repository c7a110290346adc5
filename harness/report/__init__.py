"""Shows a verdict: terminal, HTML, JUnit, Markdown."""

from __future__ import annotations

from harness.record.run_directory import RunDirectory
from harness.report import junit, page, summary
from harness.report.run_data import read_run


def write_reports(run: RunDirectory) -> None:
    """Write report.html, junit.xml and summary.md of a judged run. Raises UsageError when it has no verdict."""
    data = read_run(run)
    run.report.write_text(page.render(data), encoding="utf-8")
    run.junit.write_bytes(junit.render(data))
    run.summary.write_text(summary.render(data), encoding="utf-8")
