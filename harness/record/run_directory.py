"""Names inside a run directory, in one place. Creates folders; reads and writes nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UnavailableError

SUITE = "suite.json"
"""what came of a suite; marks a folder as one of runs, from the suite's begin on"""
FINDINGS = "claims.json"
"""the same of claims that were measured"""
CAPACITY = "capacity.json"
"""the same of a search for capacity"""


def run_folders(runs: Path) -> list[Path]:
    """The folder, and those of suites, searches and claims in it: in each of them lie runs."""

    def is_one(path: Path) -> bool:
        marks = (path / SUITE, path / CAPACITY, path / FINDINGS)
        return not path.is_symlink() and any(map(os.path.isfile, marks))  # false where it may not look

    return [runs, *sorted(path for path in (runs.iterdir() if runs.is_dir() else ()) if is_one(path))]


@dataclass(frozen=True)
class RunDirectory:
    """One execution, one directory."""

    path: Path

    @property
    def scenario(self) -> Path:
        """Resolved scenario, JSON of `harness.core.scenario.Scenario` (scenario.toml is the readable copy)."""
        return self.path / "scenario.json"

    @property
    def scenario_toml(self) -> Path:
        """The scenario as it was run, TOML."""
        return self.path / "scenario.toml"

    @property
    def profile(self) -> Path:
        """The target profile as resolved for this run (without secrets), JSON."""
        return self.path / "target.json"

    @property
    def manifest(self) -> Path:
        """Versions, git head, machine, seed, command line, JSON."""
        return self.path / "manifest.json"

    @property
    def phases(self) -> Path:
        """JSON list of {"name", "start_ns", "end_ns", "faults": [ids]}, monotonic times; the first is "warmup"."""
        return self.path / "phases.json"

    @property
    def faults(self) -> Path:
        """One JSON line a fault with its actual times (`chaos.schedule`)."""
        return self.path / "faults.jsonl"

    @property
    def faults_by_hand(self) -> Path:
        """The same for faults injected by `feedstorm faults inject` meanwhile; the last line of an id counts."""
        return self.path / "faults.by-hand.jsonl"

    @property
    def ledger(self) -> Path:
        """What must be undone (`chaos.ledger`)."""
        return self.path / "ledger.jsonl"

    @property
    def live(self) -> Path:
        """Says who leads the run, while it takes faults by hand, JSON (`harness.run.live`)."""
        return self.path / "live.json"

    @property
    def stop(self) -> Path:
        """What came of the stop conditions, JSON of `harness.judge.case.StopReport`; absent: there were none."""
        return self.path / "stop.json"

    @property
    def generator(self) -> Path:
        """One JSON line a load process: late and dropped arrivals, loop lag, exit (see `harness.load`)."""
        return self.path / "generator.jsonl"

    @property
    def noise(self) -> Path:
        """What the machine did meanwhile, JSON lines of `harness.record.noise_file.NoiseRow`."""
        return self.path / "noise.jsonl"

    @property
    def history(self) -> Path:
        """Folder of history segments (`*.jsonl`) while the run lasts, of `ops.parquet` and `items.parquet` then."""
        return self.path / "history"

    @property
    def clocks(self) -> Path:
        """How the clocks of its processes differ, JSON lines of `harness.record.clocks.Clock`."""
        return self.path / "clocks.jsonl"

    @property
    def histograms(self) -> Path:
        """Folder of HdrHistogram logs, one a load process, and `merged.json`."""
        return self.path / "histograms"

    @property
    def population(self) -> Path:
        """Folder with the population hand-over files (docs/contract.md)."""
        return self.path / "population"

    @property
    def samples(self) -> Path:
        """What SLOs were judged on, a row a sample (`harness.judge.recordings`), Parquet; made by the judge."""
        return self.path / "samples.parquet"

    @property
    def comparison(self) -> Path:
        """How the run compares with its baseline, JSON of `harness.judge.compare.Comparison`; absent: it had none."""
        return self.path / "comparison.json"

    @property
    def verdict(self) -> Path:
        """verdict.json."""
        return self.path / "verdict.json"

    @property
    def series(self) -> Path:
        """Per-second series for the report, JSON (written by the judge)."""
        return self.path / "series.json"

    @property
    def report(self) -> Path:
        """report.html."""
        return self.path / "report.html"

    @property
    def junit(self) -> Path:
        """junit.xml."""
        return self.path / "junit.xml"

    @property
    def summary(self) -> Path:
        """summary.md."""
        return self.path / "summary.md"

    @property
    def logs(self) -> Path:
        """Folder of process logs."""
        return self.path / "logs"

    def is_taken(self) -> bool:
        """Whether it holds a run, or a scenario of somebody else's. A start that failed before load takes no place."""
        is_begun = self.phases.exists() or self.verdict.exists()
        return is_begun or (self.scenario.exists() and not self.manifest.exists())

    def create(self) -> RunDirectory:
        """Make the directory and its folders. Returns self. Raises UnavailableError where none can be made."""
        try:
            for folder in (self.path, self.history, self.histograms, self.population, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"run directory {self.path}: cannot be made: {error.strerror}") from error
        return self
