"""`feedstorm claims`: the figures of the articles, measured on this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
import msgspec

from harness.claims.catalogue import chosen
from harness.claims.model import Claim
from harness.claims.page import print_claims, print_finding, print_findings, tally
from harness.claims.readings import Finding, exit_code_of
from harness.claims.running import measure_claims, read_findings, write_page
from harness.cli.interrupt import run_interruptible
from harness.cli.output import NewDirectory, json_option, messages, print_json, results, typed
from harness.cli.run import run_directory
from harness.core.errors import UsageError
from harness.record.run_directory import FINDINGS
from harness.run.stages import heal_older_runs


class Listed(msgspec.Struct, kw_only=True):
    """A claim, as --list --json prints it."""

    id: str
    says: str
    claimed: str
    scaled: str
    measured_by: list[str]


class Answer(msgspec.Struct, kw_only=True):
    """What --json prints."""

    exit_code: int
    summary: str
    findings: dict[str, Finding]


@click.command()
@click.argument("ids", nargs=-1, metavar="[C1 C9 ...]")
@click.option("--list", "only_list", is_flag=True, help="Tell what is claimed and what measures it; measure nothing.")
@click.option("--out", type=NewDirectory(), help="Directory; default: runs/<time>-claims.")
@click.option("--resume", is_flag=True, help="With --out: measure only what is not in there.")
@click.option("--write", "page", type=click.Path(path_type=Path), metavar="PAGE", help="Write the page of all claims.")
@json_option
def claims(
    ids: tuple[str, ...], only_list: bool, out: Path | None, resume: bool, page: Path | None, as_json: bool
) -> None:
    """Measure what the articles claim: claimed, measured here, what that says of it, a verdict. All, or those named.

    A claim rests on runs of scenarios and on benchmarks, made one after the other; what several claims need is measured
    once. All of them take more than an hour, C8 and C14 half of it. PAGE is written anew, with PAGE's .json beside it;
    what was not measured this time stays on it as it was.

    \b
    Examples:
      feedstorm claims --list
      feedstorm claims C3 C9
      feedstorm claims --out runs/claims --resume --write docs/claims.md
    Exit codes: 0 all reproduced, 1 one is not, 3 one could not be decided or measured, 5 a fault could not be undone.
    """
    picked = chosen(ids)
    if only_list:
        _list(picked, as_json)
        return
    if resume and out is None:
        raise UsageError("--resume: goes with --out, the directory to go on with")
    directory = run_directory(out, "claims")
    if (directory / FINDINGS).exists() and not resume:
        raise UsageError(f"--out {out}: holds findings already; go on with them (--resume) or choose another directory")
    if page is not None and (page.is_dir() or not page.parent.is_dir()):
        raise UsageError(f"--write {page}: {'is a directory' if page.is_dir() else 'there is no such folder'}")
    _measure(picked, directory, resume=resume, page=page, as_json=as_json)


def _list(picked: list[Claim], as_json: bool) -> None:
    if not as_json:
        print_claims(picked, results())
        return
    print_json(
        [
            Listed(id=c.id, says=c.says, claimed=c.claimed, scaled=c.scaled, measured_by=[s.command for s in c.sources])
            for c in picked
        ]
    )


def _measure(picked: list[Claim], directory: Path, *, resume: bool, page: Path | None, as_json: bool) -> None:
    """Measure, tell each and all, also when it was interrupted."""
    console = messages()
    directory.mkdir(parents=True, exist_ok=True)
    heal_older_runs(directory.parent)
    try:
        run_interruptible(measure_claims(picked, directory, partial(print_finding, console=console), resume=resume))
    finally:
        findings = {c.id: f for c in picked if (f := read_findings(directory / FINDINGS).get(c.id))}
        if page is not None and findings:
            write_page(page, findings)
        summary = tally(list(findings.values()), len(picked))
        if as_json:
            print_json(Answer(exit_code=exit_code_of(findings.values()), summary=summary, findings=findings))
        else:
            print_findings(picked, findings, results())
            console.print(f"what was measured: {typed(directory)}", soft_wrap=True, markup=False)
    raise click.exceptions.Exit(exit_code_of(findings.values()))
