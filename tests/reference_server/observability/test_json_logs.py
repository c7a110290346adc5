"""Lines of the log: one JSON object each, whatever is logged."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reference_server import stages
from reference_server.events import DeleteEvent, ImportEvent, encode
from reference_server.observability import logs, trace
from reference_server.queue.dead_letters import post_in
from reference_server.supervisor import log_files


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    root.handlers = []
    logs.configure_logging("us-east.graph", stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers, root.level = before, level


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_time_place_and_extra_fields(lines: io.StringIO) -> None:
    logging.getLogger("a.b").warning("%d of %s", 3, '"x"\n', extra={"post": "p", "path": Path("/x"), "seconds": 0.5})
    (line,) = read(lines)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "warning",
        "region": "us-east",
        "part": "graph",
        "logger": "a.b",
        "message": '3 of "x"\n',
        "post": "p",
        "path": "/x",
        "seconds": 0.5,
    }


def test_an_exception_is_a_field_and_long_texts_are_cut(lines: io.StringIO) -> None:
    try:
        raise ValueError("y" * 100_000)
    except ValueError:
        logging.getLogger("x").exception("z" * 100_000)
    (line,) = read(lines)
    assert line["exception"].endswith("yyy")
    assert len(lines.getvalue()) < 2.2 * logs.MAX_MESSAGE_CHARACTERS


def test_what_ends_a_process_and_foreign_loggers_are_logged_as_json() -> None:
    script = (
        "import logging, sys; from reference_server.observability.logs import configure_logging as c;"
        "f = logging.getLogger('foreign'); f.addHandler(logging.StreamHandler()); f.propagate = False;"
        "c('eu.jobs', adopt=['foreign']); f.warning('one'); import warnings; warnings.warn('two'); 1 / 0"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in found] == ["warning", "warning", "critical"]
    assert found[2]["message"] == "ended by ZeroDivisionError: division by zero"
    assert "Traceback" in found[2]["exception"]


def test_message_of_a_line() -> None:
    assert logs.message_of('{"message": "port is taken", "level": "error"}') == "port is taken"
    assert logs.message_of("Address already in use") == "Address already in use"


def test_a_post_is_followed_through_the_logs(tmp_path: Path, lines: io.StringIO) -> None:
    wanted, other = uuid.uuid4(), uuid.uuid4()
    for stage, seconds in (("accept", 0.001), ("cache", 0.02)):
        stages.passed(stage, wanted.bytes, seconds, trace_one_in=1)
        stages.passed(stage, other.bytes, seconds, trace_one_in=1)
    logging.getLogger("x").error("post %s was refused", wanted, extra=logs.post(wanted.bytes))
    first, second, third = (line for line in lines.getvalue().splitlines() if str(wanted) in line)
    (tmp_path / "us-east.fanout-0.log").write_text(f"{third}\n{str(wanted)!r} is not JSON\n{second[:40]}")
    (tmp_path / "us-east.api-0.log.1").write_text(f"{first}\n")
    (tmp_path / "us-east.api-0.log").write_text(f"{second}\n")
    steps = trace.steps_of(str(wanted), tmp_path)
    assert [step.stage for step in steps] == ["accept", "cache", ""]
    text = trace.as_text(steps).splitlines()
    assert "cache after 20.0 ms" in text[1]
    assert "error: post" in text[2]
    assert trace.steps_of(str(uuid.uuid4()), tmp_path) == []


def test_an_entry_that_is_put_aside_names_its_post_where_it_can() -> None:
    post_id = uuid.uuid4()
    assert post_in(encode(DeleteEvent(post_id.bytes, -1, "us-east"))) == {"post": str(post_id)}
    assert post_in(encode(DeleteEvent(b"short", 1, "us-east"))) == {}
    assert post_in(encode(ImportEvent(3))) == {}
    assert post_in(b"no event") == {}


def test_large_log_files_are_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "us-east.api-0.log"
    (tmp_path / "small.log").write_text("small\n")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # as the supervisor hands it to a part
    try:
        for round_ in (b"1", b"2", b"3", b"4"):
            os.write(descriptor, round_ * 1001)
            assert log_files.rotate_large(tmp_path, 1000) == [path]
        os.write(descriptor, b"5")
    finally:
        os.close(descriptor)
    assert {file.name: file.read_bytes()[:1] for file in tmp_path.iterdir()} == {
        path.name: b"5",
        f"{path.name}.1": b"4",
        f"{path.name}.2": b"3",
        "small.log": b"s",
    }
    assert path.stat().st_size == 1
