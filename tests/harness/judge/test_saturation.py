"""What is nearest to its limit, from the usage of the parts and from what the target tells of itself."""

import pytest
from made_history import HOME, MadeHistory, ns

from harness.core.verdict import MachinePhase
from harness.judge.case import LoadReport, Scrape
from harness.judge.saturation import LOAD, MACHINE, TARGET, PartUsage, Pressure, Usage, pressures, who_held_up

BEFORE = """
feed_overload_admitted_total{part="api-0",priority="essential"} 1000
feed_overload_rejected_total{part="api-0",reason="full",priority="essential"} 0
feed_overload_rejected_total{part="api-0",reason="user_rate",priority="essential"} 0
feed_memcached_hits_total{part="jobs",node="0"} 100
feed_memcached_misses_total{part="jobs",node="0"} 100
feed_jobs_seen_lag_seconds{part="jobs",consumer="fanout"} 0.1
feed_queue_depth{part="jobs",stream="posts"} 5
feed_loop_lag_seconds_count{part="api-0"} 0
feed_loop_lag_seconds_bucket{part="api-0",le="0.1"} 0
feed_loop_lag_seconds_bucket{part="api-0",le="+Inf"} 0
"""
AFTER = """
feed_overload_admitted_total{part="api-0",priority="essential"} 1900
feed_overload_rejected_total{part="api-0",reason="full",priority="essential"} 60
feed_overload_rejected_total{part="api-0",reason="full",priority="optional"} 40
feed_overload_rejected_total{part="api-0",reason="user_rate",priority="essential"} USER
feed_memcached_hits_total{part="jobs",node="0"} 190
feed_memcached_misses_total{part="jobs",node="0"} 110
feed_jobs_seen_lag_seconds{part="jobs",consumer="fanout"} 4.1
feed_queue_depth{part="jobs",stream="posts"} 205
feed_loop_lag_seconds_count{part="api-0"} 100
feed_loop_lag_seconds_bucket{part="api-0",le="0.1"} 100
feed_loop_lag_seconds_bucket{part="api-0",le="+Inf"} 100
"""


def part(name, busiest, group=TARGET, in_line=0.0, cores=None):
    return PartUsage(part=name, group=group, busiest=busiest, in_line=in_line, cores=cores or busiest)


def machine(**shares):
    warmup = MachinePhase(phase="warmup", kind="warmup", seconds=5, own=0.9)
    return [warmup, MachinePhase(phase="calm", seconds=10, **shares)]


@pytest.fixture
def made(tmp_path):
    def case(user_rate=0):
        h = MadeHistory(tmp_path, follows={1: [7]}, regions=[HOME], length=10.0)
        sent = {"planned": 100, "sent": 100, "late": 1, "loop_lag_p99_ms": 40}
        h.load = [
            LoadReport(process="locust-0", kind="locust", completed=True, **sent),
            LoadReport(process="streams-0", kind="streams", completed=True, loop_lag_p99_ms=7),
            LoadReport(process="streams-1"),
        ]
        texts = {"start": BEFORE, "end": AFTER.replace("USER", str(user_rate))}
        h.scrapes = [Scrape(phase="calm", at=at, region=HOME, at_ns=ns(0), text=text) for at, text in texts.items()]
        return h.case()

    return case


PARTS = [
    part("us-east.fanout", 0.4),
    part("us-east.api", 0.93, in_line=0.06, cores=1.1),
    part("us-east.memcached", 0.1),
    part("us-east.redis-queue", 0.2),
    part("generator locust-0", 0.5, LOAD),
]


def test_the_part_nearest_to_its_limit_comes_first_with_what_it_shows(made):
    found = pressures(made(), Usage(processors=8, seconds=10, parts=PARTS), machine(own=0.3, outside=0.1))
    first, second, *_ = found
    assert (first.part, first.used) == ("us-east.api", 0.93)
    assert first.says == (
        "its busiest thread ran 93 % of the time, and stood in line for a processor 6.0 %; 1.10 cores in all"
    )
    assert "it refused 100 requests (10 %; full)" in first.signs
    assert any(sign.startswith("loop lag p99 ") for sign in first.signs)
    assert second.part == "generator locust-0"
    assert second.signs == ["1.0 % of its arrivals were late, 0 were dropped; loop lag p99 40.0 ms"]


def test_a_stream_engine_whose_streams_all_stayed_open_tells_its_loop_lag_and_a_lost_one_nothing(made):
    parts = [part(f"generator streams-{k}", 0.3, LOAD) for k in (0, 1)]
    found = {p.part: p.signs for p in pressures(made(), Usage(processors=8, parts=parts), [])}
    assert found["generator streams-0"] == ["loop lag p99 7.0 ms"]
    assert found["generator streams-1"] == []


def test_what_is_a_consequence_is_told_beside_its_part_and_never_ranked(made):
    found = {p.part: p for p in pressures(made(), Usage(processors=8, seconds=10, parts=PARTS), machine(own=0.3))}
    assert found["us-east.fanout"].used == 0.4
    assert found["us-east.fanout"].signs == ["it fell behind the posts by 4.0 s within 10 s"]
    assert found["us-east.redis-queue"].signs == ["queue posts grew from 5 to 205"]
    assert found["us-east.memcached"].signs == ["hit ratio 90 %"]


def test_a_limit_on_rates_is_at_its_end_when_it_refuses(made):
    first, second = pressures(made(user_rate=20), Usage(processors=8, seconds=10, parts=PARTS), machine(own=0.3))[:2]
    assert (first.part, first.used) == ("the rate limit of us-east.api-0", 1.0)
    assert first.says == "it refused 20 requests (2.2 %; user_rate)"
    assert second.part == "us-east.api"


def test_a_full_machine_comes_first_and_says_who_shares_it(made):
    first = pressures(made(), Usage(processors=2, seconds=10, parts=PARTS), machine(own=0.9, outside=0.05, waited=0.4))[
        0
    ]
    assert (first.part, round(first.used, 2)) == (MACHINE, 0.95)
    assert first.says == (
        "95 % of its 2 processors were busy: 90 % for the target, 25 % for the generator and the harness, "
        "5.0 % for others"
    )
    assert first.signs[0].startswith("target and generator share it")


@pytest.mark.parametrize(
    ("used", "who"),
    [
        ({"generator locust-0": 0.9, "us-east.api": 0.95}, "the generator, not the target, is at its end (generator"),
        (
            {MACHINE: 0.97, "us-east.api": 0.95, "generator locust-0": 0.5},
            "the machine is at its end, and the generator",
        ),
        ({"us-east.api": 0.95, MACHINE: 0.6}, "it is us-east.api that is near its limit"),
        ({"us-east.api": 0.5, MACHINE: 0.6}, "neither the generator nor a part of the target"),
    ],
)
def test_who_kept_load_from_coming_as_asked_is_told(used, who):
    found = [Pressure(part=name, used=share, says="") for name, share in used.items()]
    assert who in who_held_up(found)


def test_a_target_elsewhere_that_tells_nothing_leaves_the_generator_and_its_machine(tmp_path):
    h = MadeHistory(tmp_path, follows={1: [7]}, length=10.0)
    usage = Usage(processors=4, seconds=10, parts=[part("generator locust-0", 0.5, LOAD)])
    found = pressures(h.case(), usage, machine(own=0.2))
    assert [p.part for p in found] == ["generator locust-0", MACHINE]
    assert found[1].signs == []
    assert pressures(h.case(), Usage(), []) == []
