"""Finds the line of one function after which two sides are no longer in the same state."""

from collections.abc import Sequence
from dataclasses import dataclass

from traces.divergence.logs import LineStop

_LOOKAHEAD_MAX = 400
"""How many stops may lie between two lines that both sides have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineDivergence:
    """A line on which the sides part.

    Attributes:
        line: of the head when ``in_head``, else of the base.
        is_changed: whether the other side has no such line.
        name: of the local or attribute that is different from then on; empty for a different way.
    """

    line: int
    in_head: bool
    is_changed: bool
    name: str


def first_line_divergence(
    base: Sequence[LineStop], head: Sequence[LineStop], *, same_lines: dict[int, int]
) -> LineDivergence | None:
    """Return the first line that explains why two executions of a function differ.

    That is the last changed line before values differ, else the line before they do; where the
    sides only take different ways, the line that decides. None when neither happens.

    Args:
        base: stops of the base.
        head: stops of the head.
        same_lines: line of the head for lines of the base, where both have the line.
    """
    # Both end with a stop of line 0, when the function returns.
    lines = {**same_lines, 0: 0}
    known = set(lines.values())
    i = j = 0
    last: LineStop | None = None
    changed: list[LineDivergence] = []
    while i < len(base) and j < len(head):
        if lines.get(base[i].line) == head[j].line:
            name = _difference(base[i], head[j])
            if name is not None:
                return _blame(changed, last, name)
            last = head[j]
            i, j = i + 1, j + 1
            continue
        step = _next_common(base[i:], head[j:], lines)
        passed = (base[i : i + step[0]], head[j : j + step[1]])
        new = [
            *(
                _changed_line(stop.line, in_head=True)
                for stop in passed[1]
                if stop.line not in known
            ),
            *(
                _changed_line(stop.line, in_head=False)
                for stop in passed[0]
                if stop.line not in lines
            ),
        ]
        if not new:
            return _blame(changed, last, "")
        changed += new
        i, j = i + step[0], j + step[1]
    return changed[-1] if changed else None


def _changed_line(line: int, *, in_head: bool) -> LineDivergence:
    return LineDivergence(line=line, in_head=in_head, is_changed=True, name="")


def _blame(
    changed: Sequence[LineDivergence], last: LineStop | None, name: str
) -> LineDivergence | None:
    if changed:
        turn = next((one for one in reversed(changed) if one.in_head), changed[-1])
        return LineDivergence(line=turn.line, in_head=turn.in_head, is_changed=True, name=name)
    if last is None:
        return None
    return LineDivergence(line=last.line, in_head=True, is_changed=False, name=name)


def _difference(base: LineStop, head: LineStop) -> str | None:
    """Return the first name that both have with different values."""
    return next(
        (
            name
            for name, value in base.values.items()
            if name in head.values and head.values[name] != value
        ),
        None,
    )


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
