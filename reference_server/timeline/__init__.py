"""Timelines: entries, lanes, write-ahead log, index, cached lists, and how the api reads them."""
