"""graph.db gives back what was committed, with its position."""

from __future__ import annotations

from pathlib import Path

import graph_cases

from reference_server.events import GraphEvent
from reference_server.graph.changes import Applied, Changes
from reference_server.graph.store import GraphStore, checkpoint


def test_round_trip(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 6, {0: [1, 2, 3]}, joined="none")
    changes, applied = Changes(people), Applied()
    for hlc, (verb, user, other) in enumerate(
        [("join", 0, -1), ("follow", 0, 4), ("follow", 1, 4), ("unfollow", 0, 1), ("block", 2, 0), ("like", 0, 3)]
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
    assert found.likes_in == changes.likes_in
    again.close()


def test_changes_without_a_position_keep_the_position(tmp_path: Path) -> None:
    changes = Changes(graph_cases.population(tmp_path / "p", 2, {}))
    store = GraphStore(tmp_path / "graph.db")
    store.commit(changes, Applied(), "5-0")
    store.commit(changes, Applied(), None)
    assert store.position() == "5-0"
    store.close()
