"""The configuration of an edge proxy, read by HAProxy itself."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import msgspec
import pytest

from reference_server.settings import Region, Settings
from reference_server.supervisor.certificates import write_certificates
from reference_server.supervisor.edge_proxy import configuration, make_room
from reference_server.supervisor.programs import StackUnavailable, find_haproxy


def region(index: int, name: str, servers: int) -> Region:
    first = 1000 * (index + 1)
    return Region(
        name=name,
        index=index,
        api_ports=tuple(range(first, first + servers)),
        fep_ports=tuple(range(first + 100, first + 100 + servers)),
        memcached_ports=(),
        redis_queue_port=1,
        redis_cache_port=2,
        replicator_port=3,
        edge_port=first + 200,
        metrics_ports={"edge": first + 201},
    )


def settings(tmp_path: Path, *names: str, servers: int = 2) -> Settings:
    regions = tuple(region(index, name, servers) for index, name in enumerate(names))
    write_certificates(tmp_path, tmp_path / "ca.pem", names)
    return Settings(directory=str(tmp_path), sockets="/tmp", secret="00", regions=regions)


def accepted(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "edge.cfg"
    path.write_text(text)
    program = find_haproxy()
    assert program is not None
    return subprocess.run([program, "-c", "-f", str(path)], capture_output=True, text=True, check=False, timeout=10)


@pytest.mark.parametrize("exporter", [True, False])
def test_haproxy_accepts_it_without_a_warning(tmp_path: Path, exporter: bool) -> None:
    stack = settings(tmp_path, "eu", "us", "ap")
    for one in stack.regions:
        checked = accepted(tmp_path, configuration(stack, one, tmp_path, exporter))
        assert checked.returncode == 0, checked.stderr
        assert "WARNING" not in checked.stderr
    assert accepted(tmp_path, configuration(stack, stack.regions[0], tmp_path, exporter, ["fep"])).returncode == 0


def servers_of(text: str) -> dict[str, list[list[str]]]:
    """Words of the server lines of each backend."""
    found: dict[str, list[list[str]]] = {}
    for section in text.split("\n\n"):
        lines = section.splitlines()
        if lines and lines[0].startswith("backend "):
            found[lines[0].split()[1]] = [line.split()[1:] for line in lines if line.startswith("    server ")]
    return found


def test_own_servers_first_then_doors_to_all_servers_of_the_other_regions(tmp_path: Path) -> None:
    stack = settings(tmp_path, "eu", "us", "ap")
    servers = servers_of(configuration(stack, stack.regions[1], tmp_path))
    for name, kind in (("apis", "api"), ("streams", "fep")):
        first, second, *doors = servers[name]
        assert [first[0], second[0]] == [f"us.{kind}-0", f"us.{kind}-1"]
        assert "backup" not in first + second
        assert [(words[0], words[1][-len("0.sock") :], words[-1]) for words in doors] == [
            ("ap", "2.sock", "backup"),
            ("eu", "0.sock", "backup"),
        ]
        for far in ("ap", "eu"):
            assert [words[0] for words in servers[f"{name}-{far}"]] == [f"{far}.{kind}-0", f"{far}.{kind}-1"]
            assert not any("backup" in words for words in servers[f"{name}-{far}"])


@pytest.mark.parametrize(("descriptors", "streams"), [(20_000, 3_200), (1 << 20, 4_000), (-1, 4_000), (1_000, 33)])
def test_frontends_share_what_descriptors_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descriptors: int, streams: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1_024, descriptors))
    room = make_room()
    assert room.streams == streams
    within = room.clients + room.reads + room.writes + room.requests + room.streams
    assert 100 <= room.connections - within < 110
    assert 2 * room.connections <= descriptors - 600 or descriptors in (-1, 1_000)
    stack = settings(tmp_path, "eu", "us")
    text = configuration(stack, stack.regions[0], tmp_path)
    assert f"\n    maxconn {room.connections}\n" in text
    assert f"\n    maxconn {room.clients}\n" in text
    servers = servers_of(text)
    assert [words[words.index("maxconn") + 1] for words in servers["streams"]] == [str(streams)] * 3
    assert f" be_conn(streams) ge {streams} " in text


def test_a_program_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEEDSTORM_HAPROXY", "none")
    assert find_haproxy() is None
    monkeypatch.setenv("FEEDSTORM_HAPROXY", "/nonexistent/haproxy")
    with pytest.raises(StackUnavailable, match="FEEDSTORM_HAPROXY names"):
        find_haproxy()


def test_paths_may_hold_whatever_paths_hold(tmp_path: Path) -> None:
    odd = tmp_path / 'a stack\'s #1 \\ "$HOME"'
    odd.mkdir()
    stack = msgspec.structs.replace(settings(odd, "eu", "us"), sockets='/tmp/a socket\'s #1 \\ "$HOME"')
    checked = accepted(tmp_path, configuration(stack, stack.regions[0], odd))
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr
