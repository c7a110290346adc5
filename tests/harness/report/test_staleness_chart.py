from __future__ import annotations

from harness.judge.staleness import StalenessCurve, StalenessPoint
from harness.report.staleness_chart import staleness_panels


def curve(period: str, points: list[StalenessPoint], region: str = "us-east") -> StalenessCurve:
    return StalenessCurve(
        home="us-east", region=region, fault="kill us-east.memcached", period=period, start_s=0, end_s=9, points=points
    )


CURVES = [
    curve("before", [StalenessPoint(0, 4, 1), StalenessPoint(200, 1000, 999)]),
    curve("during", [StalenessPoint(200, 10, 5), StalenessPoint(2000, 8, 8)]),
    curve("before", [StalenessPoint(500, 3, 0)], "ap-tokyo"),
]


def test_a_panel_a_pair_with_its_numbers():
    here, there = staleness_panels(CURVES)
    assert here.title == "us-east → us-east · kill us-east.memcached"
    assert there.title == "us-east → ap-tokyo · kill us-east.memcached"
    assert here.ages == [0, 200, 2000]
    assert here.rows == [
        ("before", ["25 % of 4", "99.9 % of 1,000", ""]),
        ("during", ["", "50 % of 10", "100 % of 8"]),
    ]


def test_the_drawing_says_what_it_shows():
    here, _ = staleness_panels(CURVES)
    assert "before: 25 % at 0 ms, 99.9 % at 200 ms; during: 50 % at 200 ms, 100 % at 2 s" in here.chart
    assert here.chart.count("<path") == 2


def test_nothing_measured_draws_nothing():
    assert staleness_panels([]) == []
