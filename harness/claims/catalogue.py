"""The claims of the two articles. They are parameters and claims to measure, never facts about a company.

C17 (compaction) needs a durable store that compacts, C22 servers of others: neither can be measured on this stack.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.claims.model import (
    Asked,
    Benchmark,
    Claim,
    Conformance,
    Field,
    Figure,
    Invariant,
    Properties,
    Quotient,
    Run,
    Threshold,
)
from harness.core.errors import UsageError, nearest

TIERS, FANOUT, CACHE, REBUILD = map(Benchmark, ("tiers", "fanout", "cache", "rebuild"))
EDGE, FAILOVER = map(Benchmark, ("edge", "failover"))
OVERLOAD = Benchmark("overload")
STREAMS = Benchmark("streams_250k", 1800.0)
CONTRACT = Conformance()
SURGE = Run("signup-surge")
FEW = ("population.users=3000",)
SURGE_ASYNC, SURGE_WAITING = Run("signup-surge", (), FEW), Run("signup-surge", ("async_import=off",), FEW)
PEAK, CELEBRITY, CACHE_DOWN = Run("steady-peak"), Run("celebrity-post"), Run("celebrity-cache-kill")
AVAILABILITY, WALKS = Run("read-availability", limit_s=2400.0), Run("api-restart")
HIDDEN, STORM, EVERY_PART = Run("visibility"), Run("sse-storm"), Run("kill-every-part")
CUT, STOPPED = Run("region-partition"), Run("kill-switch")

ORDINARY = "scope:local,author:ordinary"


def slo(label: str, run: Run, selector: str, expression: str) -> Figure:
    """A threshold that decides."""
    aggregation = expression.split()[0]
    return Figure(label, Threshold(run, selector, expression), expression.removeprefix(aggregation).strip())


def told(label: str, run: Run, selector: str, aggregation: str) -> Figure:
    """The same, and it decides nothing."""
    return Figure(label, value(run, selector, aggregation))


def value(run: Run, selector: str, aggregation: str) -> Threshold:
    """What is measured, whatever it is."""
    return Threshold(run, selector, f"{aggregation} >= 0")


def of(
    benchmark: Benchmark, path: str, label: str, bound: str = "", unit: str = "", *, absolute: bool = False
) -> Figure:
    """A figure of a benchmark."""
    return Figure(label, Field(benchmark, path), bound, unit, absolute)


_WALKS_OVER_RESTARTS = """
SELECT count(DISTINCT (session, walk)) FROM (
  SELECT o.session, o.walk, f.id FROM ops o, faults f
  WHERE f.kind = 'kill' AND f.handle = o.region || '.api' AND o.kind = 'feed' AND o.outcome = 'ok' AND NOT o.final
  GROUP BY ALL
  HAVING bool_or(o.page = 0 AND o.done_ns < f.injected_ns) AND bool_or(o.page > 0 AND o.sent_ns > f.injected_ns)
)"""
_STOPPED_AFTER_S = """
SELECT CASE WHEN count(*) > 0 THEN coalesce(max(o.done_ns - f.injected_ns) FILTER (o.outcome = 'ok'), 0) / 1e9 END
FROM ops o, faults f WHERE f.kind = 'flag' AND o.kind IN ('feed', 'post') AND NOT o.final
  AND o.sent_ns BETWEEN f.injected_ns AND f.injected_ns + 8e9"""
_CLEANLY_REFUSED = """
SELECT 100.0 * count(*) FILTER (o.status = 503 AND o.outcome = 'fail') / count(*)
FROM ops o, faults f WHERE f.kind = 'flag' AND o.kind IN ('feed', 'post') AND NOT o.final
  AND o.sent_ns BETWEEN f.injected_ns + 5e9 AND f.injected_ns + 8e9"""
_KILLED_PARTS = "SELECT count(DISTINCT handle) FROM faults WHERE kind = 'kill' AND injected_ns IS NOT NULL"

CLAIMS = (
    Claim(
        "C1",
        "Joining only flips a flag of an account that exists, so a hundred million can join in five days.",
        "100 M sign-ups in 5 days",
        "The shape of the real curve, squeezed into 90 s: half of the real rate on average, with 10,000 users. That "
        "it stays flat carries over; how many a machine can take does not.",
        (
            Figure(
                "sign-up p99, steep part of the curve over the rest",
                Quotient(value(SURGE, "signup{phase:surge}", "p(99)"), value(SURGE, "signup{phase:growth}", "p(99)")),
                "<= 2",
            ),
            slo("sign-ups refused", SURGE, "signup", "failures == 0"),
            slo("sign-ups, p99", SURGE, "signup", "p(99) <= 500ms"),
            told("sign-ups a second, steep part", SURGE, "signup{phase:surge}", "rate"),
            told("inherited follows are in, p95", SURGE, "import", "p(95)"),
        ),
    ),
    Claim(
        "C2",
        "12,000 posts a second, each to 150 followers, are written to timelines as they come.",
        "1.8 M timeline writes/s",
        "An absolute figure of a fleet. What carries over is how much of the raw speed of the cache is left when log, "
        "index and queue are in the path.",
        (
            of(
                TIERS,
                "figures.deliveries_per_s",
                "deliveries, written or owed (3 in 10 written)",
                ">= 1_800_000",
                "/s",
                absolute=True,
            ),
            of(TIERS, "figures.written_per_s", "deliveries with one tier, all written", unit="/s"),
            of(FANOUT, "ratio", "log and index in the path, share of raw appends"),
            of(TIERS, "figures.one_tier_over_raw", "queue to cache with one tier, share of raw appends"),
        ),
    ),
    Claim(
        "C3",
        "Writing to followers who interact, and to the others at their next read, saves most writes of big accounts.",
        "70 % fewer writes",
        "A ratio, which carries over; but it is the share of cold followers, and that is an input here (7 in 10).",
        (of(TIERS, "figures.celebrity_writes_percent", "entries written for a celebrity's post", "-75 .. -65", "%"),),
    ),
    Claim(
        "C4",
        "Timelines lie in 256 partitions by hash of the user, so that no partition has much more to do than another.",
        "256 partitions, evenly loaded",
        "A ratio. It was measured with fewer users than in life; more of them level it further.",
        (of(TIERS, "figures.busiest_partition", "writes of the busiest partition over the mean", "<= 1.3", "times"),),
    ),
    Claim(
        "C5",
        "Accounts with a very large following take a throttled path, and nobody else's posts get slower.",
        "others' p99 at most doubles",
        "A ratio, which carries over; the largest celebrity reaches five users in six here, half of them in life.",
        (
            Figure(
                "ordinary posts to the screen, p99, while celebrities post over before",
                Quotient(
                    value(CELEBRITY, f"post_to_event{{{ORDINARY},phase:celebrities}}", "p(99)"),
                    value(CELEBRITY, f"post_to_event{{{ORDINARY},phase:ordinary}}", "p(99)"),
                ),
                "<= 2",
            ),
            slo(
                "last follower of a celebrity has the post",
                CELEBRITY,
                "post_to_event{scope:local,author:celebrity,phase:celebrities}",
                "max <= 5s",
            ),
            of(TIERS, "figures.beside_over_alone", "the same of fan-out alone", "<= 2", "times"),
        ),
    ),
    Claim(
        "C6",
        "The cache is where timelines are, and nearly every read finds its timeline there.",
        "98.7 % of reads hit",
        "A ratio. It depends on how often users come back within the day that a timeline is kept, which is an input.",
        (
            of(CACHE, "value", "reads served from the cache", ">= 0.987", "share"),
            Figure(
                "the same on the whole stack, in its first minutes",
                Quotient(
                    value(PEAK, "target:api_feed_reads_total{source:cache,phase:steady}", "count"),
                    value(PEAK, "target:api_feed_reads_total{phase:steady}", "count"),
                ),
                unit="share",
            ),
        ),
    ),
    Claim(
        "C7",
        "When the cache is lost, each timeline is made again from the log of its owner within moments.",
        "< 50 ms a timeline",
        "A time of one machine, and the load is scaled down with it: what holds here holds on a faster one.",
        (
            of(REBUILD, "figures.flat_out_p99_ms", "p99 while the owner writes as fast as it can", "< 50", "ms"),
            of(REBUILD, "value", "p99 at half a million entries a second", "< 50", "ms"),
            slo(
                "p99 on the whole stack, cache killed",
                CACHE_DOWN,
                "target:feed_timeline_rebuild_seconds{region:us-east,phase:cache-down}",
                "p(99) <= 50ms",
            ),
        ),
    ),
    Claim(
        "C8",
        "Reads go on while the cache dies.",
        "99.999 % of reads succeed",
        "A share, which carries over. It takes 300,000 reads without a failure to say so with 95 % confidence.",
        (
            slo("reads that failed", AVAILABILITY, "feed_read{phase:dying}", "failures <= 0.001%"),
            told("reads", AVAILABILITY, "feed_read{phase:dying}", "count"),
        ),
    ),
    Claim(
        "C9",
        "A post is on the screens of followers in a blink.",
        "150 ms; rendered < 200 ms; never > 500 ms",
        "Times at a three-hundredth of the real rate, on two cores that load and stack share. Missing them may be the "
        "machine's fault, meeting them is not.",
        (
            slo("post to event, p50", PEAK, f"post_to_event{{{ORDINARY}}}", "p(50) <= 150ms"),
            slo("post to rendered, p95", PEAK, f"post_to_rendered{{{ORDINARY}}}", "p(95) <= 200ms"),
            slo("post to event, slowest", PEAK, f"post_to_event{{{ORDINARY}}}", "max <= 500ms"),
            told("post to rendered, slowest", PEAK, f"post_to_rendered{{{ORDINARY}}}", "max"),
        ),
    ),
    Claim(
        "C10",
        "Another region sees a post a moment later.",
        "some 200 ms; all within 1 s",
        "The delay of the link (100 ms one way) is an input; what the stack adds to it is measured.",
        (
            slo("other region, p50", PEAK, "cross_region{author:ordinary}", "p(50) <= 200ms"),
            slo("other region, p99", PEAK, "cross_region{author:ordinary}", "p(99) <= 1s"),
            told("other region, slowest", PEAK, "cross_region{author:ordinary}", "max"),
        ),
    ),
    Claim(
        "C11",
        "Pages of 50 hang together by a signed cursor, and no server remembers a reader.",
        "walks need no server",
        "True or not, whatever the size.",
        (
            Figure("posts missing or twice in a walk", Invariant(WALKS, "cursor_completeness")),
            Figure(
                "forged or stolen cursors served, good ones not served elsewhere", Invariant(WALKS, "cursor_integrity")
            ),
            Figure(
                "walks that went on after all servers of their region died", Asked(WALKS, _WALKS_OVER_RESTARTS), ">= 30"
            ),
        ),
    ),
    Claim(
        "C12",
        "A page leaves out what the reader has seen lately.",
        "500 ids",
        "True or not, whatever the size.",
        (
            Figure(
                "posts named as seen stay away, among 500 ids", Properties(CONTRACT, ("seen-left-out", "seen-limits"))
            ),
        ),
    ),
    Claim(
        "C13",
        "Blocks, ages and safety labels are applied when a page is read, whatever lies in the timeline.",
        "never visible",
        "True or not; the more is hidden and made again, the more the answer is worth.",
        (
            Figure("hidden, moderated, deleted, blocked: visible all the same", Invariant(HIDDEN, "eligibility")),
            Figure(
                "ages and labels", Properties(CONTRACT, ("labels-filter", "labels-kept", "hide-gone", "hide-lookup"))
            ),
        ),
    ),
    Claim(
        "C14",
        "An edge node holds a quarter of a million streams, with small buffers, and cuts clients that do not read.",
        "250,000 streams; 4 KB buffers",
        "The number is an absolute figure, held here by several edge processes, all listeners on the same machine. "
        "What a stream costs carries over, and says how many a larger node would hold.",
        (
            of(STREAMS, "value", "streams held at once", ">= 250_000", absolute=True),
            of(STREAMS, "details.fep_bytes", "memory of the edge, a stream", "<= 4096", "bytes"),
            of(EDGE, "details.idle_bytes", "growth with an idle stream", unit="bytes"),
            of(EDGE, "details.slow_dropped_percent", "of those who read nothing, cut", ">= 100", "%"),
            of(EDGE, "details.p99_slow_ratio", "p99 of the others beside them, over alone", "<= 1.5", "times"),
        ),
    ),
    Claim(
        "C15",
        "Any server may be killed at any moment.",
        "no event and no post lost",
        "True or not; one server of a kind here, where in life many others go on.",
        (
            Figure("events that 5,000 listeners of a killed edge lack", Invariant(STORM, "sse_completeness")),
            Figure("acknowledged posts lost, every part killed once", Invariant(EVERY_PART, "durability")),
            Figure("posts twice, every part killed once", Invariant(EVERY_PART, "no_duplicates")),
            Figure("parts killed", Asked(EVERY_PART, _KILLED_PARTS), ">= 10"),
        ),
    ),
    Claim(
        "C16",
        "Lists of followers are kept for five minutes, which spares the graph most of its reads.",
        "80 % fewer reads",
        "A ratio. It depends on how often an author posts within the five minutes; here they are drawn by Zipf's law.",
        (
            of(TIERS, "figures.graph_reads_percent", "follower pages read a post, cache on over off", "<= -80", "%"),
            Figure(
                "follower pages from the cache on the whole stack, in its first minutes",
                Quotient(
                    value(PEAK, "target:feed_follower_pages_total{source:cache,phase:steady}", "count"),
                    value(PEAK, "target:feed_follower_pages_total{phase:steady}", "count"),
                ),
                unit="share",
            ),
        ),
    ),
    Claim(
        "C18",
        "The follows that a user inherits are imported in the background, off the way of the sign-up.",
        "sign-ups do not wait",
        "A ratio, with 50 inherited follows where there are 150 in life: it grows with them. Twice is our bound.",
        (
            Figure(
                "sign-up p50, waiting for the import over not",
                Quotient(value(SURGE_WAITING, "signup", "p(50)"), value(SURGE_ASYNC, "signup", "p(50)")),
                ">= 2",
            ),
            told("sign-up p99, not waiting", SURGE_ASYNC, "signup", "p(99)"),
            told("sign-up p99, waiting", SURGE_WAITING, "signup", "p(99)"),
        ),
    ),
    Claim(
        "C19",
        "Too much load is shed, optional work first, and the rest is served.",
        "throttled, degraded, not down",
        "Ratios to what one core does for the stack while another makes the load; they carry over. 80 % of the peak "
        "and 60 s are our bounds.",
        (
            of(OVERLOAD, "ratio", "good answers at twice the peak, over the peak", ">= 0.8", "times"),
            of(OVERLOAD, "figures.whole_ratio", "the same, with no page shortened", unit="times"),
            of(OVERLOAD, "figures.optional_first", "share refused, optional work less essential work", "> 0"),
            of(OVERLOAD, "figures.recovery_s", "normal again after", "<= 60", "s"),
        ),
    ),
    Claim(
        "C20",
        "When a region fails its users are served by the next, and all regions agree afterwards.",
        "failover, then agreement",
        "True or not. A dead process refuses connections, which an edge notices at once; a silent host it notices by "
        "its health checks only, a second or more later.",
        (
            of(FAILOVER, "value", "a dead region's users served by the next after", "<= 10", "s"),
            of(FAILOVER, "figures.missing", "acknowledged posts that a region lacks at the end", "== 0"),
            of(FAILOVER, "figures.meanwhile", "posts that the next region took meanwhile", ">= 1"),
            Figure("feeds that differ between regions after a cut of 30 s", Invariant(CUT, "convergence")),
            Figure("posts lost in the cut", Invariant(CUT, "durability")),
        ),
    ),
    Claim(
        "C21",
        "A feature flag stops the product, with no new code.",
        "stopped by a flag",
        "True or not; 5 s for all processes of all regions is our bound, whatever their number.",
        (
            Figure("last answer after the flag was set", Asked(STOPPED, _STOPPED_AFTER_S), "<= 5", "s"),
            Figure("refused cleanly from then on", Asked(STOPPED, _CLEANLY_REFUSED), ">= 100", "%"),
            Figure("acknowledged posts lost", Invariant(STOPPED, "durability")),
            Figure("refused posts that are there all the same", Invariant(STOPPED, "honest_degradation")),
        ),
    ),
)


def chosen(ids: Iterable[str]) -> list[Claim]:
    """The claims of these ids, in order; all when none is named. Raises UsageError."""
    known = {claim.id: claim for claim in CLAIMS}
    wanted = {name.upper() for name in ids} or set(known)
    if unknown := [f"no claim is called {name!r}{nearest(name, known)}" for name in sorted(wanted - set(known))]:
        raise UsageError(unknown)
    return [claim for claim in CLAIMS if claim.id in wanted]
