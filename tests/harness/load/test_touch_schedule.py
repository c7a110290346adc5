"""Which posts are deleted, hidden, moderated or sent again: old enough ones, each once at most."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from harness.core.clock import NS_PER_S
from harness.core.load_rates import Load
from harness.load.arrival_kinds import TOUCHES, ArrivalKind
from harness.load.schedule import arrivals, posts
from harness.load.touch_schedule import HIDDEN_S, REPEAT_AGE_S, TOUCH_AGE_S, repeats, touches

RATES = Load(posts_per_s=20, deletes_per_s=2, hides_per_s=2, moderations_per_s=1, repeats_per_s=3)


@pytest.fixture
def plan(make_plan_of: Any) -> Any:
    return make_plan_of(rates=RATES, seconds=90.0)


def test_a_post_is_touched_once_and_not_before_it_was_there_for_a_while(plan: Any) -> None:
    due = {post.number: post.due_ns for post in posts(plan)}
    found = [touch for touch in touches(plan, posts(plan)) if touch.kind in TOUCHES]
    assert len({touch.target for touch in found}) == len(found)
    assert all(touch.due_ns - due[touch.target] >= TOUCH_AGE_S * NS_PER_S for touch in found)
    counts = Counter(touch.kind for touch in found)
    assert counts[ArrivalKind.DELETE] == pytest.approx(2 * 90, rel=0.25)
    assert counts[ArrivalKind.MODERATE] == pytest.approx(90, rel=0.35)
    assert len(found) < len(due) / 2, "most posts are left alone"


def test_what_is_hidden_is_shown_again_unless_the_run_ends_before(plan: Any) -> None:
    found = touches(plan, posts(plan))
    back = {touch.target: touch for touch in found if touch.kind in (ArrivalKind.SHOW, ArrivalKind.LIFT)}
    for touch in found:
        if touch.kind not in (ArrivalKind.HIDE, ArrivalKind.MODERATE):
            continue
        again = back.pop(touch.target, None)
        if again is None:
            assert touch.due_ns > plan.end_ns - HIDDEN_S[1] * NS_PER_S
        else:
            assert HIDDEN_S[0] <= (again.due_ns - touch.due_ns) / NS_PER_S <= HIDDEN_S[1]
            assert (again.kind is ArrivalKind.LIFT) == (touch.kind is ArrivalKind.MODERATE)
    assert not back


def test_only_posts_that_nothing_touches_are_sent_again(plan: Any) -> None:
    written = posts(plan)
    touched = {touch.target for touch in touches(plan, written)}
    again = repeats(plan, written, touched)
    due = {post.number: post.due_ns for post in written}
    assert len(again) == pytest.approx(3 * 90, rel=0.2)
    assert not touched & {repeat.target for repeat in again}
    assert all(repeat.due_ns - due[repeat.target] >= REPEAT_AGE_S * NS_PER_S for repeat in again)


def test_without_posts_there_is_nothing_to_touch(plan: Any) -> None:
    assert touches(plan, []) == []
    assert repeats(plan, [], set()) == []


def test_changes_begin_with_the_first_phase(plan: Any) -> None:
    kinds = {*TOUCHES, ArrivalKind.SHOW, ArrivalKind.LIFT, ArrivalKind.REPEAT}
    assert min(a.due_ns for a in arrivals(plan) if a.kind in kinds) >= 0
