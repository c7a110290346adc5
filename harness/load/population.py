"""The population of a run: its users' follow graph, and the files that hand it over to the target.

Users are numbered 0 .. users-1: celebrities first, those who join late behind the others, then hyper-followers;
newcomers are the last. The graph is generated (`harness.load.power_law`) or loaded (`harness.load.edge_list`). The
hand-over folder is described in docs/contract.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.core.population import EDGES, listener_problems
from harness.core.population import Population as PopulationSpec
from harness.core.scenario import Scenario
from harness.core.seeds import rng
from harness.load.edge_list import Ints, read_edges
from harness.load.power_law import celebrity_threshold, power_law_rows, with_hyper_followers

VERSION = 1
_HOT_AT_ONCE = 4_000_000


class PopulationFile(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """population.json of the hand-over folder."""

    version: int
    users: int
    seed: int
    history: int
    """mean entries in a timeline before the run"""
    joined: str
    """ "all" or "none" """
    mean_follows: float
    celebrities: list[int]
    celebrity_threshold: int
    late: list[int] = []
    """who has not signed up although "all" have"""


@dataclass(frozen=True)
class Population:
    """A follow graph in compressed rows: user u follows followees[offsets[u]:offsets[u+1]], ascending.

    offsets int64[users + 1], followees uint32[edges], hot uint8[edges]: 1 where the edge saw an interaction in
    the last 30 days.
    """

    offsets: Ints
    followees: NDArray[np.uint32]
    hot: NDArray[np.uint8]
    celebrities: tuple[int, ...]
    """those who join late included"""
    threshold: int
    """an author with at least this many followers is a celebrity"""
    late: tuple[int, ...] = ()
    """who has not signed up before a run in which all others have, ascending"""

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.offsets) - 1

    @property
    def mean_follows(self) -> float:
        """Mean number of users a user follows."""
        return len(self.followees) / self.users

    @cached_property
    def followers(self) -> NDArray[np.uint32]:
        """The follower of each edge, parallel to `followees`."""
        return np.repeat(np.arange(self.users, dtype=np.uint32), np.diff(self.offsets))

    @cached_property
    def follower_counts(self) -> Ints:
        """int64[users]: followers of each user."""
        return np.bincount(self.followees, minlength=self.users).astype(np.int64)

    def followees_of(self, user: int) -> NDArray[np.uint32]:
        """Whom a user follows, ascending."""
        return self.followees[self.offsets[user] : self.offsets[user + 1]]

    def followers_of(self, user: int) -> NDArray[np.uint32]:
        """Who follows a user, ascending."""
        found: NDArray[np.uint32] = self.followers[self.followees == user]
        return found


def make_population(spec: PopulationSpec, seed: int) -> Population:
    """The population a scenario asks for. Raises UsageError when its edge list is malformed or too dense."""
    if spec.graph.startswith(EDGES):
        return _loaded(spec, seed)
    celebrities = spec.all_celebrities
    offsets, followees = power_law_rows(spec.users, spec.mean_follows, celebrities, seed)
    threshold = celebrity_threshold(spec.users, spec.mean_follows, celebrities)
    if spec.hyper_followers:
        offsets, followees = with_hyper_followers(offsets, followees, len(celebrities), spec.hyper_followers, seed)
    return _population(offsets, followees, spec, len(celebrities), threshold, seed)


def resolved(scenario: Scenario, population: Population) -> Scenario:
    """The scenario with users, mean follows and celebrities as they really are (an edge list decides them)."""
    counts = tuple(int(population.follower_counts[c]) for c in population.celebrities)
    asked = scenario.population
    early = len(counts) - len(asked.late_celebrities)
    spec = msgspec.structs.replace(
        asked,
        users=population.users,
        mean_follows=max(1, round(population.mean_follows)) if asked.graph.startswith(EDGES) else asked.mean_follows,
        celebrities=counts[:early],
        late_celebrities=counts[early:],
    )
    joined = population.users - len(population.late)
    problems = listener_problems(spec)
    if spec.panel > joined:
        problems.append(f"population.panel: must be <= the number of nodes in the edge list ({joined})")
    if problems:
        raise UsageError(problems)
    return msgspec.structs.replace(scenario, population=spec)


def _loaded(spec: PopulationSpec, seed: int) -> Population:
    """An edge list, its nodes renumbered: the most followed first (the celebrities), the others as in the file."""
    path = Path(spec.graph.removeprefix(EDGES))
    followers, followees = read_edges(path)
    nodes, dense = np.unique(np.concatenate([followers, followees]), return_inverse=True)
    users = len(nodes)
    keys = np.unique(dense[: len(followers)] * users + dense[len(followers) :])
    followers, followees = keys // users, keys % users
    real = followers != followees
    followers, followees = followers[real], followees[real]
    if not len(followers):
        raise UsageError(f"{path}: expected at least one edge between two different nodes, found none")
    counts = np.bincount(followees, minlength=users)
    stars = np.argsort(-counts, kind="stable")[: max(1, len(spec.all_celebrities))]
    if len(stars) + spec.newcomers >= users:
        raise UsageError(f"population.newcomers: must leave others of the {users} nodes in the edge list")
    place = np.empty(users, dtype=np.int64)
    others = np.setdiff1d(np.arange(users), stars)
    place[np.concatenate([stars, others])] = np.arange(users)
    keys = np.sort(place[followers] * users + place[followees])
    threshold = celebrity_threshold(users, max(1, len(keys) // users), [int(counts[s]) for s in stars])
    offsets = np.zeros(users + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys // users, minlength=users), out=offsets[1:])
    return _population(offsets, (keys % users).astype(np.uint32), spec, len(stars), threshold, seed)


def _population(
    offsets: Ints, followees: NDArray[np.uint32], spec: PopulationSpec, celebrities: int, threshold: int, seed: int
) -> Population:
    """Compressed rows with hot flags, drawn a part at a time."""
    users = len(offsets) - 1
    late = (*range(celebrities - len(spec.late_celebrities), celebrities), *range(users - spec.newcomers, users))
    generator, hot = rng(seed, "population", "hot"), np.empty(len(followees), dtype=np.uint8)
    for start in range(0, len(hot), _HOT_AT_ONCE):
        part = hot[start : start + _HOT_AT_ONCE]
        part[:] = generator.random(len(part)) < spec.hot_ratio
    return Population(offsets, followees, hot, tuple(range(celebrities)), threshold, late)


def write_population(population: Population, spec: PopulationSpec, seed: int, folder: Path) -> None:
    """Write the hand-over files; population.json last, so that its presence means complete."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values, kind in (
        ("offsets", population.offsets, "<i8"),
        ("followees", population.followees, "<u4"),
        ("hot", population.hot, "|u1"),
    ):
        with (folder / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(values, dtype=kind), version=(1, 0))
    facts = PopulationFile(
        version=VERSION,
        users=population.users,
        seed=seed,
        history=spec.history,
        joined=spec.joined,
        mean_follows=population.mean_follows,
        celebrities=list(population.celebrities),
        celebrity_threshold=population.threshold,
        late=list(population.late),
    )
    (folder / "population.json").write_bytes(msgspec.json.encode(facts))


def read_population(folder: Path) -> tuple[Population, PopulationFile]:
    """The population in a hand-over folder, memory-mapped, and its facts. Raises UsageError when it is not one."""
    try:
        facts = msgspec.json.decode((folder / "population.json").read_bytes(), type=PopulationFile)
        arrays = {name: _mapped(folder / f"{name}.npy") for name in ("offsets", "followees", "hot")}
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise UsageError(f"{folder}: not a population: {error}") from error
    celebrities, late = tuple(facts.celebrities), tuple(facts.late)
    return Population(**arrays, celebrities=celebrities, threshold=facts.celebrity_threshold, late=late), facts


def _mapped(path: Path) -> Any:
    """A .npy file, memory-mapped where it holds anything (an empty file cannot be mapped)."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        return np.load(path, allow_pickle=False)
