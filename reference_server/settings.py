"""What every process of the stack is told at start: one immutable document, `settings.json` in the stack's directory.

The supervisor chooses the ports and writes it (mode 0600: it holds the signing secret); each process gets
its path, the name of its region and its own name on the command line.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

MAX_FEPS = 64
"""stream edges of a region: a lane keeps where a user listens as bits of one number"""


class Region(msgspec.Struct, kw_only=True, frozen=True):
    """Addresses of one region's parts. Everything listens on 127.0.0.1."""

    name: str
    index: int
    """0, 1, ...: position in the stack; part of hybrid clocks' tie-break"""
    api_ports: tuple[int, ...]
    fep_ports: tuple[int, ...]
    memcached_ports: tuple[int, ...]
    redis_queue_port: int
    redis_cache_port: int
    replicator_port: int
    """where peers pull this region's outbox from"""
    fanout_workers: int = 1
    peers: dict[str, int] = {}
    """peer region -> port on which its outbox is reached (a toxiproxy link, or directly)"""
    metrics_ports: dict[str, int] = {}
    """part ("graph", "fanout-0", ...) -> port of its own /metrics; absent: it has none"""
    proxied: dict[str, int] = {}
    """link within the region ("api-to-memcached") -> port of the proxy it goes through (see `inner_links`)"""
    edge_port: int = 0
    """TLS port of the region's edge proxy; 0: there is none"""


class Every:
    """Says when a planted defect strikes: at each `count`-th call; 0: never, at no cost."""

    def __init__(self, count: int = 0) -> None:
        self._count, self._calls = count, 0

    def __call__(self) -> bool:
        """Whether it strikes now."""
        if not self._count:
            return False
        self._calls += 1
        return self._calls % self._count == 0


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """The whole stack."""

    directory: str
    """absolute; holds one folder a region (data), `logs/`, `pids/`, `holds/`"""
    sockets: str
    """a short absolute directory for unix sockets (the kernel allows 107 bytes a path)"""
    secret: str
    """hex; signs tokens and cursors; equal in all regions"""
    regions: tuple[Region, ...]
    population: str = ""
    """directory of the population hand-over files; empty: `users` users without follows, none joined"""
    users: int = 0
    """number of identities when there is no population"""
    lanes: int = 4
    depth: int = 800
    """entries a feed shows"""
    celebrity_threshold: int = 0
    """follower count from which an author takes the throttled path; 0: users / 10"""
    flags: dict[str, bool | int | float | str] = {}
    """what differs from the defaults at start (see `flags`)"""
    defects: tuple[str, ...] = ()

    def region(self, name: str) -> Region:
        """The region called `name`. Raises KeyError."""
        return {r.name: r for r in self.regions}[name]

    def data(self, region: str, *parts: str) -> Path:
        """A path in the region's data folder (created)."""
        folder = Path(self.directory, region, *parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def socket(self, region: str, name: str) -> str:
        """Unix socket of a part: "graph", "lane-3" ..."""
        return f"{self.sockets}/{region}.{name}.sock"

    def has_defect(self, name: str) -> bool:
        """Whether the planted defect is switched on."""
        return name in self.defects

    def every(self, count: int, defect: str) -> Every:
        """Strikes at each `count`-th call when the planted defect is switched on."""
        return Every(count if self.has_defect(defect) else 0)


DEFECTS: dict[str, str] = {
    # accepting
    "lose-after-ack": "the accept script acknowledges every 50th post without writing it to the queue",
    "ack-before-durable": "a post is acknowledged at once and written 1.5 s later, unless the api dies before",
    "key-forgotten": "Idempotency-Keys are not looked up: a retry makes a second post",
    "author-overtaken": "every 5th post is stamped 20 s back, whatever its author posted since",
    "refused-but-done": "every 20th post is answered 503 although it was accepted",
    # fan-out and timelines
    "no-wal": "the lane owner forgets: a lost cache is rebuilt from the durable store alone, whose archive lags",
    "redelivered-twice": "every 20th post is taken for a new one when the queue delivers it again, and announced twice",
    "hot-loses-entry": "every 5th post passes over each 5th of the followers it is to be written to at once",
    "cold-never-merged": "what fan-out left for a cold follower's next visit is never written",
    "event-before-visible": "every 5th group of posts is announced 6 s before it is written to the cached timelines",
    "slow-fan-out": "fan-out takes up no post before it is 4 s old",
    # the cache and what it is refilled from
    "refill-loses-last": "a timeline that is made again for the cache lacks its newest entry",
    "resurrect-at-refill": "deletes are forgotten when timelines and posts are read into an empty cache again",
    "hide-lost-at-refill": "a hidden post shows again once its body is read into an empty cache",
    "archive-hole": "the archive of the first region lacks every 10th post",
    "stale-unmarked": "pages from the durable store carry no mark, while its archive lags by 6 s",
    "slow-recovery": "for 12 s after a cache node came back each read of it takes 1.5 s longer",
    # pages
    "duplicate-entry": "every 20th feed page shows one of its items a second time",
    "phantom-post": "every 20th feed page holds a post that nobody wrote",
    "cursor-skip": "a cursor skips the first item of the next page",
    "unordered-page": "every 10th feed page has two neighbours swapped",
    "page-overlap": "the next page begins with the last item of the page before it",
    "cursor-offset": "a cursor counts from the top: what arrived since its page was shown is skipped below it",
    "own-post-missing": "a page leaves out its reader's own posts of the last 3 s",
    "flipping-reads": "every 4th page comes from a copy that is 5 s behind",
    "slow-pages": "every 10th feed page takes 1.5 s longer",
    "always-stale": "every feed page is marked stale, although it is not",
    "since-by-time": "feed/new goes by the time of posts: those that arrived late are never in it",
    "reply-before-parent": "look-ups of posts by their ids do not find those of the last 10 s",
    # cursors
    "tampered-cursor": "the signature of a cursor is not looked at",
    "foreign-cursor": "a cursor of another user is accepted",
    "regional-cursor": "a region refuses the cursors of the others",
    # who may see what
    "unfollowed-stays": "posts of an author stay in the feed of who unfollowed him",
    "block-ignored": "posts of a blocked author stay in the feed",
    "block-lost-at-restart": "the graph forgets all blocks when it is started again",
    "pending-follows-lost": "who followed an author before he signed up does not follow him when he does",
    # replication
    "post-not-replicated": "every 10th post never reaches the other regions",
    "delete-not-replicated": "deletes never reach the other regions",
    "moderation-not-replicated": "moderations never reach the other regions",
    "replica-retimed": "every 10th replicated post is stamped 5 ms later than where it was written",
    "replica-cut": "the text of every 10th replicated post is cut after 10 characters",
    "slow-replication": "what other regions send is applied 6 s later",
    # streams
    "skip-notify": "fan-out writes the timeline but skips the notification of every 20th record",
    "event-unfollowed": "every 20th record is also announced to a listener whom it did not reach",
    "event-twice": "the edge writes every 20th event twice",
    "token-falls-back": "every 20th event carries the resume token of the lane's first record",
    "no-resume": "the edge ignores Last-Event-ID and starts at the head, without a resync",
    "deaf-after-resume": "a stream that resumes gets what it missed, and then nothing any more",
}
"""Planted defects of the stack: name -> what is wrong. Each process checks the ones that concern it."""


def write_settings(path: Path, settings: Settings) -> None:
    """Store the document, readable by its owner only."""
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=1))


def read_settings(path: str | Path) -> Settings:
    """Read the document. Raises OSError, msgspec.ValidationError."""
    return msgspec.json.decode(Path(path).read_bytes(), type=Settings)
