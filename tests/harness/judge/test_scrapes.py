from __future__ import annotations

import math

import pytest

from harness.judge.case import Scrape
from harness.judge.scrapes import Distribution, distribution, parse

START = """# HELP rebuild_seconds time
# TYPE rebuild_seconds histogram
rebuild_seconds_bucket{le="0.01",proc="a"} 10
rebuild_seconds_bucket{le="0.05",proc="a"} 10
rebuild_seconds_bucket{le="+Inf",proc="a"} 10
rebuild_seconds_sum{proc="a"} 0.05
rebuild_seconds_count{proc="a"} 10
hits_total{tier="hot"} 7
not a line
"""
END = """rebuild_seconds_bucket{le="0.01",proc="a"} 60
rebuild_seconds_bucket{le="0.05",proc="a"} 110
rebuild_seconds_bucket{le="+Inf",proc="a"} 110
rebuild_seconds_sum{proc="a"} 2.05
rebuild_seconds_count{proc="a"} 110
hits_total{tier="hot"} 17
hits_total{tier="cold"} 3
"""


def scrapes(start=START, end=END, region="us-east"):
    return [
        Scrape(phase="calm", at="start", region=region, at_ns=0, text=start),
        Scrape(phase="calm", at="end", region=region, at_ns=9, text=end),
    ]


def test_parse_passes_over_what_is_no_sample():
    assert ("hits_total", (("tier", "hot"),), 7.0) in list(parse(START))
    assert len(list(parse(START))) == 6


def test_the_difference_of_a_phase():
    seen = distribution(scrapes(), "rebuild_seconds", "calm", "", {})
    assert seen is not None
    assert seen.count == 100
    assert seen.total == pytest.approx(2.0)
    assert seen.quantile(0.5) == pytest.approx(0.01)
    assert seen.quantile(0.75) == pytest.approx(0.03)  # half-way through (0.01, 0.05]


def test_regions_add_up_and_can_be_chosen():
    both = scrapes() + scrapes(region="ap-tokyo")
    assert distribution(both, "rebuild_seconds", "calm", "", {}).count == 200
    assert distribution(both, "rebuild_seconds", "calm", "ap-tokyo", {}).count == 100
    assert distribution(both, "rebuild_seconds", "other", "", {}) is None


def test_a_restart_counts_from_zero():
    fallen = END.replace(" 60\n", " 2\n").replace(" 110\n", " 4\n").replace("2.05", "0.01")
    assert distribution(scrapes(end=fallen), "rebuild_seconds", "calm", "", {}).count == 4


def test_counters_and_labels():
    assert distribution(scrapes(), "hits", "calm", "", {}).total == 13
    assert distribution(scrapes(), "hits", "calm", "", {"tier": "hot"}).total == 10
    assert distribution(scrapes(), "hits", "calm", "", {"tier": "none"}) is None


def test_a_missing_end_proves_nothing():
    assert distribution(scrapes()[:1], "hits", "calm", "", {}) is None
    assert distribution(scrapes(end=""), "hits", "calm", "", {}) is None


def test_beyond_the_highest_bucket_and_empty():
    slow = Distribution(((0.1, 1.0), (math.inf, 2.0)), 9.0)
    assert slow.quantile(0.4) == pytest.approx(0.08)
    assert math.isinf(slow.quantile(0.99))
    assert math.isnan(Distribution(((0.1, 0.0), (math.inf, 0.0)), 0.0).quantile(0.5))
