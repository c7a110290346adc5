"""From the queue to the timelines."""

from dashboards.board import REGION, Board, Panel, Row, quantile, rate

BOARD = Board(
    "feedstorm-fanout",
    "feedstorm / fan-out and timelines",
    "How fast posts reach timelines, what is put off, and what a lost timeline costs.",
    (
        Row(
            "Fan-out",
            (
                Panel(
                    "Entries",
                    "Timeline entries written at once, put off until a cold follower reads, and written then.",
                    {
                        "written": rate("feed_fanout_entries_total"),
                        "put off": rate("feed_fanout_deferred_entries_total"),
                        "written later": rate("feed_fanout_owed_entries_total"),
                    },
                    "wps",
                ),
                Panel("Records", "Log records written.", {"records": rate("feed_fanout_records_total")}, "wps"),
                Panel(
                    "Lag",
                    "From a post's place in the queue until it was in log and index.",
                    {
                        "p50": quantile(0.5, "feed_fanout_lag_seconds"),
                        "p99": quantile(0.99, "feed_fanout_lag_seconds"),
                    },
                    "s",
                    bound=0.5,
                ),
            ),
        ),
        Row(
            "Celebrities",
            (
                Panel(
                    "Under way",
                    "Posts of celebrities that have not reached every follower yet.",
                    {"{{region}}": f"sum by (region) (feed_celebrity_posts{{{REGION}}})"},
                ),
                Panel(
                    "To the last follower",
                    "From a celebrity's post's place in the queue until its last follower was in log and index.",
                    {
                        "p50": quantile(0.5, "feed_celebrity_lag_seconds"),
                        "p99": quantile(0.99, "feed_celebrity_lag_seconds"),
                    },
                    "s",
                ),
            ),
        ),
        Row(
            "Lanes",
            (
                Panel(
                    "Records not applied",
                    "Records in a lane's log that memcached has not acknowledged yet.",
                    {"{{region}} lane {{lane}}": f"feed:lane_unapplied:records{{{REGION}}}"},
                ),
                Panel(
                    "States",
                    "Lanes by state. A lane that restores makes its log again from archive and queue.",
                    {"{{region}} {{state}}": f"sum by (region, state) (feed_lane_state{{{REGION}}})"},
                ),
                Panel(
                    "Restored",
                    "Posts that lanes took from the archive because their log was lost or damaged.",
                    {"{{region}}": rate("feed_lane_restored_posts_total", by="region")},
                    "ops",
                ),
                Panel(
                    "Follower pages",
                    "Where pages of followers came from: redis-cache, or the graph service.",
                    {"{{source}}": rate("feed_follower_pages_total", by="source")},
                    "reqps",
                ),
                Panel(
                    "Follower pages from the cache",
                    "Share of follower pages that the graph service was spared.",
                    {"ratio": f"feed:follower_page_hits:ratio_rate5m{{{REGION}}}"},
                    "percentunit",
                ),
            ),
        ),
        Row(
            "Timelines",
            (
                Panel(
                    "Rebuilds",
                    "A lost timeline made again: at its owner, and as the reader sees it.",
                    {
                        "owner p99": quantile(0.99, "feed_timeline_rebuild_seconds"),
                        "reader p99": quantile(0.99, "feed_read_rebuild_seconds"),
                    },
                    "s",
                    bound=0.05,
                ),
                Panel(
                    "Rebuilds a second",
                    "After the loss of a cache node this is high until its users have read once.",
                    {"rebuilds": rate("feed_timeline_rebuild_seconds_count")},
                    "ops",
                ),
                Panel(
                    "Publishes",
                    "Rebuilt timelines on their way into the cache, by outcome.",
                    {"{{outcome}}": rate("feed_timeline_publishes_total", by="outcome")},
                    "ops",
                ),
                Panel(
                    "Cold merges",
                    "Looks for posts owed to a user, by outcome.",
                    {
                        "{{outcome}}": rate("feed_cold_merges_total", by="outcome"),
                        "materialised": rate("feed_materialised_total"),
                    },
                    "ops",
                ),
            ),
        ),
    ),
)
