"""Inserts the posts written before the run, at the first start."""

from __future__ import annotations

from collections.abc import Iterator

from reference_server.durable import PostRow
from reference_server.seeding import history_posts, history_text, open_population
from reference_server.settings import Settings


def history_rows(settings: Settings) -> Iterator[PostRow]:
    """The history as rows, in order of time. Raises PopulationInvalid, OSError."""
    history = history_posts(open_population(settings))
    ids = history.ids.tobytes()
    for place, (author, ts_us) in enumerate(zip(history.authors.tolist(), history.ts_us.tolist(), strict=True)):
        post_id = ids[16 * place : 16 * place + 16]
        yield PostRow(post_id, author, ts_us, history_text(post_id), b"")
