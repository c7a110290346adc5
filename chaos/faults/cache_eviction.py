"""cache-eviction: a storm of new keys makes a memcached evict what the target has stored. Undo: those keys are deleted.

How many of the entries go is `share`; they come back as the target stores them again. The storm's keys are numbered, so
whoever undoes it knows them all. The memory that the server has taken by then stays with it, as memcached gives none
back.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import msgspec

from chaos.addresses import is_refused, wait_until
from chaos.children import starting
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.marks import end_marked, new_mark
from chaos.memcached import connected, held, stats

OVERHEAD_BYTES = 96
"""of an entry beside its value, at most: header, key, line end"""
SMALLEST_CHUNK_BYTES = 144
"""slab classes below it have no room for our keys"""
FILL_CHUNK_BYTES = 16_384
"""what the memory that is left is filled with, unless the target's own entries are as large"""
GROWTH = 1.4
"""from one slab class to the next, at most (memcached -f; 1.25 unless told otherwise)"""
MARK_CHUNK_BYTES = 2_048
"""the mark's, or the next size that the target does not use"""
SPARE_KEYS = 1.25
BATCH = 1_000
DELETE_TIMEOUT_S = 5.0
MOST_PASSES = 10
_CHUNK_SIZE = re.compile(r"(\d+):chunk_size")


class SlabClass(msgspec.Struct, frozen=True, kw_only=True):
    """Keys PREFIX0, PREFIX1, ... of one size."""

    prefix: str
    value_bytes: int
    keys: int
    """at most"""
    number: int = 0
    """of the slab class, where it is known"""
    evict: int = 0
    """entries to be evicted in it"""

    def names(self) -> Iterator[str]:
        """All keys that may have been set."""
        return (f"{self.prefix}{number}" for number in range(self.keys))


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One memcached before the storm, and what will be put into it, in this order."""

    address: str
    items: int
    evictions: int
    filling: SlabClass
    classes: tuple[SlabClass, ...]
    mark_class: SlabClass
    """its first key is set before the storm"""

    @property
    def own(self) -> tuple[SlabClass, ...]:
        """All keys of the storm."""
        return (self.filling, *self.classes, self.mark_class)

    @property
    def wanted(self) -> int:
        """Evictions that make the storm."""
        return max(1, sum(kind.evict for kind in self.classes))


class EvictionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What will be put where, and the mark of the process that does it."""

    nodes: tuple[Node, ...]
    mark: str
    lease_s: float


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"must be a number above 0 and up to 1, got {value!r}")
    return float(value)


class CacheEviction:
    """See the module."""

    name = "cache-eviction"
    about = "The handle's caches are filled with other keys until they have evicted a `share` of their entries."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("memcached",)
    colour = "#d9a441"
    parameters: Mapping[str, Parameter] = {
        "share": Parameter(_share, "of the entries that are there, to be evicted", default=0.5),
        "lease": starting.LEASE,
    }
    plan_type = EvictionPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> EvictionPlan:
        """What is in the caches, by slab class."""
        token = secrets.token_hex(4)
        nodes = tuple(_node(address, f"fs{token}", params["share"]) for address in handle.memcached)
        return EvictionPlan(nodes=nodes, mark=new_mark(), lease_s=params["lease"])

    def inject(self, plan: EvictionPlan) -> None:
        """A child marks the caches and begins."""
        job = {"nodes": msgspec.to_builtins(plan.nodes)}
        starting.start("cache_filler", plan.mark, plan.lease_s, job)

    def witness(self, plan: EvictionPlan, within_s: float) -> Witness:
        """The servers count as many evictions, and the keys that were set before the storm are gone."""
        try:
            done = wait_until(lambda: all(_risen(n) >= n.wanted and not _has_mark(n) for n in plan.nodes), within_s)
            seen = "; ".join(
                f"{node.address} evicted {_risen(node)} of {node.items} entries, "
                f"the key set before is {'there' if _has_mark(node) else 'gone'}"
                for node in plan.nodes
            )
        except OSError as error:
            return Witness(False, f"a cache does not answer: {error}")
        return Witness(done, seen)

    def undo(self, plan: EvictionPlan) -> str:
        """End the child and delete its keys; a server that is gone has none."""
        end_marked(plan.mark)
        return "; ".join(_cleared(node) for node in plan.nodes)


def _node(address: str, prefix: str, share: float) -> Node:
    general, slabs = stats(address), stats(address, "slabs")
    if not general.get("curr_items"):
        raise FaultError(f"{address} is empty: nothing to evict")
    sizes = {int(match[1]): size for name, size in slabs.items() if (match := _CHUNK_SIZE.fullmatch(name))}
    used = {number: slabs.get(f"{number}:used_chunks", 0) for number in sizes}
    classes = tuple(
        SlabClass(
            prefix=f"{prefix}:{number}:",
            value_bytes=sizes[number] - OVERHEAD_BYTES,
            keys=round((used[number] * share + slabs.get(f"{number}:free_chunks", 0)) * SPARE_KEYS) + 100,
            number=number,
            evict=max(1, round(used[number] * share)),
        )
        for number in sizes
        if used[number] and sizes[number] >= SMALLEST_CHUNK_BYTES
    )
    free_bytes = max(0, general["limit_maxbytes"] - slabs.get("total_malloced", 0))
    largest = max((sizes[kind.number] for kind in classes), default=0)
    return Node(
        address=address,
        items=general["curr_items"],
        evictions=general["evictions"],
        filling=_extra(f"{prefix}:f:", max(largest, FILL_CHUNK_BYTES), free_bytes),
        classes=classes,
        mark_class=_extra(f"{prefix}:m:", _unused({sizes[number] for number in sizes if used[number]}), 4 << 20),
    )


def _unused(sizes: set[int]) -> int:
    """A chunk size that goes into a class of its own."""
    chunk_bytes = MARK_CHUNK_BYTES
    while any(chunk_bytes <= size <= chunk_bytes * GROWTH for size in sizes):
        chunk_bytes = round(chunk_bytes * GROWTH)
    return chunk_bytes


def _extra(prefix: str, chunk_bytes: int, memory_bytes: int) -> SlabClass:
    keys = round(memory_bytes / chunk_bytes * SPARE_KEYS) + 100
    return SlabClass(prefix=prefix, value_bytes=chunk_bytes - OVERHEAD_BYTES, keys=keys)


def _risen(node: Node) -> int:
    return stats(node.address)["evictions"] - node.evictions


def _has_mark(node: Node) -> bool:
    return bool(held(node.address, [f"{node.mark_class.prefix}0"]))


def _cleared(node: Node) -> str:
    """Delete again until nothing was left to delete: the server may still be reading what the child sent last."""
    names = [name for kind in node.own for name in kind.names()]
    deleted = 0
    try:
        with connected(node.address, DELETE_TIMEOUT_S) as sock, sock.makefile("rb") as replies:
            for _ in range(MOST_PASSES):
                count = sum(_deleted(sock, replies, names[at : at + BATCH]) for at in range(0, len(names), BATCH))
                deleted += count
                if not count:
                    return f"{node.address}: {deleted} keys of the storm deleted, none is left"
    except ConnectionError:
        if not is_refused(f"tcp://{node.address}"):
            raise
        return f"nobody answers at {node.address}: its entries went with it"
    raise FaultError(f"{node.address}: keys of the storm were still there after {MOST_PASSES} deletions of all of them")


def _deleted(sock: socket.socket, replies: BinaryIO, names: list[str]) -> int:
    sock.sendall("".join(f"md {name}\r\n" for name in names).encode())
    told = [replies.readline() for _ in names]
    if not all(told):
        raise ConnectionResetError("the server closed the connection")
    return sum(line.startswith(b"HD") for line in told)
