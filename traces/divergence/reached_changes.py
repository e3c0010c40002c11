"""Search for the changed lines that a scenario executes.

Two sides that behave differently can do so only by lines that differ between them. A scenario that
executes changed lines in one place only has its cause there, whatever else the sides show.
"""

import ast
from collections.abc import Iterator

from traces.divergence.logs import CallLog
from traces.divergence.source_comparison import SourceComparison, innermost_function
from traces.schema.model import Location


def only_reached_change(
    base: CallLog, head: CallLog, sources: SourceComparison
) -> tuple[Location, range] | None:
    """Return the only place where a scenario executes changed lines; None for none or several.

    The location is a line of the head: the first changed one, or where lines of the base were. The
    range holds the changed lines of the head, and that line.
    """
    found = list(_reached_changes(base, head, sources))
    return found[0] if len(found) == 1 else None


def _reached_changes(
    base: CallLog, head: CallLog, sources: SourceComparison
) -> Iterator[tuple[Location, range]]:
    executed = (base.executed, head.executed)
    for file in sorted({*base.executed, *head.executed}):
        texts = (sources.base(file) or "", sources.head(file) or "")
        if texts[0] == texts[1]:
            continue
        known = [_code_lines(text) for text in texts]
        for gap in sources.gaps(file):
            lines = [[n for n in gap[side] if n in known[side]] for side in (0, 1)]
            if any(
                _is_reached(texts[side], n, executed[side].get(file, frozenset()))
                for side in (0, 1)
                for n in lines[side]
            ):
                line = lines[1][0] if lines[1] else sources.line_in_head(file, lines[0][0])
                spread = range(min(line, gap[1].start), max(line + 1, gap[1].stop))
                yield Location(file=file, line=line), spread


def _is_reached(text: str, line: int, executed: frozenset[int]) -> bool:
    """Return whether the function around a line was called; code outside of functions always is."""
    function = innermost_function(text, line)
    if function is None:
        return True
    return min(one.lineno for one in (function, *function.decorator_list)) in executed


def _code_lines(text: str) -> frozenset[int]:
    """Return the lines that are neither blank nor a comment or docstring."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return frozenset()
    lines = {
        number
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(lines)
