"""A damaged graph.db is moved aside and made anew from its copy; what is intact is left alone."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import graph_cases
import pytest

from reference_server.events import GraphEvent
from reference_server.graph.backup import Backup, copy_path, open_store
from reference_server.graph.changes import Applied, Changes
from reference_server.graph.interactions import wall_us
from reference_server.graph.store import GraphStore

Damage = Callable[[Path], None]
FOLLOWS = 3000


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 8192)


def no_database(path: Path) -> None:
    path.write_bytes(b"what is this?" * 1000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


DAMAGES = [truncated, overwritten, no_database, empty, gone]


def applied(changes: Changes, *others: int, first_hlc: int = 1) -> Applied:
    noted = Applied()
    for place, other in enumerate(others):
        assert changes.apply(GraphEvent("follow", 0, first_hlc + place, "us-east", other), noted)
    return noted


def loaded(store: GraphStore, fresh: Changes) -> set[int]:
    store.load(fresh)
    found = set(fresh.follows.out(0, on=True))
    assert all(fresh.follows.into(other, on=True) == [0] for other in found)
    return found


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
async def test_a_damaged_database_is_made_from_its_copy(
    tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    people = graph_cases.population(tmp_path / "p", FOLLOWS + 10, {})
    path, changes = tmp_path / "graph.db", Changes(people)
    store = open_store(path)
    store.commit(changes, applied(changes, *range(1, FOLLOWS)), "7-0")
    backup = Backup(path)
    assert backup.position == ""
    await backup.make()
    assert backup.position == Backup(path).position == "7-0"
    store.commit(changes, applied(changes, FOLLOWS, first_hlc=FOLLOWS), "8-0")
    store.close()
    damage(path)

    with caplog.at_level(logging.ERROR):
        again = open_store(path)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "moved aside, made anew from its copy, goes on behind 7-0" in line
    assert (again.position(), again.existed, again.imports_lost) == ("7-0", True, True)
    assert loaded(again, Changes(people)) == set(range(1, FOLLOWS))
    assert Path(f"{path}.damaged").exists() == (damage is not gone)
    again.imports_lost = False
    again.close()
    intact = open_store(path)
    assert (intact.position(), intact.imports_lost) == ("7-0", False)
    intact.close()


@pytest.mark.parametrize("damage", [truncated, no_database], ids=lambda one: one.__name__)
async def test_a_damaged_copy_is_not_used(tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture) -> None:
    people = graph_cases.population(tmp_path / "p", 20, {})
    path, changes = tmp_path / "graph.db", Changes(people)
    store = open_store(path)
    store.commit(changes, applied(changes, 1, 2), "7-0")
    await Backup(path).make()
    store.close()
    damage(path)
    damage(copy_path(path))
    assert Backup(path).position == ""  # so nothing is trimmed on its word
    with caplog.at_level(logging.ERROR):
        again = open_store(path)
    assert "made anew from the population alone, goes on behind 0-0" in caplog.text
    assert loaded(again, Changes(people)) == set()
    again.close()


async def test_a_torn_log_costs_what_the_stream_still_has(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 20, {})
    path, changes = tmp_path / "graph.db", Changes(people)
    store = open_store(path)
    store.commit(changes, applied(changes, 1), "7-0")
    copied = sqlite3.connect(path)  # keeps the log from being moved into the database
    store.commit(changes, applied(changes, 2, first_hlc=9), "8-0")
    log_file = Path(f"{path}-wal")
    torn = log_file.read_bytes()[:-2000]
    other = tmp_path / "other"
    other.mkdir()
    (other / "graph.db").write_bytes(path.read_bytes())
    (other / "graph.db-wal").write_bytes(torn)
    copied.close()
    store.close()
    again = open_store(other / "graph.db")
    assert again.position() == "7-0"
    assert loaded(again, Changes(people)) == {1}
    again.close()


async def test_a_copy_is_made_while_the_database_is_written_to(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", FOLLOWS + 10, {})
    path, changes = tmp_path / "graph.db", Changes(people)
    store = open_store(path)
    backup = Backup(path)
    making = asyncio.create_task(backup.make())
    for place in range(1, 200):
        store.commit(changes, applied(changes, place, first_hlc=place), f"{place}-0")
        await asyncio.sleep(0)
    await making
    store.close()
    copied = GraphStore(copy_path(path))
    assert copied.position() == backup.position
    upto = int(backup.position.partition("-")[0])
    assert loaded(copied, Changes(people)) == set(range(1, upto + 1))
    copied.close()


async def test_the_copy_has_the_times_of_interactions(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 20, {})
    path, changes = tmp_path / "graph.db", Changes(people)
    store, noted = open_store(path), Applied()
    for user, days in ((1, 29), (2, 3), (3, 31)):
        assert changes.apply(GraphEvent("like", user, graph_cases.days_ago(days, wall_us()), "us-east", 0), noted)
    store.commit(changes, noted, "7-0")
    await Backup(path).make()
    store.close()
    gone(path)
    again, fresh = open_store(path), Changes(people)
    again.load(fresh)
    assert {user: fresh.interactions.last_us(user, 0) for user in (1, 2, 3)} == {
        user: changes.interactions.last_us(user, 0) for user in (1, 2, 3)
    }
    assert set(fresh.interactions.users(0)) == {1, 2}
    again.close()


def test_rows_that_do_not_fit_the_population_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people = graph_cases.population(tmp_path / "p", 20, {})
    store = open_store(tmp_path / "graph.db")
    changes = Changes(people)
    store.commit(changes, applied(changes, 1), "7-0")
    store.close()
    db = sqlite3.connect(tmp_path / "graph.db")
    db.executemany("INSERT INTO follows VALUES (?, ?, 1, 1)", [(0, 99), (5, 5), (-1, 3)])
    db.execute("INSERT INTO readers VALUES (77, 1, 1, 1)")
    db.commit()
    db.close()
    again = open_store(tmp_path / "graph.db")
    assert loaded(again, Changes(people)) == {1}
    assert "4 rows do not fit the population" in caplog.text
    again.close()
