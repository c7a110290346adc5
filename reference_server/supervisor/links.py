"""The links that go through toxiproxy: all between regions, and those within a region that were asked for.

Between regions there is a proxy a direction, slowed down to a wide-area network: `{from}--{to}` carries what `to` pulls
from `from`. Toxic "wan_down" delays the data, "wan_up" the requests and acknowledgements: each way costs the one-way
latency once. A link within a region ("us-east.api-to-memcached") has no delay of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from reference_server.supervisor.parts import HOST
from reference_server.supervisor.programs import StackUnavailable

TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Link:
    """One way to a part; data flows from the part to whoever connects."""

    handle: str
    proxy: str
    regions: tuple[str, ...]
    """from, to; or the one within which it is"""
    listen_port: int
    upstream_port: int
    latency_ms: int = 0
    """one way"""
    probe: str = ""
    """hex bytes that make the part answer at once; empty: an HTTP request"""


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


async def apply_links(port: int, links: Sequence[Link]) -> None:
    """Make the proxies and their toxics at the server on `port`, and read them back. Raises StackUnavailable."""
    import httpx  # slow to import: the parts are on their way meanwhile

    url = f"http://{HOST}:{port}"
    wanted = {link.proxy: _described(link) for link in links}
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


def _described(link: Link) -> _Proxy:
    delays = [_Toxic("wan_down", "downstream", {"latency": link.latency_ms})]
    delays.append(_Toxic("wan_up", "upstream", {"latency": link.latency_ms}))
    return _Proxy(
        name=link.proxy,
        listen=f"{HOST}:{link.listen_port}",
        upstream=f"{HOST}:{link.upstream_port}",
        toxics=tuple(delays) if link.latency_ms else (),
    )


def _check(wanted: dict[str, _Proxy], found: dict[str, _Proxy]) -> None:
    """Toxiproxy's answer to a change is no proof of it. Toxics of others (chaos) may be there too."""
    for name, proxy in wanted.items():
        present = found.get(name)
        delays = {t.name: t.attributes.get("latency") for t in present.toxics} if present else {}
        if (
            present is None
            or present.listen != proxy.listen
            or not {t.name: t.attributes["latency"] for t in proxy.toxics}.items() <= delays.items()
        ):
            raise StackUnavailable(f"toxiproxy did not set up link {name} as asked; see logs/toxiproxy.log")
