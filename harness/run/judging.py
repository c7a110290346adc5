"""Judges a recorded run, stores the verdict and its reports. Used at the end of a run, and again by `check`."""

from __future__ import annotations

import msgspec

from harness.core.verdict import Verdict
from harness.judge.judge import judge
from harness.record.run_directory import RunDirectory
from harness.report import write_reports


def judge_and_store(run: RunDirectory) -> Verdict:
    """The verdict of a run; verdict.json, report.html, junit.xml and summary.md are written beside its history."""
    verdict = judge(run)
    run.verdict.write_bytes(msgspec.json.format(msgspec.json.encode(verdict), indent=1))
    write_reports(run)
    return verdict
