"""graph.db gives back what was committed, with its position."""

from __future__ import annotations

from pathlib import Path

import graph_cases
from graph_cases import DAY_US, NOW_US, days_ago

from reference_server.events import GraphEvent, Reader
from reference_server.graph.changes import Applied, Changes
from reference_server.graph.interactions import SLOT_US, Interactions, wall_us
from reference_server.graph.store import GraphStore, checkpoint
from reference_server.seeding import Population


def test_round_trip(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 6, {0: [1, 2, 3]}, joined="none")
    changes, applied = Changes(people), Applied()
    for hlc, (verb, user, other) in enumerate(
        [("join", 0, -1), ("follow", 0, 4), ("follow", 1, 4), ("unfollow", 0, 1), ("block", 2, 0), ("like", 0, 3)],
        start=days_ago(1, wall_us()),
    ):
        assert changes.apply(GraphEvent(verb, user, hlc, "us-east", other), applied)
    changes.cover(0, 0, 2, applied)
    store = GraphStore(tmp_path / "graph.db")
    assert (store.existed, store.position()) == (False, "0-0")
    store.commit(changes, applied, "17-3")
    checkpoint(store.path)
    store.close()

    again, found = GraphStore(tmp_path / "graph.db"), Changes(people)
    again.load(found)
    assert (again.existed, again.position()) == (True, "17-3")
    assert found.joined.tolist() == [True] + [False] * 5
    assert found.covered.tolist() == [2, 0, 0, 0, 0, 0]
    assert found.follows.outgoing == changes.follows.outgoing
    assert found.follows.incoming == changes.follows.incoming
    assert found.blocks.outgoing == changes.blocks.outgoing
    for pair in ((0, 4), (1, 4), (0, 3)):
        assert found.interactions.last_us(*pair) == changes.interactions.last_us(*pair) > 0
    assert found.interactions.count == 3
    again.close()


class Life:
    """One life of a graph service at a moment: its state, loaded."""

    def __init__(self, path: Path, people: Population, now_us: int) -> None:
        self.store, self.changes = GraphStore(path), Changes(people, Interactions(lambda: now_us))
        self.store.load(self.changes)

    def apply(self, verb: str, user: int, other: int, hlc: int) -> None:
        applied = Applied()
        assert self.changes.apply(GraphEvent(verb, user, hlc, "us-east", other), applied)
        self.store.commit(self.changes, applied, "1-0")

    def likes(self) -> set[tuple[int, int]]:
        return set(self.store._db.execute("SELECT user, other FROM likes"))


def test_interactions_count_on_in_the_next_life(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 9, {})
    life = Life(tmp_path / "graph.db", people, NOW_US)
    life.apply("like", 1, 0, days_ago(29))
    life.apply("like", 2, 0, days_ago(29))
    life.apply("like", 2, 0, days_ago(3))
    life.apply("follow", 3, 0, days_ago(29))
    life.apply("follow", 4, 0, days_ago(3))
    life.apply("like", 5, 0, days_ago(31))
    life.store.close()
    same = Life(tmp_path / "graph.db", people, NOW_US)
    assert set(same.changes.interactions.users(0)) == {1, 2, 3, 4}
    same.store.close()
    later = Life(tmp_path / "graph.db", people, NOW_US + 2 * DAY_US)
    assert set(later.changes.interactions.users(0)) == {2, 4}
    assert later.likes() == {(2, 0)}, "what was over is not stored any more"
    later.store.close()


def test_what_ended_is_deleted(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 9, {})
    life = Life(tmp_path / "graph.db", people, NOW_US)
    for user in (1, 2):
        life.apply("like", user, 0, days_ago(29 + user / 4))
    life.changes.interactions._now_us = lambda: NOW_US + DAY_US // 2 + SLOT_US
    applied = Applied()
    assert not life.changes.end_interactions(10, applied)
    life.store.commit(life.changes, applied)
    assert life.likes() == {(1, 0)}
    life.store.close()


def test_no_more_are_stored_than_are_kept(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 9, {})
    store, changes = GraphStore(tmp_path / "graph.db"), Changes(people, Interactions(lambda: NOW_US, kept=2))
    applied = Applied()
    for user in (1, 2, 3, 1, 4):
        assert changes.apply(GraphEvent("like", user, days_ago(5 - user), "us-east", 0), applied)
    store.commit(changes, applied, "1-0")
    assert set(store._db.execute("SELECT user FROM likes")) == {(3,), (4,)}
    store.close()


def test_likes_of_a_version_without_times_count_from_now_on(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 9, {})
    store = GraphStore(tmp_path / "graph.db")
    store._db.executescript(
        "DROP TABLE likes; CREATE TABLE likes (user INTEGER, other INTEGER, PRIMARY KEY (user, other)) WITHOUT ROWID;"
        "INSERT INTO likes VALUES (1, 0), (2, 0)"
    )
    store.close()
    before_us = wall_us()
    for shift_days, hot in ((0, {1, 2}), (29, {1, 2}), (31, set())):
        now_us = wall_us() + shift_days * DAY_US
        life = Life(tmp_path / "graph.db", people, now_us)
        assert set(life.changes.interactions.users(0)) == hot
        assert all(life.changes.interactions.last_us(user, 0) >= before_us for user in hot)
        life.store.close()


def test_what_users_said_is_found_again(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 9, {})
    changes, applied = Changes(people), Applied()
    for user, hlc, other, mask in ((1, 5, Reader.MINOR, 1), (1, 4, Reader.SAFE_MODE, 2), (2, 5, 0, 3)):
        assert changes.apply(GraphEvent("profile", user, hlc, "us-east", other, mask), applied)
    store = GraphStore(tmp_path / "graph.db")
    store.commit(changes, applied, "1-0")
    store.close()
    again, found = GraphStore(tmp_path / "graph.db"), Changes(people)
    again.load(found)
    assert found.readers.outgoing == changes.readers.outgoing
    assert [found.reader(user) for user in (1, 2, 3)] == [Reader.MINOR | Reader.SAFE_MODE, 0, 0]
    again.close()


def test_what_users_said_to_a_version_with_one_clock_holds(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 9, {})
    store = GraphStore(tmp_path / "graph.db")
    store._db.executescript(
        "CREATE TABLE profiles (user INTEGER PRIMARY KEY, hlc INTEGER NOT NULL, reader INTEGER NOT NULL);"
        "INSERT INTO profiles VALUES (1, 7, 1), (2, 7, 3)"
    )
    store.close()
    for _ in range(2):
        again, found = GraphStore(tmp_path / "graph.db"), Changes(people)
        again.load(found)
        assert [found.reader(user) for user in (1, 2, 3)] == [Reader.MINOR, Reader.MINOR | Reader.SAFE_MODE, 0]
        assert {value.hlc for row in found.readers.outgoing.values() for value in row.values()} == {7}
        again.close()


def test_changes_without_a_position_keep_the_position(tmp_path: Path) -> None:
    changes = Changes(graph_cases.population(tmp_path / "p", 2, {}))
    store = GraphStore(tmp_path / "graph.db")
    store.commit(changes, Applied(), "5-0")
    store.commit(changes, Applied(), None)
    assert store.position() == "5-0"
    store.close()
