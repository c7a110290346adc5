"""Is it well? Targets first, then rate, errors and duration of every route."""

from dashboards.board import REGION, Board, Panel, Row, quantile, rate

_READS = "api_feed_reads_total"
_EVENT = 'stage="event"'

BOARD = Board(
    "feedstorm-overview",
    "feedstorm / overview",
    "Whether the feed keeps its promises, and where to look when it does not.",
    (
        Row(
            "Promises",
            (
                Panel(
                    "Post to event, p99",
                    "From the acceptance of a post to the last byte written to its followers' streams, in its region.",
                    {"p99": quantile(0.99, "feed_stage_seconds", match=_EVENT)},
                    unit="s",
                    bound=0.5,
                    number=True,
                ),
                Panel(
                    "Feed read, p99",
                    "Time to answer a page of a feed.",
                    {"p99": quantile(0.99, "api_feed_read_seconds")},
                    unit="s",
                    bound=0.2,
                    number=True,
                ),
                Panel(
                    "Answers that are errors",
                    "Share of requests answered 5xx, or not at all.",
                    {"share": f"feed:api_errors:ratio_rate1m{{{REGION}}}"},
                    unit="percentunit",
                    bound=0.01,
                    number=True,
                ),
                Panel(
                    "Cache hit ratio",
                    "Share of feed reads that memcached answered.",
                    {"ratio": f"feed:cache_hits:ratio_rate5m{{{REGION}}}"},
                    unit="percentunit",
                    bound=0.987,
                    below=True,
                    number=True,
                ),
                Panel(
                    "Degradation level",
                    "0: nothing is left out, 3: only posting and first pages are served.",
                    {"{{region}}": f"max by (region) (feed_overload_level{{{REGION}}})"},
                    bound=1,
                    number=True,
                ),
                Panel(
                    "Replication lag",
                    "Age of the newest moment of a peer up to which all is applied here.",
                    {"{{region}} from {{origin}}": f"feed_replication_lag_seconds{{{REGION}}}"},
                    unit="s",
                    bound=5,
                    number=True,
                ),
            ),
        ),
        Row(
            "The way of a post",
            (
                Panel(
                    "Post to each stage, p99",
                    "Where the time goes: queue, log and index, memcached, notification, stream.",
                    {"{{stage}}": quantile(0.99, "feed_stage_seconds", by="stage")},
                    unit="s",
                    bound=0.5,
                ),
                Panel(
                    "Post to event",
                    "The middle and the ends of the distribution.",
                    {
                        "p50": quantile(0.5, "feed_stage_seconds", match=_EVENT),
                        "p95": quantile(0.95, "feed_stage_seconds", match=_EVENT),
                        "p99": quantile(0.99, "feed_stage_seconds", match=_EVENT),
                    },
                    unit="s",
                ),
                Panel(
                    "Posts",
                    "Posts accepted, and repeated with the same Idempotency-Key.",
                    {"{{outcome}}": rate("api_posts_total", by="outcome")},
                    unit="ops",
                ),
            ),
        ),
        Row(
            "Requests by route",
            (
                Panel(
                    "Rate", "Requests a second.", {"{{route}}": rate("feed_api_requests_total", by="route")}, "reqps"
                ),
                Panel(
                    "Errors",
                    "Answers other than 2xx, by status.",
                    {"{{route}} {{status}}": rate("feed_api_requests_total", "route, status", 'status!~"2.."')},
                    "reqps",
                ),
                Panel(
                    "Duration, p99",
                    "The gate's queue included.",
                    {"{{route}}": quantile(0.99, "feed_api_request_seconds", by="route")},
                    "s",
                ),
            ),
        ),
        Row(
            "Reads",
            (
                Panel(
                    "Feed reads by source",
                    "Where the timeline of a page came from: memcached, the lane's owner, the durable store.",
                    {"{{source}}": rate(_READS, by="source")},
                    "reqps",
                ),
                Panel(
                    "Degraded answers",
                    "Pages marked Feed-Degraded: stale, or with optional work left out.",
                    {"degraded": rate("api_feed_degraded_total")},
                    "reqps",
                ),
                Panel(
                    "Operation",
                    "Flags set, posts hidden, moderated or shown again, follows over the cap.",
                    {
                        "flags": rate("feed_flag_changes_total"),
                        "posts {{status}}": rate("feed_post_status_changes_total", by="status"),
                        "follows over the cap": rate("feed_follows_over_cap_total"),
                    },
                    "ops",
                ),
                Panel(
                    "Refused under pressure",
                    "Requests turned away without effect, by reason.",
                    {"{{reason}}": rate("feed_overload_rejected_total", by="reason")},
                    "reqps",
                ),
                Panel(
                    "Concurrency",
                    "Requests being worked on, those waiting, and the limit that adapts to the load.",
                    {
                        "in flight": f"sum(feed_overload_in_flight{{{REGION}}})",
                        "waiting": f"sum(feed_overload_waiting{{{REGION}}})",
                        "limit": f"sum(feed_overload_limit{{{REGION}}})",
                    },
                ),
                Panel(
                    "Wait for a slot, p99",
                    "Of the requests that had to wait at the gate.",
                    {"p99": quantile(0.99, "feed_overload_queue_seconds")},
                    "s",
                ),
            ),
        ),
    ),
)
