"""The scenarios there are, as people read them: a table in the terminal, and docs/catalogue.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from harness.core.catalogue import DRAFT
from harness.core.load_rates import LOAD
from harness.core.scenario import Scenario
from harness.report.markdown import plain

MAIN_RATES = ("signups", "signup_curve", "posts", "reads")
_PAGE = """\
# The catalogue of scenarios
Each stands for something that happens to a feed of a hundred million users, at a size that fits two cores, with the
ratios that matter kept. [How to read, run, scale and write them](scenarios.md).

```sh
feedstorm scenarios                        # this table, in the terminal
feedstorm suite --tag ci                   # those that a CI job runs
feedstorm suite cache-kill --prove         # does it pass, and fail when it has to?
```

This page is generated: `feedstorm scenarios --markdown > docs/catalogue.md`. A scenario with the tag `draft` was not
yet seen to pass on the sound stack; it is in no tag that runs unattended. *Takes* is a whole run, as measured on two
cores; `>` means that nobody has measured it: its phases alone take that long. What is said to make a scenario fail has
been seen to do so, unless it says otherwise.
"""


def size_text(scenario: Scenario) -> str:
    """Its size as it would be run: "20,000 users x 50 follows, 2,000 streams; 40 posts/s, 170 reads/s"."""
    spec = scenario.population
    people = [f"{spec.users:,} users x {spec.mean_follows} follows"]
    if spec.graph != "power-law":
        people = [spec.graph]
    for who, counts in (("celebrities", spec.celebrities), ("late celebrities", spec.late_celebrities)):
        if counts:
            people.append(f"{who} of {_counted(counts)} followers")
    if spec.hyper_followers:
        people.append(f"{len(spec.hyper_followers)} users with up to {max(spec.hyper_followers):,} follows")
    if spec.newcomers:
        people.append(f"{spec.newcomers:,} newcomers")
    if spec.listeners:
        people.append(f"{spec.listeners:,} streams")
    return f"{', '.join(people)}; {', '.join(_rates(scenario, LOAD))}"


def _counted(counts: Iterable[int]) -> str:
    return ", ".join(f"{count:,}" for count in counts)


def brief_size(scenario: Scenario) -> str:
    """The same in few words: how many there are, and the largest part of what they do."""
    rates = _rates(scenario, MAIN_RATES)
    return ", ".join([f"{scenario.population.users:,} users", *rates])


def _rates(scenario: Scenario, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        value = getattr(scenario.load, LOAD[key][0])
        words = key.replace("_", " ")
        if value is True:
            yield f"the {words.removesuffix(' curve')} curve over {scenario.duration_s:g} s"
        elif isinstance(value, int | float):
            yield from [f"{value:g} {words}/s"] if value else []
        else:
            yield f"up to {value.peak_per_s:g} {words}/s"


def time_text(scenario: Scenario) -> str:
    """How long it takes, start and judgement included; with ">" only what its phases take, as nobody has measured."""
    takes_s = scenario.catalogue.takes_s if scenario.catalogue else None
    return _minutes(takes_s) if takes_s is not None else f"> {_minutes(scenario.warmup_s + scenario.duration_s)}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def row(scenario: Scenario) -> dict[str, Any]:
    """All that is known of it, as --json prints it."""
    told = scenario.catalogue
    return {
        "name": scenario.name,
        "number": told.number if told else None,
        "about": scenario.about,
        "tags": scenario.tags,
        "duration_s": scenario.duration_s,
        "takes_s": told.takes_s if told else None,
        "real": told.real if told else "",
        "size": size_text(scenario),
        "ratios": told.ratios if told else "",
        "fails_with": told.fails_with if told else (),
        "story": told.story if told else "",
    }


def print_scenarios(scenarios: Iterable[Scenario], console: Console) -> None:
    """A row each: what it shows, and under that the size in the real world and here."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("scenario", no_wrap=True)
    table.add_column("tags", min_width=7)
    table.add_column("takes", no_wrap=True, justify="right")
    table.add_column("what it shows; real size -> size here")
    guessed = False
    for scenario in scenarios:
        guessed |= time_text(scenario).startswith(">")
        tags = Text(" ".join(scenario.tags), style="yellow" if DRAFT in scenario.tags else "")
        real = f"{scenario.catalogue.real} -> " if scenario.catalogue else ""
        shows = Group(Text(scenario.about), Text(f"{real}{brief_size(scenario)}", style="dim"))
        table.add_row(Text(scenario.name, style="bold"), tags, time_text(scenario), shows)
    console.print(table)
    if guessed:
        console.print(Text("> its phases take that long; nobody has measured the whole run", style="dim"))


def markdown(scenarios: Sequence[Scenario]) -> str:
    """docs/catalogue.md."""
    lines = [_PAGE, "| | scenario | tags | takes | real | here |", "|--:|---|---|--:|---|---|"]
    for scenario in scenarios:
        told = scenario.catalogue
        number = str(told.number) if told and told.number else ""
        words = (" ".join(scenario.tags), time_text(scenario), told.real if told else "", size_text(scenario))
        name = f"[`{scenario.name}`](#{scenario.name})"
        lines.append(f"| {number} | {name} | {' | '.join(map(plain, words))} |")
    for scenario in scenarios:
        lines += ["", *_section(scenario)]
    return "\n".join(lines) + "\n"


def _section(scenario: Scenario) -> Iterator[str]:
    yield f"## {scenario.name}"
    yield plain(scenario.about)
    told = scenario.catalogue
    if told is None:
        return
    yield f"\n{plain(told.story)}\n"
    yield f"- Real: {plain(told.real)}. Here: {plain(size_text(scenario))}."
    yield f"- Ratios kept: {plain(told.ratios)}."
    for failing in told.fails_with:
        yield f"- `{failing.option}` turns `{failing.check}` red{'' if failing.seen else ' (not seen yet)'}."
