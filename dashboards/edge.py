"""The streams and what feeds them."""

from dashboards.board import REGION, Board, Panel, Row, quantile, rate

BOARD = Board(
    "feedstorm-edge",
    "feedstorm / edge and streams",
    "Streams held open, events written to them, and listeners that were refused, dropped or told to read again.",
    (
        Row(
            "Streams",
            (
                Panel(
                    "Open",
                    "Streams held open, by edge process.",
                    {"{{region}} {{part}}": f"feed_streams_open{{{REGION}}}"},
                ),
                Panel(
                    "Time to the first bytes",
                    "From the request for a stream until it has begun.",
                    {
                        "p50": quantile(0.5, "feed_stream_subscribe_seconds"),
                        "p99": quantile(0.99, "feed_stream_subscribe_seconds"),
                    },
                    "s",
                ),
                Panel(
                    "Refused",
                    "Requests for a stream that got none, by status.",
                    {"{{status}}": rate("feed_stream_refused_total", by="status")},
                    "reqps",
                ),
            ),
        ),
        Row(
            "Edge proxy",
            (
                Panel(
                    "Answers",
                    "By class of status, as clients see them.",
                    {
                        "{{region}} {{code}}": rate(
                            "haproxy_frontend_http_responses_total", "region, code", 'proxy="edge"'
                        )
                    },
                    "reqps",
                ),
                Panel(
                    "Sessions",
                    "Connections of clients, streams, and how many of each it takes.",
                    {
                        "{{region}} sessions": f'haproxy_frontend_current_sessions{{{REGION}, proxy="edge"}}',
                        "{{region}} limit": f'haproxy_frontend_limit_sessions{{{REGION}, proxy="edge"}}',
                        "{{region}} streams": f'haproxy_backend_current_sessions{{{REGION}, proxy="streams"}}',
                        "{{region}} limit of streams": f'haproxy_backend_limit_sessions{{{REGION}, proxy="streams"}}',
                    },
                ),
                Panel(
                    "Servers that are up",
                    "By purpose; those of the next region are there for the failure of the own ones.",
                    {"{{region}} {{proxy}}": f'sum by (region, proxy) (haproxy_server_status{{{REGION}, state="UP"}})'},
                ),
            ),
        ),
        Row(
            "Events",
            (
                Panel(
                    "Events", "Written to streams.", {"{{part}}": rate("feed_stream_events_total", by="part")}, "wps"
                ),
                Panel(
                    "Dropped and told to read again",
                    "Slow listeners cut; resyncs written because a gap could not be filled.",
                    {
                        "slow drops": rate("feed_stream_slow_drops_total"),
                        "resyncs": rate("feed_stream_resyncs_total"),
                    },
                    "ops",
                ),
                Panel(
                    "Catch-ups",
                    "Times a lane's streams were registered again to fill a gap, by cause.",
                    {"{{cause}}": rate("feed_stream_catch_ups_total", by="cause")},
                    "ops",
                ),
            ),
        ),
        Row(
            "Bus",
            (
                Panel(
                    "Messages to edges",
                    "Sent by fan-out, by outcome.",
                    {"{{outcome}}": rate("feed_bus_messages_total", by="outcome")},
                    "ops",
                ),
                Panel(
                    "Unreadable messages",
                    "Messages of the bus that were skipped.",
                    {"unreadable": rate("feed_stream_bus_unreadable_total")},
                    "ops",
                ),
                Panel(
                    "Descriptors",
                    "Share of the descriptors an edge process may open that it has open: a stream takes one.",
                    {"{{region}} {{part}}": f"feed:edge_descriptors:ratio{{{REGION}}}"},
                    "percentunit",
                    bound=0.9,
                ),
            ),
        ),
    ),
)
