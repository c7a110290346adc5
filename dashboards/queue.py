"""The post queue, background work, the durable store."""

from dashboards.board import REGION, Board, Panel, Row, quantile, rate

BOARD = Board(
    "feedstorm-queue",
    "feedstorm / queue and jobs",
    "What waits, what is refused, and how far the durable store is behind.",
    (
        Row(
            "redis-queue",
            (
                Panel(
                    "Depth",
                    "Entries of each stream. Some hundreds are rest: streams are trimmed in blocks.",
                    {"{{region}} {{stream}}": f"feed_queue_depth{{{REGION}}}"},
                ),
                Panel(
                    "Dead letters",
                    "Entries put aside because they cannot be used, by the stream they came from.",
                    {"{{region}} {{stream}}": f"sum by (region, stream) (feed_dead_letters_total{{{REGION}}})"},
                    bound=1,
                ),
                Panel(
                    "Accepting a post",
                    "Time until redis-queue had a post on its disk.",
                    {
                        "p50": quantile(0.5, "api_post_accept_seconds"),
                        "p99": quantile(0.99, "api_post_accept_seconds"),
                    },
                    "s",
                ),
                Panel(
                    "Memory",
                    "Of both redis servers, and the size of the log.",
                    {
                        "{{region}} {{server}}": f"feed_redis_memory_bytes{{{REGION}}}",
                        "{{region}} log": f'feed_redis_log_bytes{{{REGION}, server="redis-queue"}}',
                    },
                    "bytes",
                ),
                Panel(
                    "Commands",
                    "Carried out by each redis server; writes that waited for the disk.",
                    {
                        "{{server}}": rate("feed_redis_commands_total", by="server"),
                        "delayed fsyncs": rate("feed_redis_delayed_fsyncs_total"),
                    },
                    "ops",
                ),
            ),
        ),
        Row(
            "Durable store",
            (
                Panel(
                    "Archived",
                    "Events moved into the durable store, by kind.",
                    {"{{kind}}": rate("jobs_archived_total", by="kind")},
                    "ops",
                ),
                Panel(
                    "Archive lag",
                    "Age of the oldest entry that is not archived; grows while the store stalls.",
                    {"{{region}}": f'feed_jobs_seen_lag_seconds{{{REGION}, consumer="archive"}}'},
                    "s",
                    bound=10,
                ),
                Panel(
                    "Commit, p99",
                    "Time of an archive transaction.",
                    {"p99": quantile(0.99, "jobs_archive_commit_seconds")},
                    "s",
                ),
            ),
        ),
        Row(
            "Jobs",
            (
                Panel(
                    "Waiting",
                    "Jobs that are not done, by kind.",
                    {"{{region}} {{kind}}": f"feed_jobs_waiting{{{REGION}}}"},
                ),
                Panel(
                    "Steps",
                    "Steps of jobs, by kind and outcome.",
                    {"{{kind}} {{outcome}}": rate("feed_jobs_steps_total", by="kind, outcome")},
                    "ops",
                ),
                Panel(
                    "Held back",
                    "Whether background work is put off as the region is under pressure; jobs past their deadline.",
                    {
                        "{{region}} pressure": f"feed_jobs_pressure{{{REGION}}}",
                        "late {{kind}}": rate("feed_jobs_late_total", by="kind"),
                    },
                ),
                Panel(
                    "Imports",
                    "Inherited follows imported, and sign-ups.",
                    {
                        "follows": rate("feed_imported_follows_total"),
                        "imports {{outcome}}": rate("feed_imports_total", by="outcome"),
                        "sign-ups {{outcome}}": rate("api_sign_ups_total", by="outcome"),
                    },
                    "ops",
                ),
            ),
        ),
        Row(
            "Graph",
            (
                Panel(
                    "Changes applied",
                    "Events of the graph stream, by verb.",
                    {"{{verb}}": rate("feed_graph_events_total", by="verb")},
                    "ops",
                ),
                Panel(
                    "Apply, p99",
                    "Time to apply and commit one batch.",
                    {"p99": quantile(0.99, "feed_graph_apply_seconds")},
                    "s",
                ),
                Panel(
                    "Copy of the graph",
                    "Age of the copy that stands in when graph.db is damaged.",
                    {"{{region}}": f"time() - feed_graph_copied_seconds{{{REGION}}}"},
                    "s",
                ),
                Panel(
                    "Profiles",
                    "Read from the cache, and from the graph service.",
                    {"{{source}}": rate("feed_profile_reads_total", by="source")},
                    "ops",
                ),
                Panel(
                    "Joined",
                    "Users who signed up.",
                    {"{{region}}": f"feed_graph_joined_users{{{REGION}}}"},
                ),
            ),
        ),
        Row(
            "Graph: what it is asked",
            (
                Panel(
                    "Reads",
                    "Questions to the graph service, by call; pages that came from redis-cache are none.",
                    {"{{call}}": rate("feed_graph_reads_total", by="call")},
                    "ops",
                ),
                Panel(
                    "Interactions",
                    "Pairs of a user and an author that are hot by an interaction in the last 30 days.",
                    {"{{region}}": f"feed_graph_interactions{{{REGION}}}"},
                ),
                Panel(
                    "Cooling down",
                    "Pairs whose last interaction was 30 days ago.",
                    {"{{region}}": rate("feed_graph_interactions_ended_total", by="region")},
                    "ops",
                ),
            ),
        ),
    ),
)
