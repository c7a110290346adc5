"""Reads a population hand-over directory: who there is, who follows whom, who interacted lately.

    population.json   users, seed, history, joined, mean_follows, celebrities, celebrity_threshold, late
    offsets.npy       int64[users + 1]; user u follows followees[offsets[u]:offsets[u + 1]], ascending
    followees.npy     uint32[edges]
    hot.npy           uint8[edges]; 1: interaction in the last 30 days
The arrays are memory-mapped: every process of the stack shares the pages. Does not know who joined since.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from reference_server.settings import Settings

SEED_FILE = "seed.json"
EVERYTHING = 0xFFFFFFFF
"""import progress of a user whose inherited follows are there from the start"""


class PopulationInvalid(ValueError):
    """The hand-over directory is not usable. `problems` lists everything found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class PopulationFile(msgspec.Struct, kw_only=True, frozen=True):
    """population.json."""

    version: int
    users: int
    seed: int = 0
    history: float = 0
    joined: str = "all"
    mean_follows: float = 0.0
    celebrities: list[int] = []
    celebrity_threshold: int = 0
    late: list[int] = []


class SeedFile(msgspec.Struct, kw_only=True, frozen=True):
    """seed.json in the stack's directory: what every region must agree on when it makes the history."""

    history_end_us: int


@dataclass(frozen=True)
class Population:
    """Users 0 .. users-1 and the follows they inherit."""

    users: int
    seed: int
    history: float
    """mean number of entries in a timeline before the run"""
    all_joined: bool
    """everyone signed up and was imported before the run, but those who are late"""
    mean_follows: float
    celebrities: tuple[int, ...]
    celebrity_threshold: int
    offsets: npt.NDArray[np.int64]
    followees: npt.NDArray[np.uint32]
    hot: npt.NDArray[np.uint8]
    history_end_us: int = 0
    """the last history post is earlier than this"""
    late: tuple[int, ...] = ()
    """who had not signed up, although all others had"""

    @property
    def edges(self) -> int:
        """Number of inherited follows."""
        return len(self.followees)

    def follows(self, user: int) -> npt.NDArray[np.uint32]:
        """Whom the user follows from the start, ascending."""
        return self.followees[self.offsets[user] : self.offsets[user + 1]]

    @property
    def joined(self) -> npt.NDArray[np.bool_]:
        """bool[users]: who had signed up before the run."""
        joined = np.full(self.users, self.all_joined, np.bool_)
        joined[list(self.late)] = False
        return joined


def open_population(settings: Settings) -> Population:
    """The population of a stack, with the history's end from its seed file.

    Raises PopulationInvalid; OSError when the seed file cannot be read.
    """
    seed_path = Path(settings.directory, SEED_FILE)
    end_us = msgspec.json.decode(seed_path.read_bytes(), type=SeedFile).history_end_us if seed_path.exists() else 0
    if settings.population:
        return read_population(settings.population, end_us)
    return _without_follows(settings.users, end_us)


def _without_follows(users: int, end_us: int) -> Population:
    return Population(
        users=users,
        seed=0,
        history=0,
        all_joined=False,
        mean_follows=0.0,
        celebrities=(),
        celebrity_threshold=0,
        offsets=np.zeros(users + 1, np.int64),
        followees=np.zeros(0, np.uint32),
        hot=np.zeros(0, np.uint8),
        history_end_us=end_us,
    )


def read_population(directory: str | Path, history_end_us: int = 0) -> Population:
    """The population in a hand-over directory. Raises PopulationInvalid with all problems."""
    folder = Path(directory)
    if not folder.is_dir():
        raise PopulationInvalid([f"{folder}: no such directory"])
    problems: list[str] = []
    described = _described(folder / "population.json", problems)
    offsets = _array(folder / "offsets.npy", np.dtype("<i8"), problems)
    followees = _array(folder / "followees.npy", np.dtype("<u4"), problems)
    hot = _array(folder / "hot.npy", np.dtype("u1"), problems)
    if described is not None and offsets is not None and followees is not None and hot is not None:
        problems += _inconsistencies(described, offsets, followees, hot)
    if problems:
        raise PopulationInvalid(problems)
    assert described is not None
    assert offsets is not None
    assert followees is not None
    assert hot is not None
    return Population(
        users=described.users,
        seed=described.seed,
        history=described.history,
        all_joined=described.joined == "all",
        mean_follows=described.mean_follows,
        celebrities=tuple(described.celebrities),
        celebrity_threshold=described.celebrity_threshold,
        offsets=offsets,
        followees=followees,
        hot=hot,
        history_end_us=history_end_us,
        late=tuple(described.late),
    )


def _described(path: Path, problems: list[str]) -> PopulationFile | None:
    try:
        described = msgspec.json.decode(path.read_bytes(), type=PopulationFile)
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror}")
        return None
    except msgspec.MsgspecError as error:
        problems.append(f"{path.name}: {error}")
        return None
    if described.version != 1:
        problems.append(f"population.json: version must be 1, got {described.version}")
    if described.users < 1:
        problems.append(f"population.json: users must be >= 1, got {described.users}")
    if described.joined not in ("all", "none"):
        problems.append(f'population.json: joined must be "all" or "none", got {described.joined!r}')
    if not all(0 <= user < described.users for user in described.late):
        problems.append(f"population.json: late must name users below {described.users}")
    if described.history < 0 or described.mean_follows < 0:
        problems.append("population.json: history and mean_follows must be >= 0")
    return described


def _array(path: Path, dtype: np.dtype[np.generic], problems: list[str]) -> npt.NDArray[Any] | None:
    try:
        array = np.load(path, mmap_mode=None if path.stat().st_size < 4096 else "r", allow_pickle=False)
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror or error}")
        return None
    except (ValueError, EOFError) as error:
        problems.append(f"{path.name}: no readable .npy file ({error})")
        return None
    if array.dtype != dtype or array.ndim != 1:
        problems.append(f"{path.name}: must be one-dimensional {dtype.name}, got {array.ndim}-d {array.dtype.name}")
        return None
    return np.asarray(array)


def _inconsistencies(
    described: PopulationFile,
    offsets: npt.NDArray[Any],
    followees: npt.NDArray[Any],
    hot: npt.NDArray[Any],
) -> list[str]:
    problems = []
    if len(hot) != len(followees):
        problems.append(f"hot.npy: must have one flag an edge, {len(followees)}, got {len(hot)}")
    if len(offsets) != described.users + 1:
        problems.append(f"offsets.npy: must have users + 1 = {described.users + 1} numbers, got {len(offsets)}")
        return problems
    places = offsets.astype(np.int64, copy=False)
    if places[0] != 0 or places[-1] != len(followees) or bool((places[1:] < places[:-1]).any()):
        problems.append(f"offsets.npy: must rise from 0 to the number of edges, {len(followees)}")
        return problems
    targets = followees.astype(np.uint32, copy=False)
    if len(targets) and int(targets.max()) >= described.users:
        problems.append(f"followees.npy: names user {int(targets.max())}, but there are only {described.users}")
    if not _ascending(places, targets):
        problems.append("followees.npy: each user's followees must be strictly ascending")
    return problems


def _ascending(offsets: npt.NDArray[np.int64], followees: npt.NDArray[np.uint32]) -> bool:
    if len(followees) < 2:
        return True
    falls = np.flatnonzero(followees[1:] <= followees[:-1]) + 1
    return bool(np.isin(falls, offsets).all())
