"""Target profiles: all that the harness knows of a system under test, as typed data.

A profile is a TOML file (docs/contract.md has a complete one). `load_profile` reads and validates it, `with_endpoints`
fills in the addresses of a target that was just started, `require_loopback` guards systems that are not ours.
Starts nothing, connects to nothing.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from harness.contract.flag_kind import FlagKind
from harness.contract.profile_file import parse_endpoints, parse_profile
from harness.core.errors import UsageError, nearest

TARGETS = Path(__file__).with_name("targets")


class RegionUrls(msgspec.Struct, kw_only=True, frozen=True):
    """Base URLs of one region, without a slash at the end. Often equal."""

    api: str
    stream: str
    streams: list[str] = []
    """all servers of streams, `stream` among them, when they are several: listeners are spread over them"""
    edge: str = ""
    """api and streams behind one name, over TLS; empty: there is no such thing"""


class Capabilities(msgspec.Struct, kw_only=True, frozen=True):
    """What the target can do. What it lacks is skipped by name, never silently."""

    stream: Literal["sse", "none"] = "sse"
    event: Literal["delta", "full"] = "delta"
    """delta: an event names the post; full: it carries the post as well"""
    resume: bool = True
    """a stream goes on after Last-Event-ID"""
    paging: bool = True
    """feed pages have cursors"""
    cursor_ttl_s: float = 0.0
    """how long a cursor is valid; 0: not known"""
    seen: bool = True
    """POST /v1/feed leaves out posts already seen"""
    since: bool = True
    """GET /v1/feed/new"""
    delete: bool = True
    block: bool = True
    like: bool = True
    batch: bool = True
    idempotency: bool = True
    """Idempotency-Key on posts"""
    imports: bool = msgspec.field(default=True, name="import")
    """inherited follows are imported after the sign-up"""
    regions: bool = True
    """what is written in one region appears in the others"""
    hide: bool = True
    """authors hide their posts and show them again"""
    labels: bool = True
    """posts have labels"""
    profile: bool = True
    """a profile says what its owner may be shown, by label"""
    moderate: bool = True
    """the operator takes posts out of sight"""
    flags: bool = True
    """the operator reads and sets feature flags"""


class Slo(msgspec.Struct, kw_only=True, frozen=True):
    """The bounds the target promises at rest, seconds."""

    visibility_s: float = 2.0
    """from the acknowledgement of a post to its place in a follower's feed, same region"""
    cross_region_s: float = 3.0
    """the same, in another region"""
    celebrity_s: float = 5.0
    """to the last follower of a celebrity, same region"""
    convergence_s: float = 15.0
    """from the end of a fault until all regions' feeds agree"""


class Users(msgspec.Struct, kw_only=True, frozen=True):
    """Who may sign up, and how."""

    first: int = 0
    end: int | None = None
    """numbers first .. end-1 are free for the harness; None: up to the size the target was started with"""
    identity: str = "{number}"
    """the identity user number n signs up with"""
    joins: Literal["signup"] = "signup"
    """signup: a token comes from POST /v1/users with the identity, no secret"""

    def numbers(self, users: int) -> range:
        """Numbers of the identities that may be used on a target of `users` users."""
        return range(self.first, users if self.end is None else self.end)

    def identity_of(self, number: int) -> str:
        """What user `number` signs up with."""
        return self.identity.replace("{number}", str(number))


class Start(msgspec.Struct, kw_only=True, frozen=True):
    """How to bring the target up. It must end when its standard input closes."""

    command: list[str]
    """words with the placeholders {python} {dir} {population} {users}"""
    endpoints: str = "{dir}/endpoints.json"
    """file the target writes once it is ready"""
    ready_timeout_s: float = 60.0
    options: list[str] = []
    """which of "defect" and "flag" the command accepts as --defect NAME, --flag KEY=VALUE"""
    regions: list[str] = []
    """regions it will have: scenarios are validated against them before anything starts"""
    presets: dict[str, list[str]] = {}
    """named shapes the command accepts as --preset NAME, with the regions there are in each"""
    handles: list[str] = []
    """handles it will have; parts of a name between dots that are regions are what it belongs to"""
    between_regions: list[str] = []
    """those of `handles` that only a target of two regions or more has, though they name none"""
    proxies: list[str] = []
    """links that get a proxy, and so a handle, only when asked for: the command accepts each as --proxy NAME"""
    defects: list[str] = []
    """planted defects it knows"""
    flags: dict[str, FlagKind] = {}
    """flags it knows, with what each may be set to; empty: only the target knows"""


class Profile(msgspec.Struct, kw_only=True, frozen=True):
    """One system under test."""

    name: str
    about: str = ""
    adapter: Literal["feedstorm-v1"] = "feedstorm-v1"
    regions: dict[str, RegionUrls] = {}
    capabilities: Capabilities = Capabilities()
    slo: Slo = Slo()
    users: Users = Users()
    handles: dict[str, dict[str, Any]] = {}
    """what chaos may touch, by name; the keys beside `backend` are the backend's own"""
    fatal_together: list[list[str]] = []
    """groups of handles (names or patterns): random faults never take two of one group at once"""
    names: dict[str, str] = {}
    """what scenarios written for another target call a region or handle -> what it is called here"""
    start: Start | None = None
    missing: list[str] = []
    """parts the running target does without ("toxiproxy": no network faults)"""
    operator_token_file: str = ""
    """file with the token of whoever operates the running target; empty: not known"""
    ca_file: str = ""
    """PEM of the authority behind the certificates of the edges; empty: the system's"""


def builtin_profiles() -> dict[str, Path]:
    """Profiles that ship with feedstorm, by name."""
    return {path.stem: path for path in sorted(TARGETS.glob("*.toml"))}


def load_profile(name_or_path: str | Path) -> Profile:
    """The profile of that name, or in that file. Raises UsageError with every problem in it."""
    path = _find(str(name_or_path))
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"target {name_or_path}: not TOML: {error}") from error
    except OSError as error:
        raise UsageError(f"target {name_or_path}: cannot be read: {error.strerror}") from error
    fields, problems = parse_profile(raw, path.resolve().parent)
    if problems:
        raise UsageError([f"target {path.stem}: {problem}" for problem in problems])
    return msgspec.convert(fields, Profile)


def _find(name: str) -> Path:
    builtins = builtin_profiles()
    if name in builtins:
        return builtins[name]
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    raise UsageError(f"target: no profile {name!r}{nearest(name, builtins)}; a path ends in .toml")


def with_preset(profile: Profile, preset: str) -> Profile:
    """The profile of a target that will be started in that shape. Raises UsageError when it knows no such preset."""
    start = profile.start
    if start is None or not start.presets:
        raise UsageError(f"--preset: target {profile.name} has no presets")
    if preset not in start.presets:
        raise UsageError(f"--preset: unknown preset {preset!r}{nearest(preset, start.presets)}")
    regions = start.presets[preset]
    absent = set(start.regions).difference(regions).union(start.between_regions if len(regions) < 2 else ())
    shaped = msgspec.structs.replace(
        start,
        command=[*start.command, "--preset", preset],
        regions=regions,
        handles=[name for name in start.handles if absent.isdisjoint([name, *name.split(".")])],
        proxies=[name for name in start.proxies if absent.isdisjoint(name.split("."))],
    )
    return msgspec.structs.replace(profile, start=shaped)


def with_proxies(profile: Profile, links: Collection[str]) -> Profile:
    """The profile of a target that will be started with proxies on these of its `start.proxies`."""
    start = profile.start
    if start is None or not links:
        return profile
    words = [word for link in links for word in ("--proxy", link)]
    shaped = msgspec.structs.replace(start, command=[*start.command, *words], handles=[*start.handles, *links])
    return msgspec.structs.replace(profile, start=shaped)


def with_endpoints(profile: Profile, endpoints: Mapping[str, Any]) -> Profile:
    """The profile with the addresses and handles a started target reported (endpoints.json, docs/contract.md).

    Raises UsageError when the report is malformed.
    """
    fields, problems = parse_endpoints(endpoints)
    if problems:
        raise UsageError([f"endpoints of {profile.name}: {problem}" for problem in problems])
    return msgspec.structs.replace(
        profile,
        regions={name: msgspec.convert(urls, RegionUrls) for name, urls in fields["regions"].items()},
        handles={**profile.handles, **fields["handles"]},
        missing=fields["missing"],
        operator_token_file=fields["operator_token_file"],
        ca_file=fields["ca_file"],
    )


def require_loopback(profile: Profile, allow_hosts: Collection[str] = ()) -> None:
    """Refuse to touch other machines unless each was named. Raises UsageError with every host that was not."""
    problems = [
        f"{where}: {host} is not this machine; allow it with --allow-host {host}"
        for where, host in _hosts(profile)
        if host not in allow_hosts and not is_loopback(host)
    ]
    if problems:
        raise UsageError(problems)


def strangers(urls: Iterable[str], allow_hosts: Collection[str] = ()) -> list[str]:
    """Hosts of URLs that are neither this machine nor allowed."""
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for url in urls)
    return [host for host in hosts if host not in allow_hosts and not is_loopback(host)]


def _hosts(profile: Profile) -> Iterator[tuple[str, str]]:
    """Each host the harness or chaos would talk to, with the path of the key that names it."""
    for name, urls in profile.regions.items():
        yield f"regions.{name}.api", urlsplit(urls.api).hostname or ""
        yield f"regions.{name}.stream", urlsplit(urls.stream).hostname or ""
        for place, stream in enumerate(urls.streams):
            yield f"regions.{name}.streams[{place}]", urlsplit(stream).hostname or ""
        if urls.edge:
            yield f"regions.{name}.edge", urlsplit(urls.edge).hostname or ""
    for name, handle in profile.handles.items():
        for key, value in handle.items():
            for text in value if isinstance(value, list) else [value]:
                host = _host_of(text)
                if host:
                    yield f"handles.{name}.{key}", host


def _host_of(value: Any) -> str:
    """The host in a URL or a HOST:PORT text; empty for anything else (paths, unix sockets, names)."""
    if not isinstance(value, str):
        return ""
    if "://" in value:
        try:
            return "" if value.startswith("unix:") else urlsplit(value).hostname or ""
        except ValueError:  # no URL at all: no host that could be allowed
            return value
    host, colon, port = value.rpartition(":")
    return host.strip("[]") if colon and port.isdigit() and "/" not in host else ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or number alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
