"""What an api measures of itself, and its region's metrics in one document.

`joined` labels each part's samples with `part`, and keeps the samples of a family together as the text format asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

from reference_server.observability.tallies import CountMetric, DurationMetric
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

PART_TIMEOUT_S = 0.2
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

FEED_READS = CountMetric(
    "api_feed_reads", "Feed pages served, by where the timeline came from", "source", ("cache", "owner", "durable")
)
FEED_DEGRADED = Counter("api_feed_degraded", "Feed pages marked Feed-Degraded")
FEED_DEEPER = Counter("api_feed_deeper", "Feed pages that went on below what is cached, by where", ["source"])
FEED_SECONDS = DurationMetric("api_feed_read_seconds", "Time to serve a feed page")
ACCEPT_SECONDS = Histogram("api_post_accept_seconds", "Time until redis-queue acknowledged a post", buckets=_SECONDS)
POSTS = Counter("api_posts", "Posts, by outcome", ["outcome"])
SIGN_UPS = Counter("api_sign_ups", "Sign-ups, by outcome", ["outcome"])
STATUS_CHANGES = Counter("feed_post_status_changes", "Posts hidden, moderated or shown again here", ["status"])
FLAG_CHANGES = Counter("feed_flag_changes", "Flags set through this process")
FOLLOWS_OVER_CAP = Counter("feed_follows_over_cap", "Follows refused by follow_cap")
BODY_MEMORY = Gauge("feed_body_memory_bytes", "Post bodies at hand in an api process; bounded")
BODIES = Counter("api_bodies", "Post bodies, by where they were found", ["source"])


def joined(own: str, parts: Mapping[str, bytes]) -> bytes:
    """One Prometheus text of this process (`own`) and the texts of other parts."""
    families: dict[str, tuple[list[str], list[str]]] = {}
    for part, text in {own: generate_latest(REGISTRY), **parts}.items():
        for name, (head, samples) in _families(text.decode(), part).items():
            known = families.setdefault(name, (head, []))
            known[1].extend(samples)
    lines = [line for head, samples in families.values() for line in (*head, *samples)]
    return ("\n".join(lines) + "\n").encode()


def _families(text: str, part: str) -> dict[str, tuple[list[str], list[str]]]:
    found: dict[str, tuple[list[str], list[str]]] = {}
    head: list[str] = []
    samples: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            head, samples = [line], []
            found[line.split(" ", 3)[2]] = (head, samples)
        elif line.startswith("#"):
            head.append(line)
        elif line:
            samples.append(_labelled(line, part))
    return found


def _labelled(sample: str, part: str) -> str:
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f'{name}{{part="{part}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{part="{part}"}} {value}'


async def metrics_of(clients: Mapping[str, RpcClient]) -> dict[str, bytes]:
    """The texts of the parts that answer in time."""
    texts = await asyncio.gather(*(_metrics_of(client) for client in clients.values()))
    return {part: text for part, text in zip(clients, texts, strict=True) if text}


async def _metrics_of(client: RpcClient) -> bytes:
    try:
        text = await client.call("metrics", timeout_s=PART_TIMEOUT_S)
    except (RpcUnavailable, RpcTimeout, RpcError):
        return b""
    return text if isinstance(text, bytes) else str(text).encode()
