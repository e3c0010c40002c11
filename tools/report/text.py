"""Rendering of a verdict as text for a terminal."""

from itertools import groupby

from tools.errors import one_line
from traces.schema.verdict import Verdict
from traces.text import phrases
from traces.text.cause_block import TextLayout, render_cause

HEADLINES = {"pass": "PASS", "fail": "FAIL", "error": "ERROR: could not judge"}
_COLOURS = {"pass": "bold green", "fail": "bold red", "error": "bold yellow"}


def render_text(verdict: Verdict, *, layout: TextLayout) -> str:
    """Return headline, counts, then causes, the most upstream one first, problems, and a total."""
    headline = layout.styled(HEADLINES[verdict.verdict], _COLOURS[verdict.verdict])
    first = f"{headline}  {phrases.sides_line(verdict)}"
    start = "\n".join([first, *phrases.counts_lines(verdict)])
    causes = [render_cause(*one, layout=layout) for one in enumerate(verdict.causes, start=1)]
    mark = layout.styled("problem", "bold yellow")
    problems = [f"{mark}  {problem}" for problem in verdict.problems]
    total = [f"{headline}  {phrases.total_line(verdict)}"] if verdict.causes else []
    return "\n\n".join([start, *_join_blocks(causes), *_join_blocks(problems), *total]) + "\n"


def render_line(verdict: Verdict) -> str:
    """Return the verdict on one line: headline, sides, counts, and the first cause or problem."""
    parts = [
        f"{HEADLINES[verdict.verdict]}  {phrases.sides_line(verdict)}",
        *phrases.counts_lines(verdict),
        *(cause.headline() for cause in verdict.causes[:1]),
        *verdict.problems[:1],
    ]
    return one_line("; ".join(parts)) + "\n"


def _join_blocks(blocks: list[str]) -> list[str]:
    """Join neighbouring blocks of one line each, without empty lines between them."""
    runs = groupby(blocks, key=lambda block: "\n" in block)
    return [one for is_long, run in runs for one in (run if is_long else ["\n".join(run)])]
