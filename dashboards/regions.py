"""What flows between regions."""

from dashboards.board import REGION, Board, Panel, Row, rate

BOARD = Board(
    "feedstorm-regions",
    "feedstorm / regions and replication",
    "Every region is whole. This is what they tell each other, and how late.",
    (
        Row(
            "Replication",
            (
                Panel(
                    "Lag",
                    "Age of the newest moment of the origin up to which all is applied here.",
                    {"{{region}} from {{origin}}": f"feed_replication_lag_seconds{{{REGION}}}"},
                    "s",
                    bound=5,
                ),
                Panel(
                    "Events",
                    "Applied here, and sent to a peer.",
                    {
                        "applied from {{origin}}": rate("feed_replication_applied_events_total", by="origin"),
                        "sent to {{target}}": rate("feed_replication_sent_events_total", by="target"),
                    },
                    "ops",
                ),
                Panel(
                    "Set aside",
                    "Events not applied while replication rests (flag multi_region).",
                    {"from {{origin}}": rate("feed_replication_set_aside_events_total", by="origin")},
                    "ops",
                ),
                Panel(
                    "Outbox",
                    "Events kept for peers that have not acknowledged them.",
                    {"{{region}}": f'feed_queue_depth{{{REGION}, stream="outbox"}}'},
                ),
            ),
        ),
        Row(
            "Links",
            (
                Panel(
                    "Connections made",
                    "Each is a link that was lost before, except the first.",
                    {"{{region}} to {{origin}}": rate("feed_replication_connects_total", by="region, origin")},
                    "ops",
                ),
                Panel(
                    "Peers connected",
                    "Peers that pull this region's outbox now.",
                    {"{{region}}": f"feed_replication_pullers{{{REGION}}}"},
                ),
                Panel(
                    "Gaps",
                    "Times a peer no longer had what was wanted: events are missing here for good.",
                    {"{{region}} from {{origin}}": f"feed_replication_gaps_total{{{REGION}}}"},
                    bound=1,
                ),
            ),
        ),
    ),
)
