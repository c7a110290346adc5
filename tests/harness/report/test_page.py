"""report.html: one file that loads nothing, shows everything, and runs nobody else's script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from sample_run import make_run, sample_verdict, write

from harness.core.errors import UsageError
from harness.core.verdict import Outcome, Verdict
from harness.record.run_directory import RunDirectory
from harness.report import write_reports
from harness.report.charts import BOUND_LABEL_WIDTH, Bound, Metric, TimeFrame, time_chart
from harness.report.run_data import FaultWindow, PhaseWindow, read_run

EVIL = """</script></style><script>alert(1)</script>"'><img src=x onerror=alert(1)>{{ 7*7 }}<b>\u202e&"""
Reported = Callable[..., RunDirectory]


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {k: v or "" for k, v in attrs}))


def page_of(run: RunDirectory) -> str:
    return run.report.read_text(encoding="utf-8")


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_loads_nothing(reported: Reported, verdict: str) -> None:
    page = page_of(reported(verdict))
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), (tag, attributes)
    assert not re.search(r"@import|url\(", page)
    assert "default-src 'none'" in page
    assert len(page) < 1_000_000


def test_only_our_script_may_run(reported: Reported) -> None:
    page = page_of(reported())
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in page
    assert not re.search(r"\son\w+=", page.replace(script, ""))


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_hostile_text_stays_text(reported: Reported, verdict: str) -> None:
    page = page_of(reported(verdict, EVIL))
    elements = Elements(page).found
    assert sum(tag == "script" for tag, _ in elements) == 1
    assert not any(tag == "img" or "onerror" in attributes for tag, attributes in elements)
    assert "alert(1)&lt;/script&gt;" in page
    assert "49" not in re.findall(r"onerror=alert\(1\)&gt;(.{4})", page)


def test_failing_checks_come_first_with_their_evidence(reported: Reported) -> None:
    page = page_of(reported())
    assert (
        page.index("What went wrong") < page.index("missing from the final walk of user 93") < page.index("All checks")
    )
    assert page.index("durability") < page.index("1,204 ms") < page.index("late arrivals")
    assert '<h1 id="verdict">Fail</h1>' in page
    assert "2 of 33 checks failed" in page


def test_a_pass_has_nothing_that_went_wrong(reported: Reported) -> None:
    page = page_of(reported("pass"))
    assert "What went wrong" not in page
    assert "could not be decided" not in page
    assert "all 33 checks passed, 1 skipped" in page


def test_every_check_is_listed(reported: Reported) -> None:
    page = page_of(reported())
    rows = re.findall(r'<tr class="(?:pass|fail|inconclusive|skipped)">', page)
    assert len(rows) == len(sample_verdict("fail", "").checks)


def test_charts_are_well_formed_and_described(reported: Reported) -> None:
    charts = [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page_of(reported()), re.DOTALL)]
    assert len(charts) == 5 + 1 + 3 + 2 + 6
    for chart in charts:
        assert chart.get("role") == "img"
        assert len(chart.get("aria-label", "")) > 20
        x_end, y_end = (float(v) for v in chart.get("viewBox", "").split()[2:])
        for text in chart.iter("text"):
            assert -5 <= float(text.get("x", "0")) <= x_end
            assert 0 <= float(text.get("y", "0")) <= y_end
    curves = [list(chart.iter("text")) for chart in charts if "latency by percentile" in chart.get("aria-label", "")]
    assert curves
    assert all(texts[-1].text and re.fullmatch(r"[\d.]+ %", texts[-1].text) for texts in curves)


def test_staleness_is_drawn_and_told_in_numbers(reported: Reported) -> None:
    html = page_of(reported("fail"))
    assert "<figcaption>us-east → ap-tokyo · kill us-east.memcached</figcaption>" in html
    assert '<td>during</td><td class="n nowrap">0 % of 1,000</td>' in html
    section = html[html.index('id="staleness"') :]
    assert [name for name in ("before", "during", "after") if f"</i>{name}</span>" in section] == [
        "before",
        "during",
        "after",
    ]


def test_faults_are_shaded_in_their_colour_and_labelled(reported: Reported) -> None:
    page = page_of(reported())
    assert page.count('fill="#c8385a"') == 6 * 2
    assert page.count(">kill us-east.memcached</text>") == 6
    assert "process 4711 is gone" in page


def test_bounds_are_drawn_where_they_hold(reported: Reported) -> None:
    page = page_of(reported())
    assert page.count("p(95) ≤ 200 ms</text>") == 2  # both regions' local events, not the remote ones
    assert page.count("p(99) ≤ 200 ms</text>") == 2


def drawn_bounds(run: RunDirectory, label: str) -> list[tuple[float, float]]:
    """From where to where in seconds bounds of this label are drawn."""
    frame = TimeFrame(read_run(run).phases, [])
    x = frame.scale()
    second = {x(at): at for phase in frame.phases for at in (phase.start_s, phase.end_s)}
    line = r'<line class="bound" x1="([0-9.]+)" x2="([0-9.]+)"[^>]*/?>(?:</line>)?\s*<text[^>]*>' + re.escape(label)
    return [(second[float(left)], second[float(right)]) for left, right in re.findall(line, page_of(run))]


def test_the_bound_of_one_phase_is_drawn_over_its_time_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    verdict = sample_verdict("pass", "")
    bound = next(check for check in verdict.checks if check.name.startswith("feed_read p(99)"))
    for text, bound_ms, kinds in (("200ms", 200, "cache-down"), ("350ms", 350, "cache-down"), ("1s", 1_000, "gone")):
        name = f"feed_read{{phase:{kinds}}} p(99) <= {text}"
        verdict.checks.append(msgspec.structs.replace(bound, name=name, phase=kinds, bound=bound_ms))
    write(run.verdict, verdict)
    write_reports(run)
    frame = TimeFrame(read_run(run).phases, [])
    [down] = [(p.start_s, p.end_s) for p in frame.phases if p.name == "cache-down"]
    assert drawn_bounds(run, "p(99) ≤ 350 ms") == [down] * 2  # a chart a region
    assert drawn_bounds(run, "p(99) ≤ 200 ms") == [frame.ends] * 2  # holds in every phase, so there is no second line
    assert "p(99) ≤ 1" not in page_of(run)


def test_labels_of_bounds_do_not_touch() -> None:
    phases = [PhaseWindow(name=n, kind="", start_s=10.0 * i, end_s=10.0 * i + 10) for i, n in enumerate("ab")]
    bounds = [Bound("one", 200.0), Bound("two", 201.0, "b"), Bound("three", 202.0, "b"), Bound("four", 200.0, "a")]
    chart = time_chart(Metric("m", [[0.0, 100.0, 150.0, 200.0, 5.0]], "p99", "ops", bounds), TimeFrame(phases, []))
    ends = {name: float(x) for x, name in re.findall(r'<text class="bound-label" x="([0-9.]+)"[^>]*>(\w+)<', chart)}
    assert ends.keys() == {"one", "two", "three", "four"}
    places = sorted(ends.values())
    assert all(right - left >= BOUND_LABEL_WIDTH for left, right in pairwise(places)), ends


def test_a_colour_that_is_none_is_not_used(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.faults.write_text(run.faults.read_text().replace("#c8385a", "red;background:url(http://x)"))
    write_reports(run)
    assert "http://x" not in page_of(run)


def test_only_the_verdict_is_needed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run").create()
    write(run.verdict, Verdict(verdict=Outcome.INCONCLUSIVE, scenario="bare", seed=1, checks=[]))
    write_reports(run)
    assert "bare: nothing was checked." in page_of(run)
    assert run.junit.exists()
    assert run.summary.exists()


def test_no_verdict_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no verdict\.json"):
        write_reports(RunDirectory(tmp_path / "run").create())


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.series.write_text('{"per_second": 3}')
    with pytest.raises(UsageError, match=r"series\.json"):
        write_reports(run)


def test_a_torn_line_of_faults_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with run.faults.open("ab") as file:
        file.write(b'{"id": "f2", "ki')
    write_reports(run)
    assert page_of(run).count("kill us-east.memcached</text>") == 6


def test_a_refused_fault_is_listed_but_not_shaded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    row = json.loads(run.faults.read_text().splitlines()[0])
    row |= {"id": "f2", "kind": "pause", "witnessed_ns": None, "undo_started_ns": None, "undone_ns": None}
    row |= {"inject_error": "forbidden", "witness": {"ok": False, "evidence": "could not be injected: forbidden"}}
    row |= {"undo": {"ok": True, "detail": "nothing was touched"}}
    with run.faults.open("a") as file:
        file.write(json.dumps(row) + "\n")
    write_reports(run)
    data = read_run(run)
    assert [fault.start_s is None for fault in data.faults] == [False, True]
    assert [fault.kind for fault, _ in TimeFrame(data.phases, data.faults).lanes()] == ["kill"]
    assert "could not be injected: forbidden" in page_of(run)


def test_names_of_faults_never_touch(tmp_path: Path) -> None:
    windows = [
        FaultWindow(
            id=f"f{i}", kind="partition", handle="link.us-east.ap-tokyo", phase="", colour="#000000", due_s=None,
            start_s=start, end_s=start + 5, witnessed_s=None, witness_ok=True, witness="", undo_ok=True, undo="",
            params={},
        )
        for i, start in enumerate((10.0, 10.0, 11.0, 50.0))
    ]  # fmt: skip
    frame = TimeFrame([PhaseWindow(name="all", kind="fault", start_s=0, end_s=60)], windows)
    assert [lane for _, lane in frame.lanes()] == [0, 1, 2, 0]
    assert frame.top > TimeFrame(frame.phases, windows[:1]).top


def test_the_machine_has_its_section_and_stands_beside_times(reported: Reported) -> None:
    page = page_of(reported())
    section = page[page.index('<section id="machine">') :]
    assert "Noise floor (baseline)" in section
    assert 'data-chart="' in section[: section.index("</section>")]
    assert page.count("machine alone: 88 ms") == 2  # among the troubles and in the table


def test_a_run_whose_machine_was_not_measured_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, "pass")
    run.noise.unlink()
    write_reports(run)
    section = page_of(run)
    section = section[section.index('<section id="machine">') :]
    section = section[: section.index("</section>")]
    assert "was not measured" in section
    assert "<table" not in section
    assert "<svg" not in section
