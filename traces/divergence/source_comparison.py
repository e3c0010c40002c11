"""Comparison of the sources of two sides: common functions, equal lines, changed keywords."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from functools import lru_cache
from typing import TypeAlias

import msgspec

from traces.schema.model import Location
from traces.schema.verdict import Kind, SourceHunk

ReadSource: TypeAlias = Callable[[str], str | None]
"""Returns the text of a file of one side, named relative to its root; None when there is none."""

LONG_HUNK_LINES = 6
"""Lines of a hunk above which only the part at a statement is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordChange:
    """A keyword as the sources of both sides pass it; None where one does not."""

    callee: str
    parameter: str
    before: str | None
    after: str | None

    @property
    def kind(self) -> Kind:
        """Kind of a cause."""
        if self.before is None:
            return Kind.ARGUMENT_ADDED
        return Kind.ARGUMENT_DROPPED if self.after is None else Kind.ARGUMENT_CHANGED


@dataclass(slots=True)
class SourceComparison:
    """The source files of two sides, each read and compared once."""

    base: ReadSource
    head: ReadSource
    _names: dict[tuple[bool, str], frozenset[str]] = field(default_factory=dict)
    _lines: dict[str, tuple[dict[int, int], int]] = field(default_factory=dict)

    def defines(self, function: str, file: str, *, in_head: bool) -> bool:
        """Return whether a file of a side defines a function or, for a constructor, its class."""
        key = (in_head, file)
        if key not in self._names:
            text = (self.head if in_head else self.base)(file)
            self._names[key] = frozenset() if text is None else frozenset(_definitions(text))
        names = self._names[key]
        is_made = function.endswith(("__init__", "__new__"))
        return function in names or (is_made and function.rpartition(".")[0] in names)

    def same_lines(self, file: str) -> dict[int, int]:
        """Return the head's line for every line of the base that both have, in order."""
        return self._compared(file)[0]

    def line_in_head(self, file: str, line: int) -> int:
        """Return the line of the head where a line of the base is, or would be."""
        lines, length = self._compared(file)
        if line in lines:
            return lines[line]
        above = max((known for known in lines if known < line), default=0)
        return max(1, min(length, lines.get(above, 0) + line - above))

    def is_touched(self, file: str, line: int, *, in_head: bool) -> bool:
        """Return whether the other side lacks a line of the statement at a line."""
        lines = self.same_lines(file)
        known = frozenset(lines.values()) if in_head else lines.keys()
        text = (self.head if in_head else self.base)(file)
        statement = None if text is None else _statement(text, line)
        lines_of = [line] if statement is None else _header_lines(statement)
        return any(number not in known for number in lines_of)

    def is_statement_at(self, site: Location, lines: range) -> bool:
        """Return whether the statement on a line of the head has one of its lines.

        Of an empty range, whose lines are gone, whether they were inside of it.
        """
        text = self.head(site.file)
        statement = None if text is None else _statement(text, site.line)
        if statement is None:
            return site.line in lines
        span = _header_lines(statement)
        if not lines:
            return span.start < lines.start < span.stop
        return lines.start < span.stop and span.start < lines.stop

    def is_function_touched(self, file: str, line: int) -> bool:
        """Return whether the innermost function of the head around a line differs at all."""
        text = self.head(file)
        function = None if text is None else _function(text, line)
        if function is None:
            return True
        span = range(function.lineno, (function.end_lineno or function.lineno) + 1)
        lines = self.same_lines(file)
        inverse = {head: base for base, head in lines.items()}
        was = [inverse.get(number) for number in span]
        return None in was or was != list(range(was[0] or 0, (was[0] or 0) + len(was)))

    def changed_argument(self, file: str, line: int) -> KeywordChange | None:
        """Return the keyword in which the statement at a line of the head differs, if one callee's.

        The statement of the base is the one where the line was before.
        """
        old, new = self.base(file), self.head(file)
        if old is None or new is None:
            return None
        inverse = {head: base for base, head in self.same_lines(file).items()}
        above = max((known for known in inverse if known <= line), default=0)
        was = inverse.get(above, 0) + line - above
        before, after = _statement(old, was), _statement(new, line)
        if before is None or after is None:
            return None
        found = list(_keyword_changes(before, after))
        return found[0] if found and len({one.callee for one in found}) == 1 else None

    def lines_at(self, place: Location) -> SourceHunk | None:
        """Return the lines of both sides at a line of the head, or of the base without that file.

        They are those that differ in the statement on the line; its own line, on both sides, where
        none differs; None where neither side has the line.
        """
        old, new = (side(place.file) for side in (self.base, self.head))
        lines = {False: (old or "").splitlines(), True: (new or "").splitlines()}
        in_head = new is not None
        if not 1 <= place.line <= len(lines[in_head]):
            return None
        own = (lines[in_head][place.line - 1],)
        if old is None or new is None:
            before, after = ((), own) if in_head else (own, ())
            return _hunk(place.file, (place.line, place.line), before=before, after=after)
        statement = _statement(new, place.line)
        span = range(place.line, place.line + 1) if statement is None else _header_lines(statement)
        near = [
            gap
            for gap in self.gaps(place.file)
            if gap[1].start <= span.stop and span.start <= gap[1].stop
        ]
        if not near:
            was = {head: base for base, head in self.same_lines(place.file).items()}
            first = was.get(place.line, place.line)
            return _hunk(place.file, (first, place.line), before=own, after=own)
        base, head = min(near, key=lambda gap: _distance(gap[1], place.line))
        hunk = _hunk(
            place.file,
            (base.start, head.start),
            before=tuple(lines[False][base.start - 1 : base.stop - 1]),
            after=tuple(lines[True][head.start - 1 : head.stop - 1]),
        )
        return _narrowed(hunk, own=own[0], span=span)

    def gaps(self, file: str) -> Iterator[tuple[range, range]]:
        """Yield the lines of the base and of the head between lines that both have."""
        lines, length = self._compared(file)
        total = len((self.base(file) or "").splitlines())
        above = (0, 0)
        for base, head in (*sorted(lines.items()), (total + 1, length + 1)):
            gap = range(above[0] + 1, base), range(above[1] + 1, head)
            if gap[0] or gap[1]:
                yield gap
            above = (base, head)

    def _compared(self, file: str) -> tuple[dict[int, int], int]:
        if file not in self._lines:
            old = (self.base(file) or "").splitlines()
            new = (self.head(file) or "").splitlines()
            blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
            lines = {
                block.a + offset + 1: block.b + offset + 1
                for block in blocks
                for offset in range(block.size)
            }
            self._lines[file] = (lines, len(new))
        return self._lines[file]


def _hunk(
    file: str, lines: tuple[int, int], *, before: tuple[str, ...], after: tuple[str, ...]
) -> SourceHunk:
    return SourceHunk(file=file, base_line=lines[0], head_line=lines[1], before=before, after=after)


def _narrowed(hunk: SourceHunk, *, own: str, span: range) -> SourceHunk:
    """Return the part of a long hunk that is a statement of the head, ``own`` its line of interest.

    Of the base that are the lines in the same places, or the one that is most like ``own``.
    """
    if max(len(hunk.before), len(hunk.after)) <= LONG_HUNK_LINES:
        return hunk
    offsets = [n for n in range(len(hunk.after)) if hunk.head_line + n in span]
    after = tuple(hunk.after[n] for n in offsets)
    head_line = hunk.head_line + offsets[0] if offsets else hunk.head_line
    if len(hunk.before) == len(hunk.after):
        places = offsets
    else:
        alike = get_close_matches(own, hunk.before, n=1)
        places = [hunk.before.index(alike[0])] if alike else []
    if not places:
        return msgspec.structs.replace(hunk, after=after, head_line=head_line)
    return msgspec.structs.replace(
        hunk,
        base_line=hunk.base_line + places[0],
        head_line=head_line,
        before=tuple(hunk.before[n] for n in places),
        after=after,
    )


def _distance(lines: range, line: int) -> int:
    """Return how far a line is from the nearest of some lines."""
    return 0 if line in lines else min(abs(line - lines.start), abs(line - lines.stop))


@lru_cache(maxsize=16)
def _parsed(text: str) -> ast.Module:
    """Return the tree of a text; an empty one where it is no Python."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def _nodes_around(text: str, line: int) -> Iterator[ast.AST]:
    """Yield the nodes that have lines and among them this one."""
    for node in ast.walk(_parsed(text)):
        first, last = getattr(node, "lineno", None), getattr(node, "end_lineno", None)
        if first is not None and first <= line <= (last or first):
            yield node


def _definitions(text: str) -> Iterator[str]:
    pending: list[tuple[str, ast.AST]] = [("", _parsed(text))]
    while pending:
        prefix, node = pending.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                yield name
                inner = "." if isinstance(child, ast.ClassDef) else ".<locals>."
                pending.append((f"{name}{inner}", child))
            else:
                pending.append((prefix, child))


def _statement(text: str, line: int) -> ast.stmt | None:
    """Return the smallest statement on a line; of a compound one only its header counts."""
    around = (node for node in _nodes_around(text, line) if isinstance(node, ast.stmt))
    return min(around, key=lambda node: (node.end_lineno or 0) - node.lineno, default=None)


def _header_lines(statement: ast.stmt) -> range:
    """Return the lines of a statement; of a compound one those of its header."""
    body = getattr(statement, "body", None)
    last = statement.end_lineno or statement.lineno
    if isinstance(body, list) and body:
        last = max(statement.lineno, body[0].lineno - 1)
    return range(statement.lineno, last + 1)


def _function(text: str, line: int) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    around = (node for node in _nodes_around(text, line) if isinstance(node, kinds))
    return max(around, key=lambda node: node.lineno, default=None)


def _keyword_changes(old: ast.AST, new: ast.AST) -> Iterator[KeywordChange]:
    """Yield what two statements pass in different ways."""
    if ast.dump(old) == ast.dump(new):
        return
    match old, new:
        case ast.Call(func=one), ast.Call(func=other) if ast.dump(one) == ast.dump(other):
            yield from _call_keyword_changes(old, new)
            return
    for before, after in zip(ast.iter_child_nodes(old), ast.iter_child_nodes(new), strict=False):
        if type(before) is type(after):
            yield from _keyword_changes(before, after)


def _call_keyword_changes(old: ast.Call, new: ast.Call) -> Iterator[KeywordChange]:
    before = {keyword.arg: keyword.value for keyword in old.keywords if keyword.arg}
    after = {keyword.arg: keyword.value for keyword in new.keywords if keyword.arg}
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        if one is None or other is None or ast.dump(one) != ast.dump(other):
            inner = [] if one is None or other is None else list(_keyword_changes(one, other))
            yield from inner or [
                KeywordChange(
                    callee=ast.unparse(new.func),
                    parameter=name,
                    before=None if one is None else ast.unparse(one),
                    after=None if other is None else ast.unparse(other),
                )
            ]
    for first, second in zip(old.args, new.args, strict=False):
        yield from _keyword_changes(first, second)
