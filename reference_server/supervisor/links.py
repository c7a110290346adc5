"""The links between regions: one toxiproxy proxy a direction, slowed down to a wide-area network.

The link `{from}--{to}` carries what `to` pulls from `from`. Toxic "wan_down" delays the data, "wan_up" the
requests and acknowledgements: each way costs the one-way latency once.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from reference_server.supervisor.parts import HOST
from reference_server.supervisor.programs import StackUnavailable

TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Link:
    """Data flowing from one region to another."""

    source: str
    target: str
    listen_port: int
    upstream_port: int

    @property
    def proxy(self) -> str:
        """Name of the proxy."""
        return f"{self.source}--{self.target}"


class _Toxic(msgspec.Struct, frozen=True):
    name: str
    stream: str
    attributes: dict[str, int]
    type: str = "latency"
    toxicity: float = 1.0


class _Proxy(msgspec.Struct, frozen=True):
    name: str
    listen: str
    upstream: str
    enabled: bool = True
    toxics: tuple[_Toxic, ...] = ()


async def apply_links(port: int, links: list[Link], latency_ms: int) -> None:
    """Make the proxies and their toxics at the server on `port`, and read them back. Raises StackUnavailable."""
    import httpx  # slow to import: the parts are on their way meanwhile

    url = f"http://{HOST}:{port}"
    wanted = {link.proxy: _described(link, latency_ms) for link in links}
    bare = [msgspec.to_builtins(msgspec.structs.replace(proxy, toxics=())) for proxy in wanted.values()]
    try:
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
            (await client.post("/populate", json=bare)).raise_for_status()
            for proxy in wanted.values():
                for toxic in proxy.toxics:
                    answer = await client.post(f"/proxies/{proxy.name}/toxics", json=msgspec.to_builtins(toxic))
                    if answer.status_code != httpx.codes.CONFLICT:
                        answer.raise_for_status()
            answer = (await client.get("/proxies")).raise_for_status()
    except httpx.HTTPError as error:
        raise StackUnavailable(
            f"toxiproxy at {url} did not take the links ({error}); see logs/toxiproxy.log"
        ) from error
    _check(wanted, msgspec.json.decode(answer.content, type=dict[str, _Proxy]))


def _described(link: Link, latency_ms: int) -> _Proxy:
    delays = [_Toxic("wan_down", "downstream", {"latency": latency_ms})]
    delays.append(_Toxic("wan_up", "upstream", {"latency": latency_ms}))
    return _Proxy(
        name=link.proxy,
        listen=f"{HOST}:{link.listen_port}",
        upstream=f"{HOST}:{link.upstream_port}",
        toxics=tuple(delays) if latency_ms else (),
    )


def _check(wanted: dict[str, _Proxy], found: dict[str, _Proxy]) -> None:
    """Toxiproxy's answer to a change is no proof of it."""
    for name, proxy in wanted.items():
        present = found.get(name)
        delays = {t.name: t.attributes.get("latency") for t in present.toxics} if present else {}
        if (
            present is None
            or present.listen != proxy.listen
            or delays != {t.name: t.attributes["latency"] for t in proxy.toxics}
        ):
            raise StackUnavailable(f"toxiproxy did not set up link {name} as asked; see logs/toxiproxy.log")
