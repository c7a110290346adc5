"""Log lines as JSON objects, one a line, on standard error; the supervisor keeps a file a process.

    {"ts": "2025-01-31T12:00:00.123456Z", "level": "info", "region": "us-east", "part": "fanout-0",
     "logger": "feed.trace", "message": "post 0195...: cache after 3.1 ms", "post": "0195...", "stage": "cache", ...}

Whatever a caller passes as `extra` becomes a field of its own; a line that concerns one post carries its id in `post`,
which is how a post is followed through all processes (see trace.py). An exception is in `exception`, as text.
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
MAX_MESSAGE_CHARACTERS = 16_384
"""longer messages and exceptions are cut: a line stays a line that tools read"""
_log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """Formats records as the module tells."""

    def __init__(self, region: str, part: str) -> None:
        """`region` may be empty: the supervisor belongs to the whole stack."""
        super().__init__()
        self._region = region
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object; never raises for a field that JSON does not know (it becomes text)."""
        fields: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "region": self._region,
            "part": self._part,
            "logger": record.name,
            "message": record.getMessage()[:MAX_MESSAGE_CHARACTERS],
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in fields:
                fields[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = self.formatException(record.exc_info)[-MAX_MESSAGE_CHARACTERS:]
        return msgspec.json.encode(fields, enc_hook=_as_text).decode()


def _as_text(value: object) -> str:
    return str(value)


def configure_logging(name: str, stream: Any = None, adopt: Sequence[str] = ()) -> None:
    """Log as JSON to `stream` (default: standard error). `name`: "us-east.graph", or a part without region.

    Loggers in `adopt` lose the handlers they brought along. Warnings are logged too, and (on standard error) what ends
    the process.
    """
    region, _, part = name.rpartition(".")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(region, part))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for foreign in map(logging.getLogger, adopt):
        foreign.handlers.clear()
        foreign.propagate = True
    logging.captureWarnings(True)
    if stream is None:
        sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _log.critical("ended by %s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def message_of(line: str) -> str:
    """What a line of a log says: its message if it is one of ours, else all of it."""
    try:
        return msgspec.json.decode(line, type=_Said).message
    except msgspec.MsgspecError:
        return line


class _Said(msgspec.Struct):
    message: str


def post(post_id: bytes) -> dict[str, str]:
    """The `extra` of a line that concerns a post (16 bytes); an id of another length is left out."""
    return {"post": str(uuid.UUID(bytes=post_id))} if len(post_id) == 16 else {}
