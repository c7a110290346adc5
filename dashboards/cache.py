"""memcached, the follower cache, and what a miss costs."""

from dashboards.board import REGION, Board, Panel, Row, rate

BOARD = Board(
    "feedstorm-cache",
    "feedstorm / cache and log",
    "memcached is the primary store of timelines: its hit ratio is the health of the feed.",
    (
        Row(
            "Hits",
            (
                Panel(
                    "Hit ratio of feed reads",
                    "Share of feed reads that memcached answered.",
                    {"{{region}}": f"feed:cache_hits:ratio_rate5m{{{REGION}}}"},
                    "percentunit",
                    bound=0.987,
                    below=True,
                ),
                Panel(
                    "Post bodies by source",
                    "The api's own memory, memcached, redis-queue, the durable store.",
                    {"{{source}}": rate("api_bodies_total", by="source")},
                    "ops",
                ),
                Panel(
                    "Posts at hand",
                    "Memory that bodies take in each api process; bounded.",
                    {"{{region}} {{part}}": f"feed_body_memory_bytes{{{REGION}}}"},
                    "bytes",
                ),
                Panel(
                    "redis-cache",
                    "Keys found and not found, and keys given up for lack of memory.",
                    {
                        "hits": rate("feed_redis_hits_total", match='server="redis-cache"'),
                        "misses": rate("feed_redis_misses_total", match='server="redis-cache"'),
                        "evictions": rate("feed_redis_evictions_total", match='server="redis-cache"'),
                    },
                    "ops",
                ),
            ),
        ),
        Row(
            "memcached",
            (
                Panel(
                    "Memory",
                    "Of each node's items, and the limit from which it evicts.",
                    {
                        "{{region}} {{node}}": f"feed_memcached_bytes{{{REGION}}}",
                        "{{region}} {{node}} limit": f"feed_memcached_limit_bytes{{{REGION}}}",
                    },
                    "bytes",
                ),
                Panel(
                    "Items and evictions",
                    "Items held; items given up a second for lack of memory: the cache is too small.",
                    {
                        "{{region}} {{node}} items": f"feed_memcached_items{{{REGION}}}",
                        "{{node}} evictions": rate("feed_memcached_evictions_total", by="node"),
                    },
                ),
                Panel(
                    "Keys",
                    "Asked for and there, asked for and not there, stored.",
                    {
                        "{{node}} hits": rate("feed_memcached_hits_total", by="node"),
                        "{{node}} misses": rate("feed_memcached_misses_total", by="node"),
                        "{{node}} stores": rate("feed_memcached_sets_total", by="node"),
                    },
                    "ops",
                ),
                Panel(
                    "Traffic",
                    "Bytes received and sent.",
                    {
                        "{{node}} in": rate("feed_memcached_read_bytes_total", by="node"),
                        "{{node}} out": rate("feed_memcached_written_bytes_total", by="node"),
                    },
                    "Bps",
                ),
            ),
        ),
        Row(
            "Appends",
            (
                Panel(
                    "Appends",
                    "Slots sent to cached timelines, and those that found none: nobody has read them lately.",
                    {
                        "{{node}} sent": rate("feed_cache_appends_total", by="node"),
                        "{{node}} not cached": rate("feed_cache_append_misses_total", by="node"),
                    },
                    "wps",
                ),
                Panel(
                    "In flight",
                    "Appends sent to a node and not answered yet.",
                    {"{{region}} {{node}}": f"sum by (region, node) (feed_cache_in_flight_bytes{{{REGION}}})"},
                    "bytes",
                ),
                Panel(
                    "Given up",
                    "Timelines dropped because nobody reads them; generations raised: all a lane had there is void.",
                    {
                        "{{node}} overgrown": rate("feed_cache_overgrown_total", by="node"),
                        "{{node}} generations": rate("feed_cache_generations_total", by="node"),
                    },
                    "ops",
                ),
                Panel(
                    "Nodes",
                    "As lanes see them: 0 joining, 1 up, 2 lost, 3 down.",
                    {"{{region}} {{node}}": f"max by (region, node) (feed_cache_node_state{{{REGION}}})"},
                    bound=2,
                ),
            ),
        ),
        Row(
            "Log",
            (
                Panel(
                    "Size",
                    "Of the lanes' logs on disk.",
                    {"{{region}}": f"sum by (region) (feed_log_bytes{{{REGION}}})"},
                    "bytes",
                ),
                Panel(
                    "Memory of the logs",
                    "Of the lanes: what is not flushed yet, and caches. Both are bounded.",
                    {"{{region}}": f"sum by (region) (feed_log_memory_bytes{{{REGION}}})"},
                    "bytes",
                ),
                Panel(
                    "Records",
                    "Kept by the lanes.",
                    {"{{region}}": f"sum by (region) (feed_log_records{{{REGION}}})"},
                ),
                Panel(
                    "Dropped",
                    "Records older than the flag retention_s allows.",
                    {"dropped": rate("feed_log_dropped_records_total")},
                    "ops",
                ),
            ),
        ),
    ),
)
