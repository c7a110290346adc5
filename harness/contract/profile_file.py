"""Reads the tables of a target profile and of an endpoints file: every problem found, each with its path.

Pure: tables in, fields and problems out. `harness.contract.profile` makes typed structs of the fields.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.contract.flag_kind import FlagKind, flag_kind
from harness.core.errors import nearest
from harness.core.values import Parser, flag, one_of, positive_duration, text

PLACEHOLDERS = ("python", "dir", "population", "users")
HANDLE_KEYS = {
    "process": ("pid_file",),
    "container": ("container",),
    "toxiproxy": ("api", "proxy"),
    "network": ("api", "links"),
}
"""backends chaos knows, with the keys each cannot do without"""

Fields = dict[str, Any]
_RANGE = re.compile(r"^(\d+)\.\.(\d+|N)$")


def _list_of(item: Parser) -> Parser:
    def parse(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list, got {value!r}")
        return [item(member) for member in value]

    return parse


def base_url(value: Any) -> str:
    """A URL without query, as clients take it: no slash at the end. Raises ValueError."""
    address = text(value)
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a bracket or a port that means nothing
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ValueError(f"must be a base URL such as http://127.0.0.1:8080, got {address!r}")
    return address.rstrip("/")


def _optional_url(value: Any) -> str:
    return base_url(value) if value != "" else ""


def _optional_duration(value: Any) -> float:
    return positive_duration(value) if value != "" else 0.0


def _template(value: Any) -> str:
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(text(value)) if name is not None]
    except ValueError as error:
        raise ValueError(f"{error} in {value!r}; a brace of its own is written {{{{ or }}}}") from None
    unknown = [name for name in names if name not in PLACEHOLDERS]
    if unknown:
        raise ValueError(f"unknown placeholder {{{unknown[0]}}}{nearest(unknown[0], [*PLACEHOLDERS, 'profile_dir'])}")
    return str(value)


def _command(value: Any) -> list[str]:
    words: list[str] = _list_of(_template)(value)
    if not words:
        raise ValueError("must name a program")
    return words


def _group(value: Any) -> list[str]:
    names: list[str] = _list_of(text)(value)
    if not names:
        raise ValueError("must name handles, or patterns of them")
    return names


def _presets(value: Any) -> dict[str, list[str]]:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a table of regions by preset, got {value!r}")
    presets: dict[str, list[str]] = {text(name): _list_of(text)(regions) for name, regions in value.items()}
    for name, regions in presets.items():
        if not regions:
            raise ValueError(f"{name} must have at least one region")
    return presets


def _flags(value: Any) -> dict[str, FlagKind]:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a table of what each flag may be, got {value!r}")
    kinds: dict[str, FlagKind] = {}
    for name, kind in value.items():
        try:
            kinds[str(name)] = flag_kind(kind)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    return kinds


def _identities(value: Any) -> tuple[int, int | None]:
    match = _RANGE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'must be a range such as "0..N" or "5000..6000" (its end not included), got {value!r}')
    first, end = int(match[1]), None if match[2] == "N" else int(match[2])
    if end is not None and end <= first:
        raise ValueError(f"must not be empty, got {value!r}")
    return first, end


# key in the file -> (field of the struct, parser)
Keys = dict[str, tuple[str, Parser]]
_TOP: Keys = {
    "name": ("name", text),
    "about": ("about", text),
    "adapter": ("adapter", one_of("feedstorm-v1")),
    "fatal_together": ("fatal_together", _list_of(_group)),
}
_USERS: Keys = {
    "identities": ("identities", _identities),
    "identity": ("identity", text),
    "joins": ("joins", one_of("signup")),
}
_START: Keys = {
    "command": ("command", _command),
    "endpoints": ("endpoints", _template),
    "ready_timeout": ("ready_timeout_s", positive_duration),
    "options": ("options", _list_of(one_of("defect", "flag"))),
    "regions": ("regions", _list_of(text)),
    "presets": ("presets", _presets),
    "handles": ("handles", _list_of(text)),
    "between_regions": ("between_regions", _list_of(text)),
    "proxies": ("proxies", _list_of(text)),
    "defects": ("defects", _list_of(text)),
    "flags": ("flags", _flags),
}
_CAPABILITIES: Keys = {
    "stream": ("stream", one_of("sse", "none")),
    "event": ("event", one_of("delta", "full")),
    "cursor_ttl": ("cursor_ttl_s", _optional_duration),
    **{
        key: (key, flag)
        for key in (
            "resume", "paging", "seen", "since", "delete", "block", "like", "batch", "idempotency", "import", "regions",
            "hide", "labels", "profile", "moderate", "flags",
        )
    },
}  # fmt: skip
_SLO: Keys = {
    key: (f"{key}_s", positive_duration) for key in ("visibility", "cross_region", "celebrity", "convergence")
}
_REGION: Keys = {
    "api": ("api", base_url),
    "stream": ("stream", base_url),
    "streams": ("streams", _list_of(base_url)),
    "edge": ("edge", _optional_url),
}
_OPERATOR: Keys = {"token_file": ("operator_token_file", text)}
_SECTIONS = ("users", "start", "capabilities", "slo", "regions", "handles", "names", "operator")


class _Problems(list[str]):
    """Collects problems while tables are read."""

    def table(self, path: str, raw: Any, keys: Keys, also: Collection[str] = (), needs: Collection[str] = ()) -> Fields:
        """Parsed fields of one table; unknown and missing keys and bad values become problems."""
        if not isinstance(raw, Mapping):
            self.append(f"{path}: must be a table, got {raw!r}")
            return {}
        dot = f"{path}." if path else ""
        self += [f"{dot}{key}: is required" for key in needs if key not in raw]
        fields: Fields = {}
        for key, value in raw.items():
            if key in also:
                continue
            if key not in keys:
                self.append(f"{dot}{key}: unknown key{nearest(key, [*keys, *also])}")
                continue
            field, parse = keys[key]
            try:
                fields[field] = parse(value)
            except (ValueError, TypeError) as error:
                self.append(f"{dot}{key}: {error}")
        return fields

    def regions(self, raw: Any, tolerant: bool = False) -> Fields:
        """Base URLs by region; the stream's default to the api's. `tolerant`: other keys are ignored."""
        regions: Fields = {}
        for name, urls in self._members("regions", raw):
            others = urls.keys() - _REGION.keys() if tolerant and isinstance(urls, Mapping) else ()
            fields = self.table(f"regions.{name}", urls, _REGION, also=others, needs=("api",))
            regions[name] = {"api": "", "stream": fields.get("api", ""), **fields}
        return regions

    def handles(self, raw: Any) -> Fields:
        """Handles by name; beside `backend` and what that backend needs, keys are chaos's own."""
        handles: Fields = {}
        for name, handle in self._members("handles", raw):
            if not isinstance(handle, Mapping):
                self.append(f"handles.{name}: must be a table, got {handle!r}")
                continue
            backend = handle.get("backend")
            if backend not in HANDLE_KEYS:
                self.append(f"handles.{name}.backend: must be one of {', '.join(HANDLE_KEYS)}, got {backend!r}")
                continue
            self += [f"handles.{name}.{key}: is required" for key in HANDLE_KEYS[backend] if key not in handle]
            handles[name] = dict(handle)
        return handles

    def names(self, raw: Any) -> Fields:
        """Names here by those elsewhere."""
        names = dict(self._members("names", raw))
        wrong = [name for name, here in names.items() if not isinstance(here, str) or not here]
        self += [f"names.{name}: must be a name of this target, got {names[name]!r}" for name in wrong]
        return {name: here for name, here in names.items() if name not in wrong}

    def _members(self, path: str, raw: Any) -> list[tuple[str, Any]]:
        if isinstance(raw, Mapping):
            return [(str(name), value) for name, value in raw.items()]
        self.append(f"{path}: must be a table, got {raw!r}")
        return []


def parse_profile(raw: Mapping[str, Any], folder: Path) -> tuple[Fields, list[str]]:
    """Fields for `Profile`, and what is wrong. `folder` is where the file lies: {profile_dir} in the start command."""
    problems = _Problems()
    fields = problems.table("", raw, _TOP, also=_SECTIONS, needs=("name",))
    users = problems.table("users", raw.get("users", {}), _USERS)
    if "identities" in users:
        users["first"], users["end"] = users.pop("identities")
    fields["users"] = users
    fields["capabilities"] = problems.table("capabilities", raw.get("capabilities", {}), _CAPABILITIES)
    fields["slo"] = problems.table("slo", raw.get("slo", {}), _SLO)
    fields |= problems.table("operator", raw.get("operator", {}), _OPERATOR)
    fields["regions"] = problems.regions(raw.get("regions", {}))
    fields["handles"] = problems.handles(raw.get("handles", {}))
    fields["names"] = problems.names(raw.get("names", {}))
    if "start" in raw:
        start = _expand(raw["start"], str(folder).replace("{", "{{").replace("}", "}}"))
        fields["start"] = problems.table("start", start, _START, needs=("command",))
    elif not fields["regions"]:
        problems.append("regions: a target without [start] must name at least one region")
    return fields, problems


def _expand(value: Any, folder: str) -> Any:
    """{profile_dir} replaced in every text of the start table."""
    if isinstance(value, str):
        return value.replace("{profile_dir}", folder)
    if isinstance(value, list):
        return [_expand(member, folder) for member in value]
    if isinstance(value, Mapping):
        return {key: _expand(member, folder) for key, member in value.items()}
    return value


def parse_endpoints(raw: Mapping[str, Any]) -> tuple[Fields, list[str]]:
    """Regions, handles, missing parts and files of an endpoints file, and what is wrong with it.

    Other keys are ignored.
    """
    problems = _Problems()
    fields: Fields = {
        "regions": problems.regions(raw.get("regions", {}), tolerant=True),
        "handles": problems.handles(raw.get("handles", {})),
        "missing": raw.get("missing", []),
    }
    for key in ("operator_token_file", "ca_file"):
        fields[key] = raw.get(key, "")
        if not isinstance(fields[key], str):
            problems.append(f"{key}: must be a path, got {fields[key]!r}")
    if not fields["regions"]:
        problems.append("regions: at least one is required")
    if not isinstance(fields["missing"], list) or not all(isinstance(part, str) for part in fields["missing"]):
        problems.append(f"missing: must be a list of names, got {fields['missing']!r}")
    return fields, problems
