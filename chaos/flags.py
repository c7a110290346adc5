"""Feature flags of a target, as its operator reads and sets them over HTTP (docs/contract.md).

The operator's token comes from a file that whoever runs the target has written, readable by its owner only; it is in no
plan, argument or message.
"""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec

from chaos.kind import FaultError

TIMEOUT_S = 2.0
FlagValue = bool | int | float | str


class Flags(msgspec.Struct, frozen=True):
    """Where a process is asked for flags, and the file of the token it wants."""

    url: str
    token_file: str

    def read(self) -> dict[str, ToldFlag]:
        """All flags by name, as the process goes by them. Raises FaultError, OSError."""
        try:
            told = msgspec.json.decode(self._ask("GET", self.url), type=_List)
        except msgspec.MsgspecError as error:
            raise FaultError(f"{self.url}: no list of flags: {error}") from error
        return {flag.name: flag for flag in told.flags}

    def set(self, name: str, value: FlagValue) -> None:
        """Set one, in all regions. Raises FaultError, OSError."""
        self._ask("PUT", f"{self.url}/{quote(name, safe='')}", msgspec.json.encode({"value": value}))

    def _ask(self, method: str, url: str, body: bytes | None = None) -> bytes:
        """The answer. Raises FaultError when it is no 200, OSError."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
        try:
            connection.request(method, parts.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except http.client.HTTPException as error:
            raise FaultError(f"{url}: {type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise FaultError(f"{url}: {answer.status} {_detail(data)}".rstrip())
        return data

    def _token(self) -> str:
        try:
            return Path(self.token_file).read_text(encoding="ascii").strip()
        except UnicodeDecodeError as error:
            raise FaultError(f"{self.token_file}: holds no token") from error


class ToldFlag(msgspec.Struct):
    """One flag as the target tells it."""

    name: str
    value: FlagValue
    at_run_time: bool = True
    """whether it can be set while the target runs"""


class _List(msgspec.Struct):
    flags: list[ToldFlag]


class _Detail(msgspec.Struct):
    detail: str = ""


def _detail(data: bytes) -> str:
    """What a problem document says."""
    try:
        return msgspec.json.decode(data, type=_Detail).detail
    except msgspec.MsgspecError:
        return ""


def flag_word(value: FlagValue | None) -> str:
    """A value as an operator types it."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
