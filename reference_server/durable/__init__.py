"""The durable store of a region: an archive of every post, behind two narrow protocols.

The jobs process writes (`DurableWriter`), the apis read (`DurableReader`). SQLite is the default backend.
"""

from reference_server.durable.protocol import (
    ArchiveBatch,
    DurableReader,
    DurableUnavailable,
    DurableWriter,
    PostKey,
    PostRow,
    StatusRow,
    StoredStatus,
)
from reference_server.durable.sqlite_reader import SqliteReader
from reference_server.durable.sqlite_writer import SqliteWriter

__all__ = [
    "ArchiveBatch",
    "DurableReader",
    "DurableUnavailable",
    "DurableWriter",
    "PostKey",
    "PostRow",
    "SqliteReader",
    "SqliteWriter",
    "StatusRow",
    "StoredStatus",
]
