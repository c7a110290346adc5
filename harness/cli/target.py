"""`feedstorm conform`: does an implementation honour the contract?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from rich.table import Table

from harness.cli.exit_codes import EXIT_OF
from harness.cli.interrupt import run_interruptible
from harness.cli.output import json_option, print_json, results
from harness.contract.conformance import conform as run_conformance
from harness.contract.profile import load_profile, require_loopback
from harness.core.scenario import Population
from harness.core.verdict import Check, Outcome, worst
from harness.load.population import make_population, write_population
from harness.record.run_directory import RunDirectory
from harness.run.target import target_up

STYLES = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.INCONCLUSIVE: "yellow"}
CONFORMANCE_USERS = 400
CONFORMANCE_SEED = 1


@click.command()
@click.option("--target", default="reference", show_default=True, help="Profile name or path.")
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="HOST", help="Allow a target that is not loopback.")
@click.option("--defect", "defects", multiple=True, metavar="NAME", help="Plant a defect in the reference stack.")
@json_option
def conform(target: str, allow_hosts: tuple[str, ...], defects: tuple[str, ...], as_json: bool) -> None:
    """Check an implementation against the contract, one property at a time.

    Example: feedstorm conform --target reference
    """
    checks = run_interruptible(_conform(target, allow_hosts, defects))
    if as_json:
        print_json(checks)
    else:
        _print(checks)
    outcome = worst(c.verdict for c in checks if not c.skipped)
    raise click.exceptions.Exit(EXIT_OF[outcome])


async def _conform(target: str, allow_hosts: tuple[str, ...], defects: tuple[str, ...]) -> list[Check]:
    profile = load_profile(target)
    require_loopback(profile, allow_hosts)
    with tempfile.TemporaryDirectory(prefix="feedstorm-conform-") as folder:
        run = RunDirectory(Path(folder)).create()
        spec = Population(users=CONFORMANCE_USERS, mean_follows=1)
        write_population(make_population(spec, CONFORMANCE_SEED), spec, CONFORMANCE_SEED, run.population)
        async with target_up(profile, run, CONFORMANCE_USERS, defects) as live:
            require_loopback(live, allow_hosts)
            return await run_conformance(live)


def _print(checks: list[Check]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("check", "result", "remark"):
        table.add_column(column)
    for c in checks:
        word = "skipped" if c.skipped else str(c.verdict)
        style = "dim" if c.skipped else STYLES[c.verdict]
        table.add_row(c.name, f"[{style}]{word}[/]", c.reason or "; ".join(c.evidence[:2]))
    counted = [c for c in checks if not c.skipped]
    passed = sum(c.verdict == Outcome.PASS for c in counted)
    console = results()
    console.print(table)
    console.print(f"{passed} of {len(counted)} checks pass, {len(checks) - len(counted)} skipped")
