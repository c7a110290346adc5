"""What pages name in code quotes exists: metrics, checkers, flags, files, tests, commands."""

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest

from harness.cli import feedstorm
from harness.core.op import OP_METRICS
from harness.judge.invariants import CHECKERS
from harness.run.scenario_file import scenario_paths
from reference_server.api.overload.overload_measures import GAUGES
from reference_server.flags import FLAGS, START_ONLY, parse_flag

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = [ROOT, ROOT / "reference_server", ROOT / "harness", ROOT / "tests"]
ANYWHERE = ["harness", "chaos", "reference_server", "scenarios", "dashboards", "benchmarks", "tests", "docs"]
MADE_UP = {"my_faults.py", "chaos/faults/read_only.py"}
"""files that pages tell the reader to write"""
OF_A_RUN = ("runs/", "DIR/", "{dir}", "http", "unix:", "tcp:", "/")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def quoted(page: Path) -> list[str]:
    """What stands in code quotes, blocks not included; a quote may go over the end of a line."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text)]


def commands(page: Path) -> list[str]:
    """The `feedstorm ...` lines of a page, in quotes and in blocks, as they would be typed."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^ *```.*?^ *```", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^(?:\.venv/bin/)?(feedstorm [^#\n]*)", blocks, re.MULTILINE)
    found = [line.strip() for line in [*lines, *quoted(page)] if line.startswith("feedstorm ")]
    return [line for line in found if not re.search(r"[<>{}…|\[\]\\]|\bDIR\b", line)]


@cache
def declared_metrics() -> frozenset[str]:
    """Every series that a process of the stack declares: a call with a metric's name, then what it is about."""
    names = {f"feed_overload_{name}" for name in GAUGES}
    for path in (ROOT / "reference_server").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            first = call.args[:2] if isinstance(call, ast.Call) else []
            texts = [one.value for one in first if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            if len(texts) == 2 and re.fullmatch(r"(feed|api|jobs)_[a-z0-9_]+", texts[0]):
                names |= {texts[0] + suffix for suffix in ("", "_total", "_bucket", "_sum", "_count")}
    return frozenset(names)


def is_metric(name: str) -> bool:
    """Whether something is exported under that name; `*` at the end stands for the rest."""
    if name.endswith("*"):
        return any(known.startswith(name[:-1]) for known in declared_metrics())
    return name in declared_metrics()


@each_page
def test_metrics_named_on_pages_are_exported(page):
    found = [re.match(r"((?:feed|api|jobs)_[a-z0-9_]+\*?)(\{.*\})?$", text) for text in quoted(page)]
    names = {match[1] for match in found if match} - {*OP_METRICS.values(), "api_version"}
    assert sorted(name for name in names if not is_metric(name)) == []


@each_page
def test_checkers_named_on_pages_exist(page):
    text = page.read_text(encoding="utf-8")
    names = {*re.findall(r"`(\w+)` checker", text), *re.findall(r"\bchecker `(\w+)`", text)}
    assert sorted(names - set(CHECKERS)) == []


@each_page
def test_flags_named_on_pages_exist_and_take_the_value(page):
    text = page.read_text(encoding="utf-8")
    settings = re.findall(r"(?:--flag |flags set )((?:[a-z_]+=[\w.]+ ?)+)", text)
    for setting in (one for several in settings for one in several.split()):
        parse_flag(setting)
    resets = re.findall(r"flags reset (\w+)", text)
    settable = re.findall(r"flags set (\w+)=", text)
    assert sorted({*resets, *settable} - (set(FLAGS) - START_ONLY)) == []


@each_page
def test_files_named_on_pages_exist(page):
    missing = []
    for text in quoted(page):
        name = text.split("::")[0]
        if not re.fullmatch(r"[\w.*/-]+(\.(py|md|lua|toml|ya?ml|json)|/)", name) or name.startswith(OF_A_RUN):
            continue
        if name in MADE_UP:
            continue
        if "/" in name and not exists(name) and name.split("/")[0] in named_folders():
            missing.append(name)
        if name.endswith(".py") and "/" not in name and not anywhere(name):
            missing.append(name)
    assert missing == []


def exists(name: str) -> bool:
    """From the root, or from one of the folders that pages speak about."""
    return any(any(folder.glob(name)) if "*" in name else (folder / name).exists() for folder in FOLDERS)


@cache
def named_folders() -> frozenset[str]:
    """Names with which a path of ours may begin."""
    return frozenset(path.name for folder in FOLDERS for path in folder.iterdir() if path.is_dir())


@cache
def anywhere(name: str) -> bool:
    """Whether a source file of that name is there, wherever."""
    return any(any((ROOT / folder).rglob(name)) for folder in ANYWHERE)


@each_page
def test_tests_named_on_pages_exist(page):
    text = page.read_text(encoding="utf-8")
    for file, function in re.findall(r"([\w/]*test_\w+\.py)(?:::(\w+))?", text):
        paths = list((ROOT / "tests").rglob(Path(file).name))
        assert paths, f"{file} is not there"
        if function:
            sources = [path.read_text(encoding="utf-8") for path in paths]
            assert any(f"def {function}(" in source for source in sources), f"{file} has no {function}"


@each_page
def test_commands_on_pages_can_be_typed(page):
    for line in commands(page):
        name, *words = line.removeprefix("feedstorm ").split()
        context = click.Context(feedstorm)
        command = feedstorm.get_command(context, name)
        if command is None or not words:
            continue
        parsed = command.make_context(name, words, resilient_parsing=False)
        scenario = parsed.params.get("scenario", "")
        if scenario and scenario != "SCENARIO" and not scenario.endswith(".toml"):
            assert scenario in scenario_paths(), line
        for flag in parsed.params.get("flags", ()):
            parse_flag(flag)
