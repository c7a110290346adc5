"""The population a stack starts with: its hand-over files, and the posts written before the run."""

from reference_server.seeding.history import HistoryPosts, history_posts, history_text
from reference_server.seeding.population import (
    EVERYTHING,
    Population,
    PopulationInvalid,
    open_population,
    read_population,
)

__all__ = [
    "EVERYTHING",
    "HistoryPosts",
    "Population",
    "PopulationInvalid",
    "history_posts",
    "history_text",
    "open_population",
    "read_population",
]
