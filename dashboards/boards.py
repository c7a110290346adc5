"""All boards, in the order in which they are listed."""

from dashboards import cache, edge, fanout, overview, processes, queue, regions

BOARDS = (
    overview.BOARD,
    fanout.BOARD,
    edge.BOARD,
    queue.BOARD,
    cache.BOARD,
    regions.BOARD,
    processes.BOARD,
)
