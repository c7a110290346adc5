"""Who does what, and when: members, plans, arrivals, sessions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from harness.core.clock import NS_PER_S
from harness.core.errors import UsageError
from harness.core.listening import Habit, Listening
from harness.core.scenario import Load, Phase, Scenario
from harness.core.scenario import Population as Spec
from harness.load.arrival_kinds import ArrivalKind
from harness.load.members import choose_habits, home_region, make_plan, plan_users
from harness.load.plan import LoadPlan, PlanRegion, read_plan, write_plan, write_tokens
from harness.load.population import Population, make_population
from harness.load.schedule import arrivals
from harness.load.sessions import MAX_PAGES, MOST_PARENTS, Roster, Session
from harness.load.wire import Item
from harness.record.run_directory import RunDirectory

REGIONS = {name: PlanRegion(api=f"http://{name}", stream=f"http://{name}") for name in ("us-east", "ap-tokyo")}
SPEC = Spec(users=2000, mean_follows=20, celebrities=(1000, 600), panel=50, listeners=201, fetch_ratio=0.1)
LOAD = Load(posts_per_s=40, reads_per_s=170, celebrity_posts_per_s=0.2)
BUSY = Load(
    posts_per_s=40,
    reads_per_s=170,
    edges_per_s=4,
    deletes_per_s=2,
    hides_per_s=2,
    moderations_per_s=1,
    replies_per_s=3,
    likes_per_s=3,
    probes_per_s=3,
    repeats_per_s=2,
)
PHASES = (Phase(name="baseline", duration_s=15), Phase(name="fault", duration_s=20))


@pytest.fixture(scope="module")
def population() -> Population:
    return make_population(SPEC, 42)


def plan_of(population: Population, spec: Spec = SPEC, load: Load = LOAD, seed: int = 42) -> LoadPlan:
    scenario = Scenario(name="x", about="x", phases=PHASES, population=spec, load=load, seed=seed)
    return make_plan(scenario, population, REGIONS, RunDirectory(Path("run")), Path("tokens.json"))


def test_everybody_acts_at_home(population: Population) -> None:
    plan = plan_of(population)
    members = [*plan.panel, *plan.posters, *plan.readers, *plan.listeners, *plan.celebrities]
    assert all(region == home_region(user, tuple(REGIONS)) for user, region in members)
    assert len(plan_users(plan)) == len({user for user, _ in members})


def test_groups(population: Population) -> None:
    plan = plan_of(population)
    panel, posters, readers, celebrities = (
        {user for user, _ in group} for group in (plan.panel, plan.posters, plan.readers, plan.celebrities)
    )
    assert (len(panel), len(posters), celebrities) == (50, 200, {0, 1})
    assert not panel & posters
    assert not panel & readers
    assert not celebrities & (panel | posters | readers)
    assert Counter(region for _, region in plan.panel) == {"us-east": 25, "ap-tokyo": 25}
    counts = population.follower_counts
    assert counts[sorted(posters)].mean() > 1.3 * np.median(counts), "posters have more followers than average"


def test_listeners_follow_celebrities_as_everybody_does(population: Population) -> None:
    listeners = plan_of(population).listeners
    assert len(listeners) == len({user for user, _ in listeners}) == 201
    split = Counter(region for _, region in listeners)
    assert abs(split["us-east"] - split["ap-tokyo"]) <= 2
    fans = np.union1d(population.followers_of(0), population.followers_of(1))
    share = np.isin([user for user, _ in listeners], fans).mean()
    assert share == pytest.approx(len(fans) / population.users, abs=0.01)


def test_each_listener_has_at_most_one_habit_and_the_shares_are_met() -> None:
    listening = Listening(http2=7, slow_ratio=0.1, stalled_ratio=0.2, half_open_ratio=0.05)
    users = range(1000, 1200)
    habits = choose_habits(users, listening, 42)
    assert Counter(habits.values()) == {Habit.HTTP2: 7, Habit.SLOW: 20, Habit.STALLED: 40, Habit.HALF_OPEN: 10}
    assert set(habits) <= set(users)
    assert habits == choose_habits(users, listening, 42) != choose_habits(users, listening, 43)
    assert choose_habits(users, Listening(), 42) == {}


def test_many_users_have_at_most_400_posters() -> None:
    spec = Spec(users=6000, mean_follows=3)
    assert len(plan_of(make_population(spec, 1), spec).posters) == 400


def test_groups_without_load_stay_empty(population: Population) -> None:
    plan = plan_of(population, load=Load())
    assert (plan.posters, plan.readers, plan.celebrities) == ((), (), ())
    assert arrivals(plan) == []


JOINING = Spec(
    users=2000,
    mean_follows=20,
    celebrities=(1000,),
    late_celebrities=(900, 800, 700),
    hyper_followers=(300, 200, 100),
    newcomers=100,
    panel=50,
    listeners=201,
)
JOIN = Load(posts_per_s=40, reads_per_s=170, celebrity_posts_per_s=2, signups_per_s=2, celebrity_signups_per_s=0.1)


@pytest.fixture(scope="module")
def joining() -> LoadPlan:
    return plan_of(make_population(JOINING, 42), JOINING, JOIN)


def test_who_joins_late_does_nothing_before(joining: LoadPlan) -> None:
    late = {1, 2, 3, *range(1900, 2000)}
    assert not late & plan_users(joining).keys()
    assert [user for user, _ in joining.late_celebrities] == [1, 2, 3]
    signups = [a for a in arrivals(joining) if a.kind is ArrivalKind.SIGNUP]
    assert {a.actor for a in signups} <= late
    assert len({a.number for a in signups}) == len(signups)
    assert len({a.actor for a in signups if a.actor >= 1900}) == len([a for a in signups if a.actor >= 1900]) > 40


def test_late_celebrities_sign_up_in_turn_and_post_from_then_on(joining: LoadPlan) -> None:
    planned = arrivals(joining)
    joined = {a.actor: a.due_ns / NS_PER_S for a in planned if a.kind is ArrivalKind.SIGNUP and a.actor < 1900}
    assert joined == {1: 10, 2: 20, 3: 30}
    posts = [a for a in planned if a.kind is ArrivalKind.CELEBRITY]
    first = {actor: min(a.due_ns / NS_PER_S for a in posts if a.actor == actor) for actor in range(4)}
    assert first[0] < 0
    assert all(2 <= first[user] - joined[user] <= 2 + 2 for user in (1, 2, 3)), "at his first turn"
    assert [a.number for a in posts] == list(range(len(posts)))


def test_nobody_posts_as_a_celebrity_before_the_first_has_joined() -> None:
    spec = msgspec.structs.replace(JOINING, celebrities=())
    posts = [a for a in arrivals(plan_of(make_population(spec, 42), spec, JOIN)) if a.kind is ArrivalKind.CELEBRITY]
    assert min(a.due_ns for a in posts) == 12 * NS_PER_S
    assert [a.actor for a in posts[:10]] == [0] * 10


def test_hyper_followers_read_and_half_of_them_listen(joining: LoadPlan) -> None:
    assert [user for user, _ in joining.panel][:3] == [4, 5, 6]
    assert len({user for user, _ in joining.panel}) == 50
    assert {4, 5, 6} & {user for user, _ in joining.listeners} == {4, 5}
    assert len(joining.listeners) == 201
    assert not {4, 5, 6} & {user for user, _ in (*joining.posters, *joining.readers)}


def test_same_seed_same_plan_and_arrivals(population: Population) -> None:
    first, again, other = (plan_of(population, seed=seed) for seed in (42, 42, 43))
    assert first == again
    assert arrivals(first) == arrivals(again)
    assert first.panel != other.panel


def test_same_seed_same_changes(population: Population) -> None:
    first, again, other = (plan_of(population, load=BUSY, seed=seed) for seed in (42, 42, 43))
    assert first.edge_pairs == again.edge_pairs != other.edge_pairs
    assert arrivals(first) == arrivals(again) != arrivals(other)


def test_further_ops_leave_the_others_as_they_were(population: Population) -> None:
    plain = plan_of(population, load=Load(posts_per_s=40, reads_per_s=170))
    busy = arrivals(plan_of(population, load=BUSY))
    assert [a for a in busy if a.kind in (ArrivalKind.READ, ArrivalKind.POST)] == arrivals(plain)


def test_changes_come_at_their_rates(population: Population) -> None:
    plan = plan_of(population, load=BUSY)
    counts = Counter(a.kind for a in arrivals(plan))
    seconds = plan.end_ns / NS_PER_S
    for kind, rate in ((ArrivalKind.REPLY, 3), (ArrivalKind.LIKE, 3), (ArrivalKind.PROBE, 3), (ArrivalKind.EDGE, 4)):
        assert counts[kind] == pytest.approx(rate * seconds, rel=0.3)
    variants = Counter(a.variant for a in arrivals(plan) if a.kind is ArrivalKind.PROBE)
    assert set(variants) == set(plan.probes)
    assert max(variants.values()) - min(variants.values()) <= 1


def test_phases_start_with_the_warm_up(population: Population) -> None:
    plan = plan_of(population)
    assert [(p.name, p.start_ns // NS_PER_S, p.end_ns // NS_PER_S) for p in plan.phases] == [
        ("warmup", -5, 0),
        ("baseline", 0, 15),
        ("fault", 15, 35),
    ]


def test_arrivals_have_the_promised_mix(population: Population) -> None:
    plan = plan_of(population)
    due = arrivals(plan)
    assert [a.due_ns for a in due] == sorted(a.due_ns for a in due)
    assert plan.start_ns <= due[0].due_ns
    assert due[-1].due_ns < plan.end_ns
    reads = [a for a in due if a.kind is ArrivalKind.READ]
    posts = [a for a in due if a.kind is ArrivalKind.POST]
    assert len(reads) == pytest.approx(170 * 40, rel=0.05)
    assert len(posts) == pytest.approx(40 * 40, rel=0.1)
    assert sum(a.panel for a in reads) / len(reads) == pytest.approx(0.8, abs=0.02)
    assert sum(a.panel for a in posts) / len(posts) == pytest.approx(0.25, abs=0.04)
    assert {a.limit for a in reads} == {5, 50}
    assert {a.pages for a in reads} == {0, 1, 2, 3}
    assert all((a.limit, a.pages) == (50, 1) for a in reads if not a.panel)
    celebrity = [a for a in due if a.kind is ArrivalKind.CELEBRITY]
    assert [a.due_ns // NS_PER_S for a in celebrity] == [0, 5, 10, 15, 20, 25, 30]
    assert [a.actor for a in celebrity] == [0, 1, 0, 1, 0, 1, 0]


def test_everybody_signs_up_once_on_the_curve() -> None:
    spec = Spec(users=500, mean_follows=5, joined="none")
    plan = plan_of(make_population(spec, 1), spec, Load(signup_curve=True, reads_per_s=10))
    joins = [a for a in arrivals(plan) if a.kind is ArrivalKind.SIGNUP]
    assert sorted(a.actor for a in joins) == list(range(500))
    assert joins[0].due_ns >= 0
    assert joins[-1].due_ns < plan.end_ns
    assert (plan.readers, plan.posters) == ((), ())


def test_signups_at_a_rate_end_when_everybody_has_joined() -> None:
    spec = Spec(users=100, mean_follows=5, joined="none")
    plan = plan_of(make_population(spec, 1), spec, Load(signups_per_s=50))
    assert len(arrivals(plan)) == 100


def test_one_group_takes_all_when_the_other_is_empty(make_plan_of: Any) -> None:
    rates = Load(posts_per_s=50, reads_per_s=50)
    assert all(a.panel for a in arrivals(make_plan_of(rates=rates, readers=(), posters=())))
    assert not any(a.panel for a in arrivals(make_plan_of(rates=rates, panel=())))


def test_plan_file(tmp_path: Path, population: Population) -> None:
    plan = plan_of(population)
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan
    (tmp_path / "plan.json").write_text('{"seed": "x"}')
    with pytest.raises(UsageError, match="not a load plan"):
        read_plan(tmp_path / "plan.json")


def test_tokens_are_private(tmp_path: Path, make_plan_of: Any) -> None:
    path = tmp_path / "tokens.json"
    path.write_text("{}")
    write_tokens(path, {1: "a", 20: "b"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert msgspec.structs.replace(make_plan_of(), tokens=str(path)).read_tokens() == {1: "a", 20: "b"}
    assert make_plan_of().read_tokens() == {}


def walked(session: Session, limit: int, pages: int, cursor: str) -> tuple[int, int, int, str]:
    session.begin_page(limit, pages)
    begun = (session.walk, session.page, session.limit, session.cursor)
    session.end_page(cursor)
    return begun


def test_a_walk_goes_on_by_cursor_for_its_pages() -> None:
    session = Session("s", 1, "us-east")
    assert walked(session, 5, 3, "c1") == (1, 0, 5, "")
    assert walked(session, 50, 1, "c2") == (1, 1, 5, "c1")
    assert walked(session, 50, 1, "c3") == (1, 2, 5, "c2")
    assert walked(session, 50, 1, "c4") == (2, 0, 50, "")


def test_a_walk_ends_with_its_feed_a_post_or_a_failure() -> None:
    session = Session("s", 1, "us-east")
    walked(session, 5, 3, "")
    assert walked(session, 50, 2, "c") == (2, 0, 50, "")
    session.end_walk()
    assert walked(session, 5, 2, "c") == (3, 0, 5, "")


def test_a_full_walk_is_bounded() -> None:
    session = Session("s", 1, "us-east")
    pages = [walked(session, 50, 0, "more")[1] for _ in range(MAX_PAGES + 1)]
    assert pages == [*range(MAX_PAGES), 0]


def test_a_roster_lends_each_session_once() -> None:
    roster = Roster("p-", ((7, "us-east"), (8, "ap-tokyo")))
    first, second = roster.take(5), roster.take(5)
    assert (first.name, second.name) == ("p-8", "p-7")
    roster.give_back(second)
    assert roster.take(1) is second


def test_a_busy_roster_opens_one_more_client_of_the_user() -> None:
    roster = Roster("p-", ((7, "us-east"),))
    sessions = [roster.take(0) for _ in range(3)]
    assert [s.name for s in sessions] == ["p-7", "p-7+1", "p-7+2"]
    assert {(s.user, s.region) for s in sessions} == {(7, "us-east")}
    for session in sessions:
        roster.give_back(session)
    assert roster.take(0) is sessions[0]
    assert not Roster("p-", ())


def test_a_roster_lends_the_session_that_fits() -> None:
    roster = Roster("p-", ((7, "us-east"), (8, "ap-tokyo"), (9, "us-east")))
    taken = roster.take_fitting(1, lambda session: session.region == "us-east")
    assert taken is not None
    assert taken.user == 9
    assert roster.take_fitting(0, lambda session: session.user == 9) is None, "it is busy"
    assert roster.take_fitting(0, lambda session: False) is None


def test_a_roster_lends_a_user_his_session_or_one_more_client() -> None:
    roster = Roster("p-", ((7, "us-east"), (8, "ap-tokyo")))
    names = [session.name for session in (roster.take_user(8), roster.take_user(8)) if session]
    assert names == ["p-8", "p-8+1"]
    assert roster.take_user(99) is None


def test_no_expired_cursor_is_tried_before_one_can_be(make_plan_of: Any) -> None:
    plan = make_plan_of(
        rates=Load(probes_per_s=20), seconds=20.0, cursor_ttl_s=8.0, probes=("tampered", "foreign", "expired")
    )
    tried = [probe.due_ns for probe in arrivals(plan) if probe.variant == "expired"]
    assert 10 * NS_PER_S <= tried[0] < 12 * NS_PER_S
    assert len(tried) == pytest.approx(10 * 20 / 3, rel=0.3)


def page_of(*posts: tuple[str, str | None]) -> list[Item]:
    return [Item(id=post, author="1", created_at_us=1, text="", reply_to=parent) for post, parent in posts]


def test_the_parent_of_a_reply_is_looked_up_once() -> None:
    session = Session("s", 1, "us-east")
    session.shown = page_of(("a", None), ("b", "parent"), ("c", "parent"), ("d", "gone"))
    assert session.next_parents({"parent"}.__contains__) == ["parent"]
    assert session.next_parents({"parent"}.__contains__) == []
    assert session.next_parents({"parent", "gone"}.__contains__) == ["gone"]


def test_a_page_full_of_replies_has_its_newest_looked_up_first() -> None:
    session = Session("s", 1, "us-east")
    session.shown = page_of(*((f"reply-{i}", f"parent-{i}") for i in range(MOST_PARENTS + 2)))
    assert session.next_parents(lambda _: True) == [f"parent-{i}" for i in range(MOST_PARENTS)]
    assert session.next_parents(lambda _: True) == [f"parent-{i}" for i in range(MOST_PARENTS, MOST_PARENTS + 2)]
