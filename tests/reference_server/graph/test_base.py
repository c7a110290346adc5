"""The inverse graph is the transposed one, also in chunks; it is computed once and again for another population."""

from __future__ import annotations

from pathlib import Path

import graph_cases
import numpy as np
import pytest

from reference_server.graph import base


def test_inverse_is_the_transpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "CHUNK_EDGES", 17)
    random = np.random.default_rng(3)
    follows = {u: random.choice(40, random.integers(0, 30), replace=False).tolist() for u in range(40)}
    people = graph_cases.population(tmp_path / "p", 40, follows, hot=3)
    inverse = base.open_inverse(people, "a", tmp_path / "i")
    for author in range(40):
        part = slice(inverse.offsets[author], inverse.offsets[author + 1])
        followers = [u for u in range(40) if author in follows[u]]
        assert inverse.followers[part].tolist() == followers
        for user, rank, hot in zip(followers, inverse.rank[part], inverse.hot[part], strict=True):
            assert people.follows(user)[rank] == author
            assert people.hot[people.offsets[user] + rank] == hot


def test_is_computed_once_a_population(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = graph_cases.population(tmp_path / "p", 3, {0: [1, 2], 1: [2]})
    base.open_inverse(people, "a", tmp_path / "i")
    with monkeypatch.context() as patch:
        patch.setattr(base, "_build", lambda *_: pytest.fail("computed again"))
        assert base.open_inverse(people, "a", tmp_path / "i").followers.tolist() == [0, 0, 1]
    other = graph_cases.population(tmp_path / "q", 3, {2: [0]})
    assert base.open_inverse(other, "b", tmp_path / "i").followers.tolist() == [2]


def test_an_interrupted_computation_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = graph_cases.population(tmp_path / "p", 3, {0: [1, 2], 1: [2]})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(base, "_build", interrupted)
        with pytest.raises(KeyboardInterrupt):
            base.open_inverse(people, "a", tmp_path / "i")
    assert base.open_inverse(people, "a", tmp_path / "i").followers.tolist() == [0, 0, 1]


def test_without_edges(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 2, {})
    assert base.open_inverse(people, "a", tmp_path / "i").offsets.tolist() == [0, 0, 0]
