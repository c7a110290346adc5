"""What the `/metrics` of processes say now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

TIMEOUT_S = 1.0
MAX_BYTES = 4 << 20


async def scrape(url: str) -> str:
    """The Prometheus text at an http address; empty when there is no whole answer within a second."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(f"GET {target} HTTP/1.0\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
                answer = await _all(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return ""
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ")[1:2] != [b"200"]:
        return ""
    if b"transfer-encoding: chunked" in head.lower():
        body = _joined(body)
    return body.decode(errors="replace")


async def _all(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    while len(answer) < MAX_BYTES and (block := await reader.read(1 << 16)):
        answer += block
    return answer


def _joined(body: bytes) -> bytes:
    """A body without the sizes of its chunks; ends where it is no longer well-formed."""
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            break
        whole += body[:length]
        body = body[length + 2 :]
    return whole


class Series:
    """The samples of one region at one moment, those of several processes added up."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._values: dict[str, list[tuple[str, float]]] = {}
        for text in texts:
            for line in text.splitlines():
                if line and not line.startswith("#"):
                    self._add(line)

    def _add(self, line: str) -> None:
        series, _, value = line.rpartition(" ")
        name, _, labels = series.partition("{")
        try:
            self._values.setdefault(name, []).append((labels, float(value)))
        except ValueError:
            return  # no sample

    def values(self, name: str, **labels: str) -> list[float]:
        """All samples of that name that carry these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return [value for found, value in self._values.get(name, ()) if all(pair in found for pair in wanted)]

    def total(self, name: str, **labels: str) -> float:
        """Sum of those samples; 0 without any."""
        return sum(self.values(name, **labels))

    def largest(self, name: str, **labels: str) -> float | None:
        """The largest of those samples; None without any."""
        return max(self.values(name, **labels), default=None)

    def by_label(self, name: str, label: str) -> Mapping[str, float]:
        """Value of a label -> sum of the samples that carry it."""
        found: dict[str, float] = {}
        for labels, value in self._values.get(name, ()):
            _, mark, rest = labels.partition(f'{label}="')
            if mark:
                key = rest.partition('"')[0]
                found[key] = found.get(key, 0.0) + value
        return found


async def scrape_all(urls: Iterable[str]) -> Series:
    """All of them at once."""
    return Series(await asyncio.gather(*(scrape(url) for url in urls)))
