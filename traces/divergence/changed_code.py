"""Search for the code that differs between two sides, and for what of it a scenario executes.

Two sides that behave differently can do so only by lines that differ between them. So the calls of
changed functions are all that must be compared, and a scenario that executes changed lines in one
place only has its cause there, whatever else the sides show.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from traces.divergence.logs import CallLog, Focus
from traces.divergence.source_comparison import SourceComparison
from traces.schema.model import Location

_Span: TypeAlias = tuple[int, int]
"""First and last line of a function, decorators among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeChange:
    """Neighbouring lines that differ: of the base and of the head, by the functions around them.

    Attributes:
        location: a line of the head: the first of them, or where lines of the base were.
        lines: those of the head; empty, and where those of the base were, for lines that are gone.
        functions: of base and head.
        is_outside: whether a line outside of functions is among them.
    """

    location: Location
    lines: range
    functions: tuple[frozenset[_Span], frozenset[_Span]]
    is_outside: bool

    def surrounds(self, place: Location | None) -> bool:
        """Return whether a line of the head is in one of the functions."""
        return (
            place is not None
            and place.file == self.location.file
            and any(first <= place.line <= last for first, last in self.functions[1])
        )

    def first_call(self, base: CallLog, head: CallLog) -> int | None:
        """Return the number of the first call of one of the functions; None where none was called.

        Code outside of functions is run by the import, before any call.
        """
        numbers: list[int] = []
        for log, functions in zip((base, head), self.functions, strict=True):
            lines = log.executed.get(self.location.file)
            if lines is not None:
                numbers += [-1] if self.is_outside else []
                numbers += [lines[first] for first, _ in functions if first in lines]
        return min(numbers, default=None)


class ChangedCode:
    """The places in which two sides differ, comments and docstrings left out."""

    def __init__(self, sources: SourceComparison, *, files: Iterable[str]) -> None:
        self._changes = [
            change for file in sorted(set(files)) for change in _changes(file, sources)
        ]

    def focus(self, *, in_head: bool) -> Focus | None:
        """Return the changed functions of a side; None where code outside of functions changed."""
        if any(change.is_outside for change in self._changes):
            return None
        found: dict[str, set[_Span]] = {}
        for change in self._changes:
            found.setdefault(change.location.file, set()).update(change.functions[in_head])
        return tuple((file, tuple(sorted(spans))) for file, spans in sorted(found.items()))

    def reached(self, base: CallLog, head: CallLog) -> list[CodeChange]:
        """Return the changes whose functions a scenario calls, the first that is called first."""
        numbered = [(change.first_call(base, head), change) for change in self._changes]
        called = [(number, change) for number, change in numbered if number is not None]
        called.sort(key=lambda pair: pair[0])
        return [change for _, change in called]


def _changes(file: str, sources: SourceComparison) -> Iterator[CodeChange]:
    texts = (sources.base(file) or "", sources.head(file) or "")
    if texts[0] == texts[1]:
        return
    for lines, own in _gaps_by_statement(file, texts, sources):
        line = own[1][0] if own[1] else sources.line_in_head(file, own[0][0])
        around = [
            [_innermost(text, near) for near in found or _neighbours(lines[side])]
            for side, (text, found) in enumerate(zip(texts, own, strict=True))
        ]
        functions = [frozenset(span for span in spans if span) for spans in around]
        yield CodeChange(
            location=Location(file=file, line=line),
            lines=lines[1],
            functions=(functions[0], functions[1]),
            is_outside=any(found and None in around[side] for side, found in enumerate(own)),
        )


def _gaps_by_statement(
    file: str, texts: tuple[str, str], sources: SourceComparison
) -> Iterator[tuple[tuple[range, range], list[list[int]]]]:
    """Yield the lines that differ, of base and head; gaps within one statement are one.

    With them the lines that are code: comments and docstrings are none.
    """
    code = [_code_lines(text) for text in texts]
    open_gap: tuple[tuple[range, range], list[list[int]]] | None = None
    for gap in sources.gaps(file):
        own = [[line for line in gap[side] if line in code[side]] for side in (0, 1)]
        if not any(own) or _only_adds_names(texts, own):
            continue
        if open_gap is not None and _are_in_one_statement(texts, open_gap[1], own):
            before = open_gap[0]
            lines = tuple(range(before[side].start, gap[side].stop) for side in (0, 1))
            open_gap = ((lines[0], lines[1]), [open_gap[1][side] + own[side] for side in (0, 1)])
            continue
        if open_gap is not None:
            yield open_gap
        open_gap = ((gap[0], gap[1]), own)
    if open_gap is not None:
        yield open_gap


def _are_in_one_statement(
    texts: tuple[str, str], some: list[list[int]], others: list[list[int]]
) -> bool:
    """Return whether lines of two gaps belong to one statement, on every side that has them."""
    is_shared = False
    for text, one, other in zip(texts, some, others, strict=True):
        spans = {_statement(text, line) for line in (*one, *other)}
        if len(spans) > 1 or None in spans:
            return False
        is_shared = is_shared or bool(one and other)
    return is_shared


def _statement(text: str, line: int) -> _Span | None:
    """Return the lines of the statement without a body that a line belongs to."""
    return next((span for span in _statements(text) if span[0] <= line <= span[1]), None)


@lru_cache(maxsize=16)
def _statements(text: str) -> tuple[_Span, ...]:
    return tuple(
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(_parsed(text))
        if isinstance(node, ast.stmt) and not hasattr(node, "body")
    )


def _neighbours(gap: range) -> tuple[int, int]:
    """Return the lines before and behind a place where lines of the other side are."""
    return gap.start - 1, gap.start


def _innermost(text: str, line: int) -> _Span | None:
    around = [span for span in _functions(text) if span[0] <= line <= span[1]]
    return max(around, default=None)


@lru_cache(maxsize=16)
def _parsed(text: str) -> ast.Module:
    """Return the tree of a text; an empty one where it is no Python."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


@lru_cache(maxsize=16)
def _functions(text: str) -> tuple[_Span, ...]:
    return tuple(
        (min(one.lineno for one in (node, *node.decorator_list)), node.end_lineno or node.lineno)
        for node in ast.walk(_parsed(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def _code_lines(text: str) -> frozenset[int]:
    """Return the lines that are neither blank nor a comment or docstring."""
    lines = {
        number
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    }
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(lines)


def _only_adds_names(texts: tuple[str, str], lines: Sequence[Sequence[int]]) -> bool:
    """Return whether lines only import names, none of which the other side has from elsewhere."""
    old, new = (_imported(text, set(own)) for text, own in zip(texts, lines, strict=True))
    if old is None or new is None:
        return False
    return all(old[name] == new[name] for name in old.keys() & new.keys())


def _imported(text: str, lines: set[int]) -> dict[str, str] | None:
    """Return what import statements bind, by name; None where a line is none of theirs."""
    found: dict[str, str] = {}
    for node in _parsed(text).body:
        span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if isinstance(node, ast.Import | ast.ImportFrom) and lines.intersection(span):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            level = node.level if isinstance(node, ast.ImportFrom) else 0
            for one in node.names:
                found[one.asname or one.name] = f"{'.' * level}{module}:{one.name}"
            lines = lines.difference(span)
    return None if lines else found
