"""What a target cannot take is left out of the load by name, and nothing else is."""

from typing import Any

import msgspec
import pytest

from harness.contract.profile import Capabilities, Profile, RegionUrls
from harness.core.clock import NS_PER_S
from harness.core.errors import UnavailableError
from harness.core.listening import Listening
from harness.core.load_rates import Load
from harness.load.plan import LoadPlan, PlanPhase, PlanRegion
from harness.run.load_asked import load_asked, plan_regions

RATES = Load(
    posts_per_s=10,
    edges_per_s=1,
    deletes_per_s=1,
    hides_per_s=1,
    moderations_per_s=1,
    replies_per_s=1,
    likes_per_s=1,
    probes_per_s=1,
    repeats_per_s=1,
)
URLS = PlanRegion(api="http://a", stream="http://a")
UNKNOWN = "expired cursors of load.probes: how long a cursor of target ours is valid is not known"


def plan(*regions: str) -> LoadPlan:
    phases = (PlanPhase("baseline", 0, 30 * NS_PER_S),)
    return LoadPlan(seed=1, run="run", users=9, phases=phases, rates=RATES, regions=dict.fromkeys(regions, URLS))


def target(**capabilities: Any) -> Profile:
    return Profile(name="ours", capabilities=Capabilities(**capabilities), operator_token_file="token")


def test_a_target_that_can_do_all_is_asked_for_all():
    asked = load_asked(plan("a", "b"), target())
    assert asked.rates == RATES
    assert (asked.blocks, asked.lookups, asked.operator_token_file) == (True, True, "token")
    assert asked.probes == ("tampered", "foreign", "other_node")
    assert asked.left_out == (UNKNOWN,)


@pytest.mark.parametrize(
    ("capability", "rate"),
    [
        ("delete", "deletes"),
        ("hide", "hides"),
        ("moderate", "moderations"),
        ("like", "likes"),
        ("idempotency", "repeats"),
    ],
)
def test_what_a_target_lacks_is_left_out_by_name(capability, rate):
    asked = load_asked(plan("a", "b"), target(**{capability: False}))
    assert getattr(asked.rates, f"{rate}_per_s") == 0
    assert msgspec.structs.replace(asked.rates, **{f"{rate}_per_s": 1.0}) == RATES
    assert asked.left_out == (f"load.{rate}: target ours lacks {capability}", UNKNOWN)


def test_nobody_moderates_without_the_operators_token():
    asked = load_asked(plan("a", "b"), msgspec.structs.replace(target(), operator_token_file=""))
    assert asked.rates.moderations_per_s == 0
    assert "load.moderations: the operator token of target ours is not known" in asked.left_out


def test_parts_that_are_left_out():
    asked = load_asked(plan("a"), target(block=False, batch=False))
    assert (asked.blocks, asked.lookups, asked.probes) == (False, False, ("tampered", "foreign"))
    assert set(asked.left_out) == {
        UNKNOWN,
        "blocks of load.edges: target ours lacks block",
        "look-ups of the parents of load.replies: target ours lacks batch",
        "other_node cursors of load.probes: target ours has one region",
    }
    assert load_asked(plan("a"), target(paging=False)).rates.probes_per_s == 0


def test_what_was_not_asked_for_is_not_missed():
    quiet = msgspec.structs.replace(plan("a"), rates=Load(posts_per_s=1))
    asked = load_asked(quiet, msgspec.structs.replace(target(block=False, delete=False), operator_token_file=""))
    assert asked.left_out == ()


def test_expired_cursors_are_tried_when_they_expire_within_the_run():
    asked = load_asked(plan("a", "b"), target(cursor_ttl_s=20.0))
    assert asked.probes == ("tampered", "foreign", "other_node", "expired")
    assert (asked.cursor_ttl_s, asked.left_out) == (20, ())
    late = load_asked(plan("a", "b"), target(cursor_ttl_s=28.5))
    assert "expired" not in late.probes
    assert late.left_out == (
        "expired cursors of load.probes: a cursor of target ours is valid for 28.5 s, longer than the run",
    )


def test_listeners_over_http2_need_an_edge_in_every_region():
    asked = msgspec.structs.replace(plan("a", "b"), listening=Listening(http2=1), listeners=((1, "a"),))
    with pytest.raises(
        UnavailableError, match=r"^listeners\.http2: target ours has no edge over TLS in region a, b; haproxy"
    ):
        load_asked(asked, msgspec.structs.replace(target(), missing=["haproxy"]))
    behind = msgspec.structs.replace(URLS, edge="https://a")
    asked = msgspec.structs.replace(asked, regions={"a": behind, "b": behind})
    assert load_asked(asked, msgspec.structs.replace(target(), ca_file="ca.pem")).ca_file == "ca.pem"


def test_a_plan_knows_every_way_to_a_region():
    urls = RegionUrls(api="http://a", stream="http://s", streams=["http://s", "http://t"], edge="https://e")
    regions = plan_regions(msgspec.structs.replace(target(), regions={"here": urls}))
    expected = PlanRegion(api="http://a", stream="http://s", streams=("http://s", "http://t"), edge="https://e")
    assert regions == {"here": expected}
