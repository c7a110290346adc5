"""Each engine reads its own part of a plan, and all of them together read the whole."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_stub import make_plan

from harness.core.errors import UsageError
from harness.core.listening import Habit
from harness.load.own_part import read_own_plan, read_own_tokens
from harness.load.plan import LoadPlan, PlanPhase, read_plan, write_plan, write_tokens

regions = st.text(min_size=1, max_size=6)
members = st.lists(st.tuples(st.integers(0, 1 << 40), regions), max_size=40, unique_by=lambda member: member[0])


def whole(listeners: list[tuple[int, str]], folder: Path, **fields: object) -> LoadPlan:
    plain = LoadPlan(seed=1, run=str(folder), users=9, phases=(PlanPhase("warmup", -1, 0),), regions={})
    return msgspec.structs.replace(plain, listeners=tuple(listeners), **fields)


@given(members, st.integers(1, 4))
def test_the_parts_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, listeners: list[tuple[int, str]], count: int
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    habits = {user: Habit.SLOW for user, _ in listeners[::3]}
    plan = whole(listeners, folder, habits=habits, left_out=("a", '["b"]'))
    write_plan(folder / "plan.json", plan)
    for index in range(count):
        own = plan.listeners[index::count]
        mine = {user: habit for user, habit in habits.items() if user in dict(own)}
        expected = msgspec.structs.replace(read_plan(folder / "plan.json"), listeners=own, habits=mine)
        assert read_own_plan(folder / "plan.json", index, count) == expected


@given(st.dictionaries(st.integers(0, 1 << 40), st.text(max_size=12), max_size=30))
def test_tokens_are_read_whatever_is_in_them(tmp_path_factory: pytest.TempPathFactory, tokens: dict[int, str]) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder / "tokens.json", tokens)
    own = {user: token for place, (user, token) in enumerate(tokens.items()) if place % 2}
    plan = whole([(user, "here") for user in [*own, 1 << 50]], folder, tokens=str(folder / "tokens.json"))
    assert read_own_tokens(plan) == own
    assert read_own_tokens(msgspec.structs.replace(plan, tokens="")) == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'[0,"here"]', b'["0","here"]'),
        (b'[0,"here"]', b"0"),
        (b'"listeners":[', b'"listeners":[[],'),
        (b'"seed":42', b'"seed":"42"'),
        (b"{", b""),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "plan.json"
    write_plan(path, make_plan(tmp_path, "http://127.0.0.1:1", 3))
    path.write_bytes(path.read_bytes().replace(before, after, 1))
    with pytest.raises(UsageError, match="not a load plan"):
        read_own_plan(path, 0, 1)
