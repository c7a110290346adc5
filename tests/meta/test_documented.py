"""What people can use is documented, and what is documented exists."""

import importlib
import re
from pathlib import Path

import pytest

from chaos.faults import KINDS
from harness.cli import COMMANDS
from harness.contract.profile import load_profile
from harness.core.listening import LISTENERS
from harness.core.load_rates import LOAD
from harness.core.op import OP_METRICS
from harness.judge.invariants import CHECKERS
from harness.run.scenario_file import load_scenario, scenario_paths
from reference_server.flags import FLAGS, PRESETS, FlagInvalid, parse_flag
from reference_server.settings import DEFECTS
from reference_server.supervisor.command_line import DEFAULT_REGIONS, PRESET_REGIONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
INVARIANTS = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_planted_defects_of_the_readme_exist_and_the_profile_knows_all():
    rows = set(re.findall(r"^\| `([a-z-]+)` \| .* \| `\w+`", README, re.MULTILINE))
    assert rows
    assert rows <= set(DEFECTS)
    profile = load_profile("reference")
    assert profile.start is not None
    assert list(profile.start.defects) == list(DEFECTS)


def test_the_profile_knows_every_flag_and_what_it_may_be():
    profile = load_profile("reference")
    assert profile.start is not None
    assert list(profile.start.flags) == list(FLAGS)
    for name, kind in profile.start.flags.items():
        ends = [number for end in (kind.least, kind.most) if end is not None for number in (end - 1, end - 0.001, end)]
        words = [*kind.words, "on", "TRUE", "push", "Push", "", "1e3", "-1", "12", "12.5", *(f"{n:.10g}" for n in ends)]
        words += [f"{end + 1:.10g}" for end in (kind.least, kind.most) if end is not None]
        assert {word: kind.takes(word) for word in words} == {word: taken(f"{name}={word}") for word in words}, name


def taken(setting):
    """Whether the stack takes this flag."""
    try:
        parse_flag(setting)
    except FlagInvalid:
        return False
    return True


def test_the_catchers_named_in_the_readme_are_checkers():
    rows = re.findall(r"^\| `[a-z-]+` \| [^|]+ \| (`.*`) \|$", README, re.MULTILINE)
    catchers = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert catchers
    assert catchers <= set(CHECKERS)


@pytest.mark.parametrize("name", CHECKERS)
def test_every_checker_says_what_it_checks_what_it_costs_and_when_it_knows_nothing(name):
    said = importlib.import_module(f"harness.judge.invariants.{name}").__doc__ or ""
    number = re.search(rf"^\| (\d+) \| `{name}` \|", INVARIANTS, re.MULTILINE)
    assert number
    assert said.startswith(f"{number[1]}. ")
    assert [word for word in ("\nFormally", "\nCost:", "nconclusive") if word not in said] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command):
    assert re.search(rf"\b{command}\b", README)


def test_the_scenarios_of_the_readme_exist_and_are_short():
    rows = re.findall(r"^\| `([a-z-]+)` \| [^|`]+ \|$", README, re.MULTILINE)
    assert rows
    assert set(rows) <= set(scenario_paths())
    assert all(load_scenario(name).duration_s <= 120 for name in rows)


@pytest.mark.parametrize("name", [*(f"`{rate}`" for rate in LOAD), *(f"`{metric}`" for metric in OP_METRICS.values())])
def test_every_rate_and_every_metric_of_ops_is_on_the_page_of_scenarios(name):
    assert name in (ROOT / "docs" / "extend" / "scenario.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", LISTENERS)
def test_every_key_of_listeners_is_on_the_page_of_streams(key):
    assert re.search(rf"^{key} = ", (ROOT / "docs" / "streams.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_kind_has_its_page_entry(kind):
    assert f"`{kind}`" in (ROOT / "docs" / "extend" / "fault.md").read_text(encoding="utf-8")


def test_every_flag_and_preset_is_documented_and_no_other():
    page = (ROOT / "docs" / "techniques.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", page, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(FLAGS)
    assert all(f"--preset {name}" in page for name in PRESETS)


def test_the_profile_knows_the_presets_and_their_regions():
    start = load_profile("reference").start
    assert start is not None
    whole = list(DEFAULT_REGIONS)
    assert start.regions == whole
    assert start.presets == {name: list(PRESET_REGIONS.get(name, whole)) for name in PRESETS}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_the_readme_stays_short():
    assert len(README.splitlines()) <= 150


def test_the_lock_names_no_download_address():
    assert "http" not in re.sub(
        r"^[\w-]*http[\w-]*==", "", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE
    )
