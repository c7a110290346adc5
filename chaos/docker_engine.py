"""A Docker engine's API, safely: a time limit on each call, every change read back.

docker-py does the talking. This module adds

- a limit on every call, no environment proxies between us and loopback, one sentence for each error;
- what docker-py cannot send: an endpoint with all its fields (`connect`), NanoCpus of an update (`set_cpu`);
- after each change the container is read back and compared: the engine's own answer is not taken as proof;
- identity: a container is its full id and the time it was started. A name or a pid may be another's by now.

Known traps: the restart policy does not bring a killed container back; a paused one takes no signal; leaving a network
loses aliases and fixed addresses; a limit of 0 in an update means "leave it", so no limit is given back as quota -1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, TypeVar

import docker
import msgspec
import requests
from docker.errors import APIError, DockerException, NotFound

from chaos.addresses import connect, wait_until
from chaos.kind import FaultError

DEFAULT_URL = "unix:///var/run/docker.sock"
TIMEOUT_S = 10
SETTLE_TIMEOUT_S = 5.0
FIRST_API_VERSION = "1.24"
"""only to ask for the version that the engine speaks"""
DEFAULT_PERIOD_US = 100_000
UNLIMITED = -1
LABEL = "feedstorm.chaos"
LABEL_VALUE = "allowed"
ENDPOINT_SETTINGS = ("IPAMConfig", "Links", "Aliases", "DriverOpts", "GwPriority")
"""what was asked for when a container joined a network; the rest of its endpoint is the engine's choice"""

T = TypeVar("T")


class EngineGone(FaultError):
    """Nobody listens at the API, or the engine died during the call. Its containers may live on, and keep a fault."""


class NotThere(FaultError):
    """The engine knows no such container, or no such network."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A container's place in one network."""

    network: str
    network_id: str
    settings: dict[str, Any] = {}
    """those of ENDPOINT_SETTINGS that are set: aliases, fixed addresses, links, driver options"""
    address: str = ""


class CpuLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The limit as the engine keeps it: billionths of a CPU, or a quota (µs) in each period (µs). 0, -1: none."""

    nano_cpus: int = 0
    quota_us: int = 0
    period_us: int = 0

    @property
    def cpus(self) -> float | None:
        """The limit in CPUs; None when there is none."""
        if self.nano_cpus > 0:
            return self.nano_cpus / 1e9
        return self.quota_us / (self.period_us or DEFAULT_PERIOD_US) if self.quota_us > 0 else None


class CpuUsage(msgspec.Struct, frozen=True, kw_only=True):
    """CPU time used since the container began, and how often it was made to wait for its quota."""

    used_s: float
    periods: int
    throttled_periods: int


class ContainerState(msgspec.Struct, frozen=True, kw_only=True):
    """One container as the engine describes it."""

    id: str
    name: str
    started_at: str
    running: bool
    paused: bool
    pid: int
    """of its first process, in the engine's pid namespace; 0: none"""
    removed_on_exit: bool
    labels: dict[str, str]
    endpoints: tuple[Endpoint, ...]
    cpu: CpuLimit

    @property
    def allowed(self) -> bool:
        """Whether its owner lets faults touch it."""
        return self.labels.get(LABEL) == LABEL_VALUE

    def endpoint(self, like: Endpoint) -> Endpoint | None:
        """Its place in the same network, if it has one. One that joined while it was down has the name alone."""
        known = (e for e in self.endpoints if (e.network_id or like.network_id) == like.network_id)
        return next((e for e in known if e.network_id or e.network == like.network), None)


class DockerEngine:
    """One engine, by the URL of its API: unix:///path or tcp://host:port (no TLS)."""

    def __init__(self, url: str = "") -> None:
        self.url = url or DEFAULT_URL
        self._version = ""

    def container(self, reference: str) -> ContainerState:
        """How a container (by name or id) is now. Raises NotThere, EngineGone, FaultError."""
        return _container_state(self._call(lambda api: api.inspect_container(reference)))

    def start(self, container_id: str) -> None:
        """Start it; one that runs is fine. It may have ended again by the time this returns."""
        before = self.container(container_id).started_at
        self._call(lambda api: api.start(container_id))
        self._read_back(container_id, "started", lambda state: state.running or state.started_at != before)

    def kill(self, container_id: str) -> None:
        """SIGKILL to its first process; one that is down is fine. Unpause first."""
        try:
            self._call(lambda api: api.kill(container_id))
        except FaultError:
            if self.container(container_id).running:
                raise
        self._read_back(container_id, "down", lambda state: not state.running)

    def stop(self, container_id: str, grace_s: int) -> None:
        """Its stop signal, and SIGKILL after the grace; one that is down is fine. Unpause first."""
        self._call(lambda api: api.stop(container_id, timeout=grace_s))
        self._read_back(container_id, "down", lambda state: not state.running)

    def restart(self, container_id: str, grace_s: int) -> None:
        """Stop (see there) and start. Unpause first."""
        before = self.container(container_id).started_at
        self._call(lambda api: api.restart(container_id, timeout=grace_s))
        self._read_back(container_id, "restarted", lambda state: state.started_at != before)

    def pause(self, container_id: str) -> None:
        """Freeze all its processes."""
        self._call(lambda api: api.pause(container_id))
        self._read_back(container_id, "paused", lambda state: state.paused)

    def unpause(self, container_id: str) -> None:
        """Thaw its processes; one that is not paused is fine."""
        try:
            self._call(lambda api: api.unpause(container_id))
        except FaultError:
            if self.container(container_id).paused:
                raise
        self._read_back(container_id, "no longer paused", lambda state: not state.paused)

    def disconnect(self, container_id: str, endpoint: Endpoint) -> None:
        """Take it out of the endpoint's network; one that is not in it is fine."""
        try:
            self._call(lambda api: api.disconnect_container_from_network(container_id, endpoint.network_id))
        except FaultError:
            if self.container(container_id).endpoint(endpoint) is not None:
                raise
        self._read_back(container_id, f"out of network {endpoint.network}", lambda state: not state.endpoint(endpoint))

    def connect(self, container_id: str, endpoint: Endpoint) -> None:
        """Put it into a network with the endpoint's settings; one that is in it otherwise leaves it first."""
        found = self.container(container_id).endpoint(endpoint)
        if found is not None and same_settings(found, endpoint):
            return
        if found is not None:
            self.disconnect(container_id, endpoint)
        body = {"Container": container_id, "EndpointConfig": endpoint.settings}
        self._post(f"/networks/{endpoint.network_id}/connect", body)

        def as_asked(state: ContainerState) -> bool:
            now = state.endpoint(endpoint)
            return now is not None and same_settings(now, endpoint)

        self._read_back(container_id, f"in network {endpoint.network} as before", as_asked)

    def has_network(self, network_id: str) -> bool:
        """Whether the engine knows the network."""
        try:
            self._call(lambda api: api.inspect_network(network_id))
        except NotThere:
            return False
        return True

    def set_cpu(self, container_id: str, limit: CpuLimit) -> None:
        """Set the limit. Only what is not 0 is sent: to an engine, 0 means "leave it"; `UNLIMITED` lifts a quota."""
        body = {"NanoCpus": limit.nano_cpus, "CpuQuota": limit.quota_us, "CpuPeriod": limit.period_us}
        self._post(f"/containers/{container_id}/update", {key: value for key, value in body.items() if value})
        self._read_back(container_id, f"limited to {limit.cpus} CPUs", lambda state: state.cpu.cpus == limit.cpus)

    def cpu_usage(self, container_id: str) -> CpuUsage:
        """What it has used up to now. Raises FaultError when it is down."""
        stats = self._call(lambda api: api.stats(container_id, stream=False, one_shot=True))
        try:
            cpu = stats["cpu_stats"]
            throttling = cpu["throttling_data"]
            return CpuUsage(
                used_s=cpu["cpu_usage"]["total_usage"] / 1e9,
                periods=throttling["periods"],
                throttled_periods=throttling["throttled_periods"],
            )
        except (KeyError, TypeError) as error:
            raise FaultError(f"{self.url}: container {container_id[:12]} has no CPU usage: {error!r}") from error

    def _read_back(self, container_id: str, what: str, holds: Callable[[ContainerState], bool]) -> None:
        if not wait_until(lambda: holds(self.container(container_id)), SETTLE_TIMEOUT_S):
            raise FaultError(f"{self.url}: container {container_id[:12]} does not read back as {what}")

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        def post(api: docker.APIClient) -> None:
            url = f"{api.base_url}/v{api.api_version}{path}"
            api.post(url, json=body, timeout=TIMEOUT_S).raise_for_status()

        self._call(post)

    def _call(self, ask: Callable[[docker.APIClient], T]) -> T:
        """The answer of one call on a connection of its own. Raises NotThere, EngineGone, FaultError."""
        try:
            connect(self.url).close()  # docker-py leaks a socket when nobody listens
        except OSError as error:
            raise EngineGone(f"{self.url}: no Docker engine answers ({error.strerror or error})") from error
        try:
            with closing(self._client()) as api:
                return ask(api)
        except (DockerException, requests.RequestException) as error:
            raise self._told(error) from error

    def _client(self) -> docker.APIClient:
        if not self._version:
            with closing(self._unasked_client(FIRST_API_VERSION)) as api:
                self._version = api.version(api_version=False)["ApiVersion"]
        return self._unasked_client(self._version)

    def _unasked_client(self, version: str) -> docker.APIClient:
        api = docker.APIClient(base_url=self.url, version=version, timeout=TIMEOUT_S)
        api.trust_env = False
        return api

    def _told(self, error: Exception) -> FaultError:
        """The error of ours that says what went wrong."""
        if isinstance(error, NotFound):
            return NotThere(f"{self.url}: {error.explanation}")
        if isinstance(error, APIError):
            return FaultError(f"{self.url}: {error.explanation or error}")
        if isinstance(error, requests.HTTPError):
            kind = NotThere if error.response.status_code == requests.codes.not_found else FaultError
            return kind(f"{self.url}: {_message(error.response)}")
        if isinstance(error, requests.Timeout):
            return FaultError(f"{self.url}: no answer within {TIMEOUT_S:g} s")
        if isinstance(error, requests.JSONDecodeError):
            return FaultError(f"{self.url}: answers what is no JSON")
        if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
            return EngineGone(f"{self.url}: the Docker engine went away during the call")
        return FaultError(f"{self.url}: {error}")


def same_settings(one: Endpoint, other: Endpoint) -> bool:
    """Equal in all that was asked for; the order of aliases and links means nothing."""
    return _comparable(one.settings) == _comparable(other.settings)


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: sorted(value) if isinstance(value, list) else value for key, value in settings.items()}


class _Endpoint(msgspec.Struct):
    NetworkID: str = ""
    IPAddress: str = ""


class _State(msgspec.Struct):
    Running: bool
    Paused: bool
    Pid: int
    StartedAt: str


class _Config(msgspec.Struct):
    Labels: dict[str, str] | None = None


class _HostConfig(msgspec.Struct):
    AutoRemove: bool = False
    NanoCpus: int = 0
    CpuQuota: int = 0
    CpuPeriod: int = 0


class _NetworkSettings(msgspec.Struct):
    Networks: dict[str, dict[str, Any]] | None = None


class _Inspected(msgspec.Struct):
    """What we read of the engine's answer, under the engine's names."""

    Id: str
    Name: str
    State: _State
    Config: _Config
    HostConfig: _HostConfig
    NetworkSettings: _NetworkSettings


def _container_state(answer: Any) -> ContainerState:
    try:
        found = msgspec.convert(answer, _Inspected)
        endpoints = tuple(_endpoint(name, raw) for name, raw in (found.NetworkSettings.Networks or {}).items())
    except msgspec.ValidationError as error:
        raise FaultError(f"not what a Docker engine answers: {error}") from error
    return ContainerState(
        id=found.Id,
        name=found.Name.removeprefix("/"),
        started_at=found.State.StartedAt,
        running=found.State.Running,
        paused=found.State.Paused,
        pid=found.State.Pid,
        removed_on_exit=found.HostConfig.AutoRemove,
        labels=found.Config.Labels or {},
        endpoints=endpoints,
        cpu=CpuLimit(
            nano_cpus=found.HostConfig.NanoCpus,
            quota_us=found.HostConfig.CpuQuota,
            period_us=found.HostConfig.CpuPeriod,
        ),
    )


def _endpoint(network: str, raw: dict[str, Any]) -> Endpoint:
    known = msgspec.convert(raw, _Endpoint)
    settings = {key: raw[key] for key in ENDPOINT_SETTINGS if raw.get(key)}
    return Endpoint(network=network, network_id=known.NetworkID, settings=settings, address=known.IPAddress)


def _message(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (requests.JSONDecodeError, KeyError, TypeError):
        return f"answered {response.status_code}: {response.text[:200]}"
