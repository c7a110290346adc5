"""A second parser of event streams: the standard's own words (HTML, 9.2.5 and 9.2.6), one after the other.

It takes a whole stream that has ended, knows nothing of pieces, and is as slow as it likes. Shares no code with ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class PlainStream:
    """What a stream comes to. `last_event_id` may begin as that of an earlier connection."""

    last_event_id: str = ""
    reconnection_ms: int | None = None
    events: list[tuple[str, str, str]] = field(default_factory=list)
    """type, data, last event id"""
    id_buffer: str = ""
    type_buffer: str = ""
    data_buffer: str = ""


def interpret(body: bytes, last_event_id: str = "") -> PlainStream:
    """Everything that the bytes of a stream, now at its end, have dispatched and set."""
    stream = PlainStream(last_event_id=last_event_id, id_buffer=last_event_id)
    for line in lines_of(decode(body)):
        process(stream, line)
    return stream  # pending data is discarded


def decode(body: bytes) -> str:
    """UTF-8 decode: one byte order mark is stripped, what is malformed becomes U+FFFD."""
    text = body.decode("utf-8", errors="replace")
    return text[1:] if text.startswith("\ufeff") else text


def lines_of(text: str) -> list[str]:
    """Lines end with CR LF, a single LF or a single CR; what comes after the last end is no line."""
    lines, line, place = [], "", 0
    while place < len(text):
        character = text[place]
        place += 1
        if character == "\r":
            if place < len(text) and text[place] == "\n":
                place += 1
            lines.append(line)
            line = ""
        elif character == "\n":
            lines.append(line)
            line = ""
        else:
            line += character
    return lines


def process(stream: PlainStream, line: str) -> None:
    """One line."""
    if line == "":
        dispatch(stream)
    elif line.startswith(":"):
        pass
    elif ":" in line:
        colon = line.index(":")
        name, value = line[:colon], line[colon + 1 :]
        if value.startswith(" "):
            value = value[1:]
        process_field(stream, name, value)
    else:
        process_field(stream, line, "")


def process_field(stream: PlainStream, name: str, value: str) -> None:
    """The steps to process the field."""
    if name == "event":
        stream.type_buffer = value
    elif name == "data":
        stream.data_buffer += value
        stream.data_buffer += "\n"
    elif name == "id":
        if "\x00" not in value:
            stream.id_buffer = value
    elif name == "retry":
        only_digits = value != "" and all(character in "0123456789" for character in value)
        if only_digits:
            stream.reconnection_ms = int(value, base=10)


def dispatch(stream: PlainStream) -> None:
    """The steps to dispatch the event."""
    stream.last_event_id = stream.id_buffer
    if stream.data_buffer == "":
        stream.type_buffer = ""
        return
    if stream.data_buffer.endswith("\n"):
        stream.data_buffer = stream.data_buffer[:-1]
    kind = "message"
    if stream.type_buffer != "":
        kind = stream.type_buffer
    stream.events.append((kind, stream.data_buffer, stream.last_event_id))
    stream.data_buffer = ""
    stream.type_buffer = ""
