"""Hunks of source between two package trees, and texts of the head with some of them reverted."""

import ast
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path

from patiencediff import PatienceSequenceMatcher

from traces.schema.model import Location
from traces.schema.verdict import SourceHunk

LINKED_MAX = 12
"""Hunks that are joined because they share names."""

_EDITED_SHARE = 0.6
_NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeHunk:
    """Neighbouring lines of one file that differ.

    Attributes:
        number: position among all hunks.
        file: relative to the root of the package.
        base: line numbers, counted from 1; empty, before its start, where the base has none.
        head: the same of the head.
        before: lines of the base.
        after: lines of the head.
    """

    number: int
    file: str
    base: range
    head: range
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """Identifiers that occur in the lines of one side only."""
        old, new = (frozenset(_NAME.findall("\n".join(one))) for one in (self.before, self.after))
        return old ^ new

    @property
    def record(self) -> SourceHunk:
        """The hunk as a verdict holds it."""
        return SourceHunk(
            file=self.file,
            base_line=self.base.start,
            head_line=self.head.start,
            before=tuple(line.rstrip("\n") for line in self.before),
            after=tuple(line.rstrip("\n") for line in self.after),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDiff:
    """The hunks between two trees of one package.

    Attributes:
        base: lines of the changed files, by path relative to the root; ``head`` likewise.
        only_base: texts of files that the head lacks.
        only_head: files that the base lacks: they stay where hunks are reverted.
    """

    hunks: tuple[CodeHunk, ...]
    base: Mapping[str, tuple[str, ...]]
    head: Mapping[str, tuple[str, ...]]
    only_base: Mapping[str, str]
    only_head: tuple[str, ...]

    def reverted(self, hunks: Iterable[CodeHunk]) -> dict[str, str]:
        """Return the texts of the head's files in which some hunks are as in the base."""
        by_file: dict[str, list[CodeHunk]] = {}
        for hunk in hunks:
            by_file.setdefault(hunk.file, []).append(hunk)
        return {file: _reverted_text(self.head[file], own) for file, own in by_file.items()}


def compare_trees(base: Path, head: Path, *, package: str) -> SourceDiff:
    """Return the hunks between the Python files of a package under two roots."""
    old, new = (_python_files(root / package) for root in (base, head))
    pairs = {
        file: (_lines(old[file]), _lines(new[file]))
        for file in sorted(old.keys() & new.keys())
        if old[file].read_bytes() != new[file].read_bytes()
    }
    found = [
        hunk
        for file, (before, after) in pairs.items()
        for hunk in _hunks(f"{package}/{file}", before, after)
    ]
    return SourceDiff(
        hunks=tuple(replace(hunk, number=number) for number, hunk in enumerate(found)),
        base={f"{package}/{file}": pair[0] for file, pair in pairs.items()},
        head={f"{package}/{file}": pair[1] for file, pair in pairs.items()},
        only_base={
            f"{package}/{file}": "".join(_lines(old[file])) for file in old.keys() - new.keys()
        },
        only_head=tuple(sorted(f"{package}/{file}" for file in new.keys() - old.keys())),
    )


def revertible_units(
    diff: SourceDiff, hunks: Sequence[CodeHunk], *, is_code: Callable[[str], bool]
) -> Iterator[frozenset[CodeHunk]]:
    """Yield the smallest groups of neighbouring hunks of a file that can be reverted alone.

    A reverted file must be code: a hunk that opens a block and one that closes it are one unit.
    """
    pending: list[CodeHunk] = []
    for hunk in hunks:
        if pending and pending[-1].file != hunk.file:
            yield frozenset(pending)
            pending = []
        pending.append(hunk)
        if is_code(diff.reverted(pending)[hunk.file]):
            yield frozenset(pending)
            pending = []
    if pending:
        yield frozenset(pending)


def linked_units(
    diff: SourceDiff, units: Iterable[frozenset[CodeHunk]]
) -> list[frozenset[CodeHunk]]:
    """Join units that share a name which only one side has: a new parameter and its callers.

    Names are looked for in the changed files. What one hunk brings, another one cannot be without.
    Between releases everything hangs together in some way: no more than :data:`LINKED_MAX` hunks
    are joined, and errors tell the rest.
    """
    old, new = (_names_of(side.values()) for side in (diff.base, diff.head))
    own = old ^ new
    joined: list[tuple[frozenset[CodeHunk], frozenset[str]]] = []
    for unit in units:
        hunks, names = unit, _names_of([[*one.before, *one.after] for one in unit]) & own
        rest = []
        for other in joined:
            if other[1] & names and len(hunks) + len(other[0]) <= LINKED_MAX:
                hunks, names = hunks | other[0], names | other[1]
            else:
                rest.append(other)
        joined = [*rest, (hunks, names)]
    return [hunks for hunks, _ in joined]


def changes_bodies_only(diff: SourceDiff, hunks: Iterable[CodeHunk]) -> bool:
    """Return whether hunks have no line outside the bodies of functions."""
    return all(
        _is_in_bodies(diff.base[hunk.file], hunk.base)
        and _is_in_bodies(diff.head[hunk.file], hunk.head)
        for hunk in hunks
    )


def is_python(text: str) -> bool:
    """Return whether a text can be compiled."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def executed_hunks(
    diff: SourceDiff,
    *,
    base: Mapping[str, Collection[int]],
    head: Mapping[str, Collection[int]],
) -> tuple[CodeHunk, ...]:
    """Return the hunks that a run can have come across.

    That are hunks with an executed line of either side in one of their statements, and those
    outside functions, in files that were imported: their statements run on import. A file that
    neither side imported is not among the keys of the executed lines.
    """
    found = []
    for hunk in diff.hunks:
        if hunk.file not in base and hunk.file not in head:
            continue
        sides = (
            (diff.base[hunk.file], hunk.base, base.get(hunk.file, ())),
            (diff.head[hunk.file], hunk.head, head.get(hunk.file, ())),
        )
        if any(_is_reached(lines, span, executed) for lines, span, executed in sides):
            found.append(hunk)
    return tuple(found)


def hunks_at(diff: SourceDiff, location: Location | None) -> frozenset[CodeHunk]:
    """Return the hunks in the smallest statement of the head around a line."""
    if location is None or location.file not in diff.head:
        return frozenset()
    _, statements = _spans("".join(diff.head[location.file]))
    around = [one for one in statements if location.line in one]
    if not around:
        return frozenset()
    found = min(around, key=len)
    # Lines that are gone stood before the line that follows them.
    return frozenset(
        hunk
        for hunk in diff.hunks
        if hunk.file == location.file
        and hunk.head.start < found.stop + (not hunk.after)
        and found.start < hunk.head.stop + (not hunk.after)
    )


def _is_reached(lines: Sequence[str], span: range, executed: Collection[int]) -> bool:
    """Return whether a run came across one of some lines: executed them, or ran them on import."""
    functions, statements = _spans("".join(lines))
    for line in span:
        if not any(line in body for body in functions):
            text = lines[line - 1].strip()
            if text and not text.startswith("#"):
                return True
        elif any(number in executed for one in statements if line in one for number in one):
            return True
    return False


def _is_in_bodies(lines: Sequence[str], span: range) -> bool:
    functions, _ = _spans("".join(lines))
    return all(any(line in body for body in functions) for line in span)


@lru_cache(maxsize=8)
def _spans(text: str) -> tuple[tuple[range, ...], tuple[range, ...]]:
    """Return the lines of the bodies of all functions, and of all statements by their headers."""
    functions, statements = [], []
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append(range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1))
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = node.end_lineno or node.lineno
            if isinstance(body, list) and body:
                last = max(node.lineno, body[0].lineno - 1)
            statements.append(range(node.lineno, last + 1))
    return tuple(functions), tuple(statements)


def _parsed(text: str) -> ast.Module:
    """Return the tree of a text; an empty one where it is no Python."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def _names_of(files: Iterable[Sequence[str]]) -> frozenset[str]:
    return frozenset(name for lines in files for name in _NAME.findall("".join(lines)))


def _python_files(root: Path) -> dict[str, Path]:
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").splitlines(keepends=True))


def _hunks(file: str, base: Sequence[str], head: Sequence[str]) -> Iterator[CodeHunk]:
    for old, new in _changed_spans(base, head):
        yield CodeHunk(
            number=0,
            file=file,
            base=range(old.start + 1, old.stop + 1),
            head=range(new.start + 1, new.stop + 1),
            before=tuple(base[old.start : old.stop]),
            after=tuple(head[new.start : new.stop]),
        )


def _changed_spans(base: Sequence[str], head: Sequence[str]) -> Iterator[tuple[range, range]]:
    """Yield indices of lines that differ; lines that were edited in place one by one."""
    matcher = PatienceSequenceMatcher(None, base, head)
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        pairs = list(zip(base[i:i_end], head[j:j_end], strict=False))
        if i_end - i == j_end - j and all(_is_edited(*pair) for pair in pairs):
            for offset in range(len(pairs)):
                yield range(i + offset, i + offset + 1), range(j + offset, j + offset + 1)
        else:
            yield range(i, i_end), range(j, j_end)


def _is_edited(before: str, after: str) -> bool:
    """Return whether a line is another one edited, by the share of equal characters."""
    return SequenceMatcher(None, before, after, autojunk=False).ratio() >= _EDITED_SHARE


def _reverted_text(lines: Sequence[str], hunks: Iterable[CodeHunk]) -> str:
    text = list(lines)
    for hunk in sorted(hunks, key=lambda one: -one.head.start):
        text[hunk.head.start - 1 : hunk.head.stop - 1] = hunk.before
    return "".join(text)
