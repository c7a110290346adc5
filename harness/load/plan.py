"""The load plan: everything a load process must know, as one JSON file in the run directory.

Written once by `harness.run` before the load processes start; each of them (`harness.load.locust_process`,
`harness.load.stream_engine`) reads it and takes its own part. Times are relative to t0, the end of the
warm-up, which arrives later with the start command. Holds no secrets: tokens are in a file of their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from harness.core.clock import NS_PER_S
from harness.core.errors import UsageError
from harness.core.listening import Habit, Listening
from harness.core.load_rates import Load
from harness.core.scenario import Phase
from harness.record.run_directory import RunDirectory

WARMUP = "warmup"
OTHER_NODE, EXPIRED = "other_node", "expired"
PROBES = ("tampered", "foreign", OTHER_NODE)
"""variants of a probe that can be made at any time; see `OpKind.PROBE`"""
EXPIRY_MARGIN_S = 2.0
"""a cursor counts as expired this long after its time: targets count in whole seconds, and by other clocks"""
PRIVATE_MODE = 0o600


class PlanPhase(msgspec.Struct, frozen=True):
    """A stretch of the run, nanoseconds from t0. The warm-up comes first and ends at 0."""

    name: str
    start_ns: int
    end_ns: int


class PlanRegion(msgspec.Struct, frozen=True):
    """Base URLs of one region of the target."""

    api: str
    stream: str
    streams: tuple[str, ...] = ()
    """all servers of streams there are, when they are several: listeners are spread over them"""
    edge: str = ""
    """over TLS, for listeners over HTTP/2"""


Member = tuple[int, str]
"""(user, region): a user acts in one region only."""


class EdgePair(msgspec.Struct, frozen=True):
    """Two users whose edge may change while the run lasts."""

    follower: int
    author: int
    follows: bool
    """whether the follower follows the author before the run"""


class LoadPlan(msgspec.Struct, kw_only=True, frozen=True):
    """What the load processes do. Members are (user, region) pairs."""

    seed: int
    run: str
    """run directory"""
    origin: str = ""
    """where `run` is a folder of another machine: the run directory proper"""
    users: int
    phases: tuple[PlanPhase, ...]
    regions: dict[str, PlanRegion]
    rates: Load = Load()
    tokens: str = ""
    """path of the tokens file: JSON {"user": "token"}, mode 0600"""
    celebrities: tuple[Member, ...] = ()
    late_celebrities: tuple[Member, ...] = ()
    """who sign up during the run, in turn, and post from then on"""
    newcomers: int = 0
    """ordinary users who sign up during a run in which all others are there from the start: the last ones"""
    panel: tuple[Member, ...] = ()
    """active sessions; hyper-followers first"""
    posters: tuple[Member, ...] = ()
    """ordinary authors besides the panel"""
    readers: tuple[Member, ...] = ()
    """users who open their feed now and then, each time as a new session"""
    listeners: tuple[Member, ...] = ()
    fetch_ratio: float = 0.0
    """an event is followed by a jittered fetch this often"""
    fetch_jitter_s: float = 1.0
    """the fetch comes a uniform time up to this after the event"""
    reconnect_jitter_s: float = 2.0
    listening: Listening = Listening()
    habits: dict[int, Habit] = {}
    """what some listeners do differently"""
    ca_file: str = ""
    """PEM of the authority behind the edges' certificates; empty: the system's"""
    identity: str = "{number}"
    """the identity user number n signs up with (target profile)"""
    pool_limit: int = 200
    """most Locust users of one class"""
    edge_pairs: tuple[EdgePair, ...] = ()
    """whose edges change: nobody else's do"""
    blocks: bool = True
    """whether the target knows blocks"""
    lookups: bool = True
    """whether the target gives posts by id: then readers look the parent of a reply up"""
    probes: tuple[str, ...] = PROBES
    """which probes of cursors are made, in turn"""
    cursor_ttl_s: float = 0.0
    """how long cursors are valid, where expired ones are tried"""
    operator_token_file: str = ""
    """path of the operator's token; empty: nobody moderates"""
    left_out: tuple[str, ...] = ()
    """what the scenario asks for and the target cannot take, each with the reason"""

    @property
    def all_celebrities(self) -> tuple[Member, ...]:
        """Whoever posts as a celebrity, sooner or later."""
        return self.celebrities + self.late_celebrities

    @property
    def directory(self) -> RunDirectory:
        """The run's directory."""
        return RunDirectory(Path(self.run))

    @property
    def start_ns(self) -> int:
        """Start of the warm-up relative to t0 (<= 0)."""
        return self.phases[0].start_ns

    @property
    def expired_after_ns(self) -> int:
        """Age from which on a cursor is surely expired."""
        return round((self.cursor_ttl_s + EXPIRY_MARGIN_S) * NS_PER_S)

    @property
    def end_ns(self) -> int:
        """End of the last phase relative to t0."""
        return self.phases[-1].end_ns

    def read_tokens(self) -> dict[int, str]:
        """User -> token. Empty when the plan names no tokens file."""
        if not self.tokens:
            return {}
        stored = msgspec.json.decode(Path(self.tokens).read_bytes(), type=dict[str, str])
        return {int(user): token for user, token in stored.items()}

    def read_operator_token(self) -> str:
        """The operator's token; empty when the plan names no file of it."""
        return Path(self.operator_token_file).read_text(encoding="ascii").strip() if self.operator_token_file else ""


def plan_phases(warmup_s: float, phases: tuple[Phase, ...]) -> tuple[PlanPhase, ...]:
    """The phases of a scenario on the plan's time axis, the warm-up first."""
    planned = [PlanPhase(WARMUP, -round(warmup_s * NS_PER_S), 0)]
    for phase in phases:
        start = planned[-1].end_ns
        planned.append(PlanPhase(phase.name, start, start + round(phase.duration_s * NS_PER_S)))
    return tuple(planned)


def write_plan(path: Path, plan: LoadPlan) -> None:
    """Store the plan as JSON."""
    path.write_bytes(msgspec.json.encode(plan))


def read_plan(path: Path) -> LoadPlan:
    """The plan stored at `path`. Raises UsageError when it is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LoadPlan)
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{path}: not a load plan: {error}") from error


def write_tokens(path: Path, tokens: Mapping[int, str]) -> None:
    """Store user -> token, readable by the owner only."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), PRIVATE_MODE)
        file.write(msgspec.json.encode({str(user): token for user, token in tokens.items()}))
