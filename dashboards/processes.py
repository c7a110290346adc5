"""What each process uses."""

from dashboards.board import REGION, Board, Panel, Row, quantile, rate

_PART = "{{region}} {{part}}"

BOARD = Board(
    "feedstorm-processes",
    "feedstorm / processes",
    "Processor, memory, descriptors and event loop of every process.",
    (
        Row(
            "Processor and memory",
            (
                Panel("Processor", "Cores used.", {_PART: rate("process_cpu_seconds_total", by="region, part")}),
                Panel("Memory", "Resident.", {_PART: f"process_resident_memory_bytes{{{REGION}}}"}, "bytes"),
                Panel("Descriptors", "Files and sockets open.", {_PART: f"process_open_fds{{{REGION}}}"}),
            ),
        ),
        Row(
            "Event loop",
            (
                Panel(
                    "Loop lag, p99",
                    "How late a timer came, asked four times a second. A blocked loop delays all of its process.",
                    {_PART: quantile(0.99, "feed_loop_lag_seconds", by="region, part")},
                    "s",
                    bound=0.1,
                ),
                Panel(
                    "Garbage collections",
                    "Of the oldest generation.",
                    {_PART: rate("python_gc_collections_total", by="region, part", match='generation="2"')},
                    "ops",
                ),
                Panel(
                    "Up",
                    "Whether Prometheus could ask the process (1), and whether redis answers.",
                    {_PART: f"up{{{REGION}}}", "{{region}} {{server}}": f"feed_redis_up{{{REGION}}}"},
                    bound=1,
                    below=True,
                ),
                Panel(
                    "Last start",
                    "Time since the process began.",
                    {_PART: f"time() - process_start_time_seconds{{{REGION}}}"},
                    "s",
                ),
            ),
        ),
    ),
)
