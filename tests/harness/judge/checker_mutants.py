"""Small wrong versions of a checker's source: a flipped comparison, a condition left out, a changed number.

    for mutant in mutants(source):
        mutant.what       # "c.age_ns >= $cross: >= -> >", with the condition it stands in
        mutant.source     # the whole source with the one change

Conditions of SQL texts are found by words, those of Python by its syntax tree. What only makes evidence (constants
named EVIDENCE, functions named for sentences) is left alone: it tells of a verdict and decides none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """One wrong version."""

    what: str
    source: str


_SWAPS = {">=": ">", "<=": "<", ">": ">=", "<": "<=", "=": "<>", "<>": "="}
_COMPARISON = re.compile(r"(?<![<>=!-])(>=|<=|<>|=|<|>)(?![<>=])")
_WORDS = {
    "ANTI JOIN": "SEMI JOIN",
    "SEMI JOIN": "ANTI JOIN",
    "NOT EXISTS": "EXISTS",
    "UNION ALL": "EXCEPT ALL",
    "min(": "max(",
    "max(": "min(",
    "bool_and(": "bool_or(",
    "bool_or(": "bool_and(",
    "greatest(": "least(",
    "least(": "greatest(",
}
_OPENS = re.compile(r"\b(WHERE|AND|(?<!CREATE )OR|ON|HAVING|QUALIFY|FILTER \(WHERE|FILTER \()\s+")
_CLOSES = re.compile(
    r"\b(AND|OR|GROUP|ORDER|LIMIT|HAVING|QUALIFY|WINDOW|UNION|JOIN|LEFT|SEMI|ANTI|ASOF|THEN|ELSE|END|WHERE|FROM|SELECT)\b"
)
_QUOTE = re.compile(r"[a-zA-Z]*(\"{3}|'{3}|\"|')")
_WINDOW = re.compile(r"^(\(SELECT|ROW|RANGE|UNBOUNDED)| BETWEEN ")


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a module's source, in the order of the lines."""
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: list[tuple[int, int, str]] = []
    for node in _walk(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
        if text or isinstance(node, ast.JoinedStr):
            first, end = _inside(node, source, starts)
            if _is_sql(_plain(node)):
                found += [(first + a, first + b, new) for a, b, new in _in_sql(source[first:end])]
        elif isinstance(node, ast.Compare):
            found += _in_comparison(node, source, starts)
        elif isinstance(node, ast.BoolOp):
            found += [(*_span(value, starts), str(isinstance(node.op, ast.And))) for value in node.values]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            found += [(*_span(node, starts), f"({ast.unparse(node.operand)})")]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found += _in_constant(node.value, starts)
    evidence = [_span(node, starts) for node in ast.walk(tree) if _is_evidence(node)]
    for first, end, new in sorted(set(found)):
        if any(a <= first < b for a, b in evidence):
            continue
        yield Mutant(_told(source, first, end, new), source[:first] + new + source[end:])


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those inside f-strings: their places are not told."""
    yield node
    if not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            yield from _walk(child)


def _plain(node: ast.AST) -> str:
    """What a string says by itself, without what an f-string fills in."""
    if isinstance(node, ast.JoinedStr):
        return " ".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _inside(node: ast.AST, source: str, starts: list[int]) -> tuple[int, int]:
    """Where the text of a string stands, without its quotes."""
    first, end = _span(node, starts)
    opening = _QUOTE.match(source, first)
    return (opening.end(), end - len(opening.group(1))) if opening else (first, end)


def _is_evidence(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef):
        return any(word in node.name for word in ("sentence", "story", "told"))
    return isinstance(node, ast.Assign) and "EVIDENCE" in ast.unparse(node.targets[0])


def _span(node: Any, starts: list[int]) -> tuple[int, int]:
    """Where a node stands. Columns count bytes: beyond ASCII the sources have nothing but texts of evidence."""
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def _is_sql(text: str) -> bool:
    return bool(re.search(r"\b(SELECT|AND|CASE|FROM)\b", text)) and "{at(" not in text


def _in_sql(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _COMPARISON.finditer(text):
        if "{" not in text[max(0, match.start() - 1) : match.start()]:
            yield match.start(), match.end(), _SWAPS[match.group()]
    for word, other in _WORDS.items():
        for match in re.finditer(re.escape(word) if word.endswith("(") else rf"\b{word}\b", text):
            yield match.start(), match.end(), other
    for match in _OPENS.finditer(text):
        end = _condition_end(text, match.end())
        condition = text[match.end() : end].strip()
        if condition and not _WINDOW.search(condition):
            word = "FALSE" if match.group(1) == "OR" else "TRUE"
            yield match.end(), match.end() + len(text[match.end() : end].rstrip()), word


def _condition_end(text: str, first: int) -> int:
    """The end of the condition that begins here: the next keyword, or the closing bracket, at its own depth."""
    depth = 0
    place = first
    while place < len(text):
        if text[place] in "([":
            depth += 1
        elif text[place] in ")]":
            depth -= 1
            if depth < 0:
                return place
        elif depth == 0 and _CLOSES.match(text, place):
            return place
        place += 1
    return len(text)


def _in_comparison(node: ast.Compare, source: str, starts: list[int]) -> Iterator[tuple[int, int, str]]:
    left: ast.expr = node.left
    for right in node.comparators:
        first, end = _span(left, starts)[1], _span(right, starts)[0]
        operator = source[first:end].strip()
        swapped = {**_SWAPS, "==": "!=", "!=": "==", "in": "not in", "not in": "in", "is not": "is"}.get(operator)
        if swapped is not None and operator not in ("=", "<>"):
            yield first, end, f" {swapped} "
        left = right


def _in_constant(value: ast.Constant, starts: list[int]) -> Iterator[tuple[int, int, str]]:
    if isinstance(value.value, int) and not isinstance(value.value, bool):
        yield *_span(value, starts), str(value.value + 1)
    elif isinstance(value.value, float):
        yield *_span(value, starts), str(value.value / 2)


def _told(source: str, first: int, end: int, new: str) -> str:
    """The change within its line."""
    begin = source.rfind("\n", 0, first) + 1
    stop = source.find("\n", end)
    line = f"{source[begin:first]}[{source[first:end]} -> {new}]{source[end:stop]}"
    return " ".join(line.split())
