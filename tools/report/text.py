"""Rendering of a verdict as text for a terminal."""

from functools import partial
from itertools import groupby

from rich.color import ColorSystem
from rich.style import Style

from tools.errors import one_line
from tools.report import phrases
from traces.schema.verdict import Cause, Level, Verdict

HEADLINES = {"pass": "PASS", "fail": "FAIL", "error": "ERROR: could not judge"}
_COLOURS = {"pass": "bold green", "fail": "bold red", "error": "bold yellow"}
_LEVELS = {Level.BEHAVIOUR: "bold red", Level.INTERFACE: "bold cyan", Level.FORMAT: "bold yellow"}


def render_text(verdict: Verdict, *, coloured: bool) -> str:
    """Return headline, counts, then causes, the most upstream one first, and problems."""
    headline = _styled(HEADLINES[verdict.verdict], _COLOURS[verdict.verdict], coloured=coloured)
    start = f"{headline}  {phrases.sides_line(verdict)}\n{phrases.counts_line(verdict)}"
    causes = [render_cause(*one, coloured=coloured) for one in enumerate(verdict.causes, start=1)]
    mark = _styled("problem", "bold yellow", coloured=coloured)
    problems = [f"{mark}  {problem}" for problem in verdict.problems]
    return "\n\n".join([start, *_join_blocks(causes), *_join_blocks(problems)]) + "\n"


def render_line(verdict: Verdict) -> str:
    """Return the verdict on one line: headline, sides, counts, and the first cause or problem."""
    parts = [
        f"{HEADLINES[verdict.verdict]}  {phrases.sides_line(verdict)}",
        phrases.counts_line(verdict),
        *(cause.headline() for cause in verdict.causes[:1]),
        *verdict.problems[:1],
    ]
    return one_line("; ".join(parts)) + "\n"


def _join_blocks(blocks: list[str]) -> list[str]:
    """Join neighbouring blocks of one line each, without empty lines between them."""
    runs = groupby(blocks, key=lambda block: "\n" in block)
    return [one for is_long, run in runs for one in (run if is_long else ["\n".join(run)])]


def render_cause(number: int, cause: Cause, *, coloured: bool) -> str:
    """Return one cause as a block of lines, indented below its number."""
    painted = partial(_styled, coloured=coloured)
    kind = painted(cause.kind, _LEVELS[cause.level])
    subject = painted(phrases.subject_text(cause), "bold")
    lines = ["  ".join(filter(None, (f"{number}. {kind}", subject, phrases.change_text(cause))))]
    if phrases.is_about_a_scenario(cause):
        return lines[0]
    lines += [painted(phrases.place_text(cause), "underline")] if phrases.place_text(cause) else []
    lines += phrases.hunk_lines(cause, written=str)
    judged = f"{cause.confidence}: {cause.evidence}" if cause.confidence else ""
    lines += filter(None, (phrases.chain_text(cause), cause.message, judged))
    lines += [painted(phrases.scenarios_text(cause, written=str), "dim")] if cause.scenarios else []
    lines += [painted(f"  {line}", "dim") for line in phrases.consequence_lines(cause, written=str)]
    return f"\n{' ' * len(f'{number}. ')}".join(lines)


def _styled(text: str, style: str, *, coloured: bool) -> str:
    if not coloured:
        return text
    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)
