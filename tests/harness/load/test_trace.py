"""Recorded arrivals: how a file is read, what is told about one that is no trace, and how it is played."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.errors import UsageError
from harness.core.load_rates import Load, Trace
from harness.load import trace as trace_module
from harness.load.arrival_kinds import Arrival, ArrivalKind
from harness.load.plan import LoadPlan, PlanRegion
from harness.load.schedule import arrivals, posts, reads
from harness.load.shard import Shard
from harness.load.trace import known, read_trace, too_late

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "evening.csv"
HEADER = "time_s,kind,actor,region,limit\n"


def written(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def trace_of(path: Path, **fields: Any) -> Trace:
    return known(Trace(path=str(path), **fields))


def test_the_example_of_the_docs_is_a_trace() -> None:
    found = trace_of(EXAMPLE)
    assert (found.kinds, found.regions) == (("post", "read"), ("ap-tokyo", "us-east"))
    assert len(list(read_trace(EXAMPLE))) == 12


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (HEADER + "0.5,read,17,us-east,5\n1,post,,,\n", "t.csv"),
        ("\ufeff# recorded\n\n kind , time_s,limit,region,actor\nread,0.5,5,us-east,17\npost,1,,,\n", "t.csv"),
        ('{"time_s":0.5,"kind":"read","actor":17,"region":"us-east","limit":5}\n{"kind":"post","time_s":1}', "t.jsonl"),
        (HEADER + '0.5,"read","17",us-east,5\r\n1,post,,,\r\n', "t.csv.gz"),
    ],
)
def test_formats(tmp_path: Path, text: str, name: str) -> None:
    read, post = read_trace(written(tmp_path, text, name))
    assert (read.time_s, read.kind, read.actor, read.region, read.limit) == (0.5, "read", 17, "us-east", 5)
    assert (post.time_s, post.kind, post.actor, post.region, post.limit) == (1.0, "post", None, "", 50)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("time_s,knid\n", "1: unknown column 'knid' (did you mean 'kind'?)"),
        ("time_s,actor\n", "1: expected a line of column names such as time_s,kind,actor,region,limit, got"),
        ("time_s,kind,kind\n", "1: expected a line of column names"),
        ("0.5,read\n", "1: unknown column '0.5'"),
        (HEADER + "# one\n\n0.5,read\n", "4: expected 5 cells (time_s, kind, actor, region, limit), got '0.5,read'"),
        (HEADER + "soon,read,,,\n", "2: time_s must be a number"),
        (HEADER + "-1,read,,,\n", "2: time_s must be >= 0, got -1"),
        (HEADER + "nan,read,,,\n", "2: time_s must be >= 0, got nan"),
        (HEADER + "inf,read,,,\n", "2: time_s must be >= 0, got inf"),
        (HEADER + "1,raed,,,\n", "2: unknown kind 'raed' (did you mean 'read'?)"),
        (HEADER + "1,edge,,,\n", "2: unknown kind 'edge'"),
        (HEADER + ",read,,,\n", "2: Object missing required field `time_s`"),
        (HEADER + "1,read,-4,,\n", "2: actor must be from 0 to 2^63 - 1, got -4"),
        (HEADER + "1,read,,,51\n", "2: limit must be from 1 to 50, got 51"),
        ('{"time_s": 1}\n', "1: Object missing required field `kind`"),
        (
            '{"time_s": 1, "kind": "read"}\n{"time_s": 1, "kind": "read", "user": 3}\n',
            "2: Object contains unknown field",
        ),
        ('{"time_s": 1, "kind": "read"}\n{"time_s": 1', "2: Input data was truncated"),
        ('{"time_s": 1, "kind": "read"}\n1,read\n', "2: "),
        (HEADER + "1,read,,," + " " * 5000 + "\n", "2: longer than 4,096 characters"),
        (HEADER + "1,re\x00ad,,,\n", "2: "),
    ],
)
def test_each_problem_names_file_and_line(tmp_path: Path, text: str, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as error:
        trace_of(path)
    assert str(error.value).startswith(f"{path}:{problem}")


def test_a_file_without_arrivals_or_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected at least one arrival, found none"):
        trace_of(written(tmp_path, HEADER))
    with pytest.raises(UsageError, match="cannot be read"):
        trace_of(tmp_path / "none.csv")
    cut = tmp_path / "t.csv.gz"
    cut.write_bytes(gzip.compress((HEADER + "1,read,,,\n" * 1000).encode())[:-12])
    with pytest.raises(UsageError, match=r"t\.csv\.gz: cannot be read"):
        trace_of(cut)


@pytest.fixture
def traced(tmp_path: Path, make_plan_of: Any) -> Any:
    """A plan with that trace."""

    def make(lines: str, speed: float = 1.0, rates: Load | None = None, **fields: Any) -> LoadPlan:
        found = trace_of(written(tmp_path, HEADER + lines), speed=speed)
        return make_plan_of(rates=msgspec.structs.replace(rates or Load(), trace=found), **fields)

    return make


def test_arrivals_come_when_the_trace_says_in_order_of_time(traced: Any) -> None:
    plan = traced("1.5,post,3,,\n0,read,1,,5\n0.25,read,2,,\n")
    found = [(a.due_ns / NS_PER_S, a.kind, a.number, a.limit, a.pages) for a in arrivals(plan)]
    assert found == [(0, "read", 0, 5, 1), (0.25, "read", 1, 50, 1), (1.5, "post", 0, 50, 1)]


@pytest.mark.parametrize(("speed", "due_ms", "late"), [(1, [500], 2), (2, [250, 1000], 1), (0.2, [], 3)])
def test_what_comes_after_the_end_is_left_out_and_told(traced: Any, speed: float, due_ms: list[int], late: int) -> None:
    plan = traced("0.5,read,,,\n2,read,,,\n1e300,read,,,\n", speed)
    assert [a.due_ns / NS_PER_MS for a in arrivals(plan)] == due_ms
    assert too_late(plan) == f"{late} of the 3 arrivals of load.trace: they come after the end of the run"


def test_nothing_is_told_of_a_trace_that_is_played_whole(traced: Any, make_plan_of: Any) -> None:
    assert too_late(traced("0.5,read,,,\n")) == ""
    assert too_late(make_plan_of()) == ""


def test_an_actor_is_always_the_same_user(traced: Any) -> None:
    lines = [f"{i / 1000},{kind},{actor},," for i, (kind, actor) in enumerate([("read", 7), ("read", 90210)] * 20)]
    plan = traced("\n".join(lines))
    for parity in (0, 1):
        assert len({(a.actor % 3, a.panel) for a in arrivals(plan)[parity::2]}) == 1


def test_actors_have_the_roles_that_the_population_has(traced: Any) -> None:
    kinds = ["read", "post", "celebrity", "reply", "like"]
    lines = "\n".join(f"{i / 10000},{kind},{i},," for i, kind in enumerate(kinds * 1000))
    played = arrivals(traced(lines))
    share = {kind: sum(a.panel for a in played if a.kind == kind) / 1000 for kind in kinds}
    assert share == pytest.approx({"read": 0.8, "post": 0.25, "celebrity": 0, "reply": 1, "like": 1}, abs=0.05)


def test_who_acts_where_nobody_is_named_is_drawn_by_the_seed(traced: Any) -> None:
    plan = traced("".join(f"{i / 100},read,,,\n" for i in range(50)))
    first, again = arrivals(plan), arrivals(plan)
    assert first == again
    assert len({a.actor for a in first}) == 50
    assert arrivals(msgspec.structs.replace(plan, seed=43)) != first


def test_actors_of_a_region_are_there(traced: Any) -> None:
    regions = {name: PlanRegion(api="http://127.0.0.1:1", stream="") for name in ("east", "west")}
    groups = {name: tuple((first + i, "east" if i % 2 else "west") for i in range(6)) for name, first in GROUPS.items()}
    lines = "".join(
        f"{i / 1000},{'read' if i % 3 else 'post'},{i},{'east' if i % 2 else 'west'},\n" for i in range(120)
    )
    plan = traced(lines, regions=regions, **groups)
    for arrival in arrivals(plan):
        group = group_of(plan, arrival)
        assert group[arrival.actor % len(group)][1] == arrival.region
        assert arrival.region in regions


GROUPS = {"panel": 10, "readers": 20, "posters": 30}


def group_of(plan: LoadPlan, arrival: Arrival) -> tuple[tuple[int, str], ...]:
    if arrival.panel:
        return plan.panel
    return plan.readers if arrival.kind is ArrivalKind.READ else plan.posters


def test_a_region_in_which_nobody_acts_leaves_the_actor_as_it_is(traced: Any) -> None:
    [read] = arrivals(traced("0,read,5,elsewhere,\n"))
    assert (read.actor, read.region) == (5, "elsewhere")


def test_a_trace_comes_beside_the_rates_and_moves_none_of_their_arrivals(traced: Any) -> None:
    rates = Load(reads_per_s=40, posts_per_s=20, deletes_per_s=2)
    plan = traced("".join(f"{i / 50},{'read' if i % 2 else 'post'},,,\n" for i in range(60)), rates=rates, seconds=10.0)
    alone = msgspec.structs.replace(plan, rates=rates)
    both = arrivals(plan)
    assert [a for a in both if a.kind is ArrivalKind.READ and a.number < len(reads(alone))] == reads(alone)
    assert [a for a in both if a.kind is ArrivalKind.POST and a.number < len(posts(alone))] == posts(alone)
    counts = Counter((a.kind, a.number) for a in both)
    assert max(counts.values()) == 1, "no number twice within a kind"
    assert (
        len(both) - len([a for a in both if a.kind is ArrivalKind.DELETE]) == len(reads(alone)) + len(posts(alone)) + 60
    )


def test_kinds_that_the_target_cannot_take_are_not_played(traced: Any) -> None:
    plan = traced("0,read,1,,\n0,like,1,,\n")
    trace = msgspec.structs.replace(plan.rates.trace, kinds=("read",))
    without = msgspec.structs.replace(plan, rates=msgspec.structs.replace(plan.rates, trace=trace))
    assert [a.kind for a in arrivals(without)] == ["read"]


def test_processes_share_a_trace_out_between_them(traced: Any) -> None:
    plan = traced("".join(f"{i / 100},read,{i * 13},,\n" for i in range(100)))
    parts = [Shard(plan, index, 3).of(arrivals(plan)) for index in range(3)]
    assert sorted(a.number for part in parts for a in part) == list(range(100))
    assert min(len(part) for part in parts) > 10


def test_too_many_arrivals_within_a_run_are_an_error(traced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = traced("0,read,,,\n" * 4 + "99,read,,,\n" * 4)
    monkeypatch.setattr(trace_module, "MOST_ARRIVALS", 4)
    assert len(arrivals(plan)) == 4
    monkeypatch.setattr(trace_module, "MOST_ARRIVALS", 3)
    with pytest.raises(UsageError, match="more than 3 arrivals within the run"):
        arrivals(plan)


def test_a_trace_in_the_run_directory_is_named_by_its_name_alone(traced: Any, tmp_path: Path) -> None:
    plan = traced("0,read,,,\n")
    written(tmp_path / "run", HEADER + "0.1,post,,,\n", "trace.csv")
    trace = msgspec.structs.replace(plan.rates.trace, path="trace.csv", kinds=("post",))
    kept = msgspec.structs.replace(plan, rates=msgspec.structs.replace(plan.rates, trace=trace))
    assert [a.kind for a in arrivals(kept)] == ["post"]
