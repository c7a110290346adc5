"""A toxiproxy server's API, safely: a time limit on each call, every change read back.

toxiproxy-python does the talking, below its two top classes. Those (`Toxiproxy`, `Proxy`) share host and port with the
whole process, take no time-out, read a 500 as success and cannot change a toxic in place; the layer under them,
`APIConsumer`, takes all of that per call and per subclass, and maps 400, 404 and 409 to exceptions. This module adds:

- one consumer class a server, so two servers can be used at once;
- time-outs, no environment proxies between us and loopback;
- every status that is not a success is an error;
- a toxic is set by updating it in place (removing it and adding another would let data through undelayed in between);
- after each change the proxy is read back and compared: toxiproxy's own answer is not taken as proof.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from chaos.addresses import is_refused
from chaos.kind import FaultError

TIMEOUT_S = 3.0
NO_PROXIES = {"http": None, "https": None, "all": None}


class ToxiproxyGone(FaultError):
    """Nobody listens at the API: connections are refused. With the server, its proxies and toxics are gone."""


class NoSuchProxy(FaultError):
    """The server knows no such proxy."""


class Toxic(msgspec.Struct, frozen=True, kw_only=True):
    """One toxic of a proxy."""

    name: str
    type: str
    stream: str
    """ "downstream": upstream to client; "upstream": client to upstream"""
    attributes: dict[str, int] = {}
    toxicity: float = 1.0


class ProxyState(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy as the server describes it."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[Toxic, ...] = ()

    def toxic(self, name: str) -> Toxic | None:
        """The toxic called `name`, if there."""
        return {t.name: t for t in self.toxics}.get(name)


class ToxiproxyServer:
    """One server, by the base URL of its API."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self._api: type[Any] = type("_Consumer", (APIConsumer,), {"host": parts.hostname, "port": parts.port})

    def proxy(self, name: str) -> ProxyState:
        """How the proxy is now. Raises NoSuchProxy, ToxiproxyGone, FaultError."""
        answer = self._call(self._api.get, f"/proxies/{name}")
        try:
            return msgspec.convert(answer, ProxyState)
        except msgspec.ValidationError as error:
            raise FaultError(f"{self.url}: proxy {name}: not what toxiproxy answers: {error}") from error

    def create_proxy(self, name: str, listen: str, upstream: str) -> ProxyState:
        """Add a proxy. Raises FaultError when there is one of that name."""
        self._call(self._api.post, "/proxies", json={"name": name, "listen": listen, "upstream": upstream})
        return self.proxy(name)

    def remove_proxy(self, name: str) -> None:
        """Remove a proxy; one that is not there is fine."""
        try:
            self._call(self._api.delete, f"/proxies/{name}")
        except NoSuchProxy:
            return

    def set_enabled(self, proxy: str, *, is_enabled: bool) -> None:
        """Let the proxy listen, or stop it and break its connections; its toxics stay. Read back."""
        if self.proxy(proxy).enabled != is_enabled:
            self._call(self._api.post, f"/proxies/{proxy}", json={"enabled": is_enabled})
        if self.proxy(proxy).enabled != is_enabled:
            raise FaultError(f"{self.url}: proxy {proxy} reads back as {'disabled' if is_enabled else 'enabled'}")

    def set_upstream(self, proxy: str, upstream: str) -> None:
        """Lead the proxy to another upstream, and break its connections; its toxics stay. Read back."""
        if self.proxy(proxy).upstream != upstream:
            self._call(self._api.post, f"/proxies/{proxy}", json={"upstream": upstream})
        state = self.proxy(proxy)
        if state.upstream != upstream or not state.enabled:
            raise FaultError(f"{self.url}: proxy {proxy} reads back as leading to {state.upstream}, not {upstream}")

    def set_toxic(self, proxy: str, toxic: Toxic) -> None:
        """Make `toxic` so: updated in place when one of that name is there, else added. Read back."""
        present = self.proxy(proxy).toxic(toxic.name)
        path = f"/proxies/{proxy}/toxics"
        if present is not None and (present.type, present.stream) != (toxic.type, toxic.stream):
            self.remove_toxic(proxy, toxic.name)
            present = None
        if present is not None:
            change = {"attributes": toxic.attributes, "toxicity": toxic.toxicity}
            self._call(self._api.post, f"{path}/{toxic.name}", json=change)
        else:
            self._call(self._api.post, path, json=msgspec.to_builtins(toxic))
        found = self.proxy(proxy).toxic(toxic.name)
        if found is None or not same_toxic(found, toxic):
            raise FaultError(f"{self.url}: toxic {toxic.name} of {proxy} reads back as {found}, not {toxic}")

    def remove_toxic(self, proxy: str, name: str) -> None:
        """Remove a toxic; one that is not there is fine. Read back."""
        try:
            self._call(self._api.delete, f"/proxies/{proxy}/toxics/{name}")
        except NoSuchProxy:
            pass
        if self.proxy(proxy).toxic(name) is not None:
            raise FaultError(f"{self.url}: toxic {name} of {proxy} is still there after its removal")

    def _call(self, verb: Callable[..., requests.Response], path: str, **arguments: Any) -> Any:
        """The JSON answer of a call, None when it has no body."""
        try:
            response = verb(path, timeout=TIMEOUT_S, proxies=NO_PROXIES, **arguments)
        except NotFound as error:
            raise NoSuchProxy(f"{self.url}: nothing at {path}") from error
        except (ProxyExists, InvalidToxic) as error:
            raise FaultError(f"{self.url}: {path}: {_text(error)}") from error
        except requests.Timeout as error:
            raise FaultError(f"{self.url}: no answer within {TIMEOUT_S:g} s") from error
        except requests.ConnectionError as error:  # also for what this process lacks: descriptors, ports
            if is_refused(self.url):
                raise ToxiproxyGone(f"{self.url}: nobody answers") from error
            raise FaultError(f"{self.url}: the call failed: {error}") from error
        except requests.RequestException as error:
            raise FaultError(f"{self.url}: the call failed: {error}") from error
        if not response.ok:
            raise FaultError(f"{self.url}: {path}: answered {response.status_code}: {response.text[:200]}")
        try:
            return msgspec.json.decode(response.content) if response.content else None
        except msgspec.DecodeError as error:
            raise FaultError(f"{self.url}: {path}: answered what is no JSON: {response.text[:200]}") from error


def same_toxic(one: Toxic, other: Toxic) -> bool:
    """Equal in all that matters; toxicity travels as a 32-bit float, attributes left out are 0."""
    keys = {*one.attributes, *other.attributes}
    return (
        (one.name, one.type, one.stream) == (other.name, other.type, other.stream)
        and all(one.attributes.get(k, 0) == other.attributes.get(k, 0) for k in keys)
        and abs(one.toxicity - other.toxicity) < 1e-6
    )


def _text(error: Exception) -> str:
    first = error.args[0] if error.args else ""
    return first.decode(errors="replace").strip() if isinstance(first, bytes) else str(first)
