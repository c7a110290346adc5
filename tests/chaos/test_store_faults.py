"""What is particular to the faults on stores: what they refuse, what they leave alone, who is gone before the undo."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from chaos_targets import Case, Target, end, free_port, make_case, talk, wait_for
from rocksdict import Rdict
from store_targets import (
    ENTRIES,
    RECORDS,
    cache_keys,
    can_write,
    disk_target,
    durable_target,
    fill_cache,
    log_target,
    queue_target,
    write_reply,
)

from chaos.addresses import unready
from chaos.faults import KINDS
from chaos.handles import parse_handle
from chaos.kind import FaultError, parse_parameters
from chaos.rocksdb_log import BLOCK_BYTES, databases, newest_log, record_ends, torn_bytes

pytestmark = pytest.mark.slow
OPEN_LOG = "import sys, rocksdict; log = rocksdict.Rdict(sys.argv[1]); log[1] = 'one'; print(flush=True); input()"


def planned(case: Case | Target, kind_name: str = "", **params: Any) -> tuple[Any, Any]:
    name, target = (case.kind, case.target) if isinstance(case, Case) else (kind_name, case)
    parsed, problems = parse_parameters(KINDS[name], params)
    assert not problems, problems
    return KINDS[name], KINDS[name].plan(parse_handle(target.name, target.handle), parsed)


def behind_toxiproxy(link: Target, port: int) -> str:
    """Another address of the store at `port`: the proxy "store", which hangs up when it cannot reach its upstream."""
    return link.server.create_proxy("store", f"127.0.0.1:{free_port()}", f"127.0.0.1:{port}").listen


def kill_for_good(target: Target) -> None:
    """Its supervisor ends too, so nobody starts it again."""
    end(target.supervisor)
    wait_for(lambda: target.leader is None, what="it is gone")


# --- the durable store


def test_a_locked_store_is_read_and_gets_no_writes(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = durable_target(request, tmp_path)
    kind, plan = planned(target, "durable-lock")
    kind.inject(plan)
    reader = sqlite3.connect(target.handle["durable"], timeout=0)
    assert reader.execute("SELECT count(*) FROM posts").fetchone() == (0,)
    reader.close()
    kind.undo(plan)


def test_the_lock_waits_for_a_transaction_of_the_target(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = durable_target(request, tmp_path)
    writer = sqlite3.connect(target.handle["durable"], isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    kind, plan = planned(target, "durable-lock")
    with pytest.raises(FaultError, match="database is locked"):
        kind.inject(plan)
    assert "written to by its owner" in kind.undo(plan)
    writer.execute("ROLLBACK")
    writer.close()


def test_what_is_no_store_is_refused(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = durable_target(request, tmp_path)
    for name, content in (("none.db", None), ("text.db", b"no database at all" * 100)):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        target.handle["durable"] = str(path)
        with pytest.raises(FaultError, match="cannot be read as an SQLite file"):
            planned(target, "durable-lock")
        assert path.exists() == (content is not None)


def test_a_store_that_is_gone_needs_no_undo(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = durable_target(request, tmp_path)
    kind, plan = planned(target, "durable-lock")
    kind.inject(plan)
    Path(target.handle["durable"]).unlink()
    assert "the store itself is gone" in kind.undo(plan)


def test_a_slow_store_takes_every_write_in_the_end(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = durable_target(request, tmp_path)
    kind, plan = planned(target, "durable-slow", duty=0.75, period="800ms")
    kind.inject(plan)
    times_s = []
    for _ in range(4):
        began = time.monotonic()
        assert can_write(Path(target.handle["durable"]), 5.0)
        times_s.append(time.monotonic() - began)
        time.sleep(0.15)  # the next one begins elsewhere in the period
    kind.undo(plan)
    assert max(times_s) > 0.1


def test_a_store_that_would_starve_its_writers_is_not_called_slow(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with pytest.raises(FaultError, match="leaves writers 50 ms, they need 150 ms"):
        planned(durable_target(request, tmp_path), "durable-slow", duty=0.9, period="500ms")


# --- the queue


def test_a_paused_queue_is_read(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = queue_target(request, tmp_path)
    kind, plan = planned(target, "queue-pause")
    kind.inject(plan)
    assert talk(target.port, b"GET writes\r\n").startswith(b"$-1")
    kind.undo(plan)
    assert write_reply(target.port) == b":1\r\n"  # what waited in vain was dropped with its connection


def test_a_queue_pause_ends_by_itself(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = queue_target(request, tmp_path)
    kind, plan = planned(target, "queue-pause", lease="1s")
    kind.inject(plan)
    assert not write_reply(target.port)
    wait_for(lambda: write_reply(target.port), 3, "the lease is over")
    assert "answers writes again" in kind.undo(plan)


def test_a_queue_that_is_paused_already_is_left_alone(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = queue_target(request, tmp_path)
    assert talk(target.port, b"CLIENT PAUSE 60000 WRITE\r\n") == b"+OK\r\n"
    with pytest.raises(FaultError, match="not answered within 2 s before the fault"):
        planned(target, "queue-pause")  # a plan that fails is not undone
    assert not write_reply(target.port)


def test_a_restarted_queue_has_no_pause(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = queue_target(request, tmp_path)
    kind, plan = planned(target, "queue-pause")
    kind.inject(plan)
    leader = target.leader.identity
    os.kill(leader.pid, signal.SIGKILL)
    wait_for(lambda: (now := target.leader) is not None and now.identity != leader, what="a restart")
    wait_for(lambda: not unready(f"tcp://{plan.address}"), what="the new one answers")
    assert "another server" in kind.undo(plan)
    kill_for_good(target)
    assert "went with the server" in kind.undo(plan)


def test_a_queue_that_only_hangs_up_is_not_gone(request: pytest.FixtureRequest, tmp_path: Path, link: Target) -> None:
    target = queue_target(request, tmp_path)
    target.handle["redis"] = behind_toxiproxy(link, target.port)
    kind, plan = planned(target, "queue-pause")
    kind.inject(plan)
    link.server.set_upstream("store", f"127.0.0.1:{free_port()}")
    with pytest.raises(ConnectionError):
        kind.undo(plan)
    link.server.set_upstream("store", f"127.0.0.1:{target.port}")
    assert "answers writes again" in kind.undo(plan)
    assert write_reply(target.port)


# --- the log


def test_a_cut_log_lacks_its_last_record(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = log_target(request, tmp_path)
    kind, plan = planned(target, "torn-log-tail")
    kind.inject(plan)
    assert "of no whole record" in kind.witness(plan, 5).evidence
    kind.undo(plan)
    assert talk(target.port, b"count\n") == b"%d\n" % (RECORDS - 1)


def test_garbage_behind_a_log_costs_no_record(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = log_target(request, tmp_path)
    kind, plan = planned(target, "torn-log-tail", how="garbage")
    kind.inject(plan)
    witness = kind.witness(plan, 5)
    assert witness.ok, witness.evidence
    kind.undo(plan)
    assert talk(target.port, b"count\n") == b"%d\n" % RECORDS


def test_a_log_that_another_process_has_open_is_left_alone(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = log_target(request, tmp_path)
    others = Path(target.handle["log"], "1")
    owner = subprocess.Popen(
        [sys.executable, "-c", OPEN_LOG, str(others)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    with owner.stdin, owner.stdout:
        assert owner.stdout.readline() == b"\n"
        kind, plan = planned(target, "torn-log-tail")
        kind.inject(plan)
        assert "torn: 0/" in kind.witness(plan, 5).evidence
        log = newest_log(others)
        assert log is not None
        assert torn_bytes(log.read_bytes()) == 0
        kind.undo(plan)
    owner.wait(10)


def test_a_target_without_a_log_is_refused(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = log_target(request, tmp_path)
    target.handle["log"] = str(tmp_path / "logs" / "0" / "nowhere")
    with pytest.raises(FaultError, match="is no directory"):
        planned(target, "torn-log-tail")
    (tmp_path / "empty").mkdir()
    target.handle["log"] = str(tmp_path / "empty")
    with pytest.raises(FaultError, match="no RocksDB log"):
        planned(target, "torn-log-tail")


@pytest.mark.parametrize("size_bytes", [1, 300, BLOCK_BYTES, 3 * BLOCK_BYTES + 5])
def test_records_of_a_real_log_are_found(tmp_path: Path, size_bytes: int) -> None:
    db = Rdict(str(tmp_path / "db"))
    for number in range(50):
        db[number] = "x" * size_bytes
    (database,) = databases(tmp_path)
    log = newest_log(database)
    assert log is not None
    data = log.read_bytes()
    db.close()
    ends = record_ends(data)
    assert len(ends) == 51
    assert torn_bytes(data) == 0
    for cut in (ends[-1] - 1, ends[-2] + 1, ends[10] + 5):
        assert torn_bytes(data[:cut]) > 0 or not data[:cut].rstrip(b"\0")
        assert record_ends(data[:cut])[-1] < cut
    assert torn_bytes(data[: ends[7]]) == 0


# --- the disk


def test_what_the_target_frees_is_taken(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = disk_target(request, tmp_path)
    seen = Path(f"/proc/{target.leader.identity.pid}/root{target.handle['log']}")
    (seen / "old").write_bytes(bytes(1 << 20))
    kind, plan = planned(target, "disk-full")
    kind.inject(plan)
    assert talk(target.port) == b"ENOSPC\n"
    (seen / "old").unlink()
    wait_for(lambda: talk(target.port) == b"ENOSPC\n", 5, "the space is taken")
    assert kind.witness(plan, 5).ok
    kind.undo(plan)
    assert talk(target.port) == b"written\n"
    assert list(seen.iterdir()) == []


def test_a_disk_whose_owner_died_is_given_back(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = disk_target(request, tmp_path)
    kind, plan = planned(target, "disk-full")
    kind.inject(plan)
    kill_for_good(target)
    assert "is gone: nothing to give back" in kind.undo(plan)


def test_the_root_disk_and_large_ones_are_never_filled(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = disk_target(request, tmp_path)
    with pytest.raises(FaultError, match=r"8\.0 MiB free, more than may be filled \(most = 1\.0 MiB\)"):
        planned(target, "disk-full", most="1MiB")
    target.handle["log"] = "/usr"
    with pytest.raises(FaultError, match="is on the root file system"):
        planned(target, "disk-full")


# --- the cache


def test_a_storm_evicts_its_share_and_no_more_than_needed(cache: Target) -> None:
    fill_cache(cache.port)
    kind, plan = planned(cache, "cache-eviction", share=0.3)
    kind.inject(plan)
    witness = kind.witness(plan, 10)
    assert witness.ok, witness.evidence
    kind.undo(plan)
    left = len(cache_keys(cache.port))
    assert ENTRIES * 0.3 < left < ENTRIES * 0.75


def test_an_empty_cache_has_nothing_to_evict(cache: Target) -> None:
    with pytest.raises(FaultError, match="is empty: nothing to evict"):
        planned(cache, "cache-eviction")


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2])
def test_a_storm_that_is_ended_in_the_middle_leaves_no_key(cache: Target, after_s: float) -> None:
    """Also none that the server had not read yet when its sender died."""
    fill_cache(cache.port)
    kind, plan = planned(cache, "cache-eviction")
    kind.inject(plan)
    time.sleep(after_s)
    kind.undo(plan)
    assert {key.partition(":")[0] for key in cache_keys(cache.port)} == {"mine"}


def test_a_cache_that_died_took_the_storm_along(request: pytest.FixtureRequest) -> None:
    case = make_case(request, "cache-eviction")
    kind, plan = planned(case)
    kind.inject(plan)
    kill_for_good(case.target)
    assert "nobody answers" in kind.undo(plan)


def test_a_cache_that_only_hangs_up_is_not_gone(cache: Target, link: Target) -> None:
    fill_cache(cache.port)
    cache.handle["memcached"] = [behind_toxiproxy(link, cache.port)]
    kind, plan = planned(cache, "cache-eviction")
    kind.inject(plan)
    link.server.set_upstream("store", f"127.0.0.1:{free_port()}")
    with pytest.raises(ConnectionError):
        kind.undo(plan)
    link.server.set_upstream("store", f"127.0.0.1:{cache.port}")
    assert "none is left" in kind.undo(plan)
    assert all(key.startswith("mine:") for key in cache_keys(cache.port))
