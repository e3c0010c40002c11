"""Search for the line of a function after which two sides are no longer in the same state."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from traces.divergence.logs import LineStop

_LOOKAHEAD_MAX = 400
"""Number of stops that may lie between two lines that both sides have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineDivergence:
    """A line at which two executions of a function diverge.

    Attributes:
        line: of the head when ``in_head``, else of the base.
        is_changed: whether the other side has no such line.
        name: of the local or attribute that differs from then on; empty where only the order of
            lines does.
    """

    line: int
    in_head: bool
    is_changed: bool
    name: str = ""


def first_line_divergence(
    base: Sequence[LineStop], head: Sequence[LineStop], *, same_lines: dict[int, int]
) -> LineDivergence | None:
    """Return the first line that explains why two executions of a function differ.

    That is the last changed line before values differ, else the line before they do; where only
    the order of lines differs, the line before it does. None when neither happens. The same lines
    are those of the head for lines of the base, where both have the line.
    """
    # Both end with a stop of line 0, when the function returns.
    lines = {**same_lines, 0: 0}
    known = set(lines.values())
    i = j = 0
    last: LineStop | None = None
    changed: list[LineDivergence] = []
    while i < len(base) and j < len(head):
        if lines.get(base[i].line) == head[j].line:
            if (name := _difference(base[i], head[j])) is not None:
                return _blame(changed, last, name)
            last = head[j]
            i, j = i + 1, j + 1
            continue
        step = _next_common(base[i:], head[j:], lines)
        passed = (base[i : i + step[0]], head[j : j + step[1]])
        new = [
            LineDivergence(line=stop.line, in_head=in_head, is_changed=True)
            for in_head, both in ((True, known), (False, lines.keys()))
            for stop in passed[in_head]
            if stop.line not in both
        ]
        if not new:
            return _blame(changed, last, "")
        changed += new
        i, j = i + step[0], j + step[1]
    return changed[-1] if changed else None


def _blame(
    changed: Sequence[LineDivergence], last: LineStop | None, name: str
) -> LineDivergence | None:
    if changed:
        line = next((one for one in reversed(changed) if one.in_head), changed[-1])
        return replace(line, name=name)
    if last is None:
        return None
    return LineDivergence(line=last.line, in_head=True, is_changed=False, name=name)


def _difference(base: LineStop, head: LineStop) -> str | None:
    shared = (name for name in base.values if name in head.values)
    return next((name for name in shared if base.values[name] != head.values[name]), None)


def _next_common(
    base: Sequence[LineStop], head: Sequence[LineStop], lines: dict[int, int]
) -> tuple[int, int]:
    """Return how many stops of either side come before a line that both have."""
    first: dict[int, int] = {}
    for index, stop in enumerate(head[:_LOOKAHEAD_MAX]):
        first.setdefault(stop.line, index)
    best = (len(base), len(head))
    for index, stop in enumerate(base[:_LOOKAHEAD_MAX]):
        other = first.get(lines.get(stop.line, -1))
        if other is not None and index + other < sum(best):
            best = (index, other)
    return best
