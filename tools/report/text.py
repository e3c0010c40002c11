"""Rendering of a verdict as text for a terminal."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.color import ColorSystem
from rich.style import Style

from tools.errors import one_line
from tools.report import phrases
from traces.schema.verdict import Cause, Level, Verdict

HEADLINES = {"pass": "PASS", "fail": "FAIL", "error": "ERROR: could not judge"}
DEFAULT_COLUMNS = 80
_LEAST_COLUMNS = 40
_COLOURS = {"pass": "bold green", "fail": "bold red", "error": "bold yellow"}
_LEVELS = {Level.BEHAVIOUR: "bold red", Level.INTERFACE: "bold cyan", Level.FORMAT: "bold yellow"}
_SOURCE_COLOURS = {"-": "red", "+": "green"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLayout:
    """Layout of a text: colours, width, and the folder that lines of source are links into.

    Attributes:
        coloured: whether it has colours, and links where ``root`` is known.
        columns: width to which sentences are wrapped; a name, a place or a source line that is
            longer stays whole.
        root: folder to which places of causes are relative; None for no links.
    """

    coloured: bool = False
    columns: int = DEFAULT_COLUMNS
    root: Path | None = None

    def styled(self, text: str, style: str) -> str:
        """Return a text in a style, ``bold red``, or as it is where there are no colours."""
        if not self.coloured:
            return text
        return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)

    def place(self, cause: Cause) -> str:
        """Return the place of a cause, as a link to its file where that is known."""
        text, site = phrases.place_text(cause), cause.location
        link = None
        if self.root is not None and site is not None and (self.root / site.file).is_file():
            link = f"{(self.root / site.file).absolute().as_uri()}#{site.line}"
        if not self.coloured:
            return text
        style = Style(underline=True, link=link)
        return style.render(text, color_system=ColorSystem.STANDARD)

    def wrapped(self, text: str, *, indent: int, style: str = "") -> list[str]:
        """Return the lines of a sentence, those after the first one set in by two more."""
        lines = textwrap.wrap(
            text,
            max(self.columns, _LEAST_COLUMNS),
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        return [self.styled(line, style) if style else line for line in lines]


PLAIN = TextLayout()


def render_text(verdict: Verdict, *, layout: TextLayout) -> str:
    """Return headline, counts, then causes, the most upstream one first, problems, and a total."""
    headline = layout.styled(HEADLINES[verdict.verdict], _COLOURS[verdict.verdict])
    start = f"{headline}  {phrases.sides_line(verdict)}\n{phrases.counts_line(verdict)}"
    causes = [render_cause(*one, layout=layout) for one in enumerate(verdict.causes, start=1)]
    mark = layout.styled("problem", "bold yellow")
    problems = [f"{mark}  {problem}" for problem in verdict.problems]
    total = [f"{headline}  {phrases.total_line(verdict)}"] if verdict.causes else []
    return "\n\n".join([start, *_join_blocks(causes), *_join_blocks(problems), *total]) + "\n"


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


def render_cause(number: int, cause: Cause, *, layout: TextLayout) -> str:
    """Return one cause as a block of lines, indented below its number.

    What is lost stands first, then the place and the lines of both sides, the chain of calls, what
    it leads to, and the scenarios.
    """
    kind = layout.styled(cause.kind, _LEVELS[cause.level])
    subject = layout.styled(phrases.subject_text(cause), "bold")
    change = phrases.change_text(cause)
    level = "" if cause.level is Level.BEHAVIOUR else f" ({cause.level})"
    head = "  ".join(filter(None, (f"{number}. {kind}{level}", subject)))
    if phrases.is_about_a_scenario(cause):
        return "  ".join(filter(None, (head, change)))
    indent = len(f"{number}. ")
    plain = f"{number}. {cause.kind}{level}  {phrases.subject_text(cause)}  {change}"
    fits = len(plain) <= max(layout.columns, _LEAST_COLUMNS)
    lines = [f"{head}  {change}" if change and fits else head]
    lines += [] if fits else layout.wrapped(change, indent=indent)
    judged = f"{cause.confidence}: {cause.evidence}" if cause.confidence else ""
    for sentence in (cause.message, cause.effect, judged):
        lines += layout.wrapped(sentence, indent=indent)
    if cause.location is not None:
        lines.append(f"{' ' * indent}{layout.place(cause)}")
    lines += _source_block(phrases.source_lines(cause, written=str), indent + 2, layout=layout)
    lines += layout.wrapped(phrases.chain_text(cause), indent=indent)
    lines += [f"{' ' * indent}It leads to:"] if cause.consequences else []
    for part in phrases.consequence_lines(cause, written=str):
        lines += layout.wrapped(part, indent=indent + 2, style="dim")
    lines += layout.wrapped(phrases.scenarios_text(cause, written=str), indent=indent, style="dim")
    return "\n".join(lines)


def _source_block(lines: Iterable[str], indent: int, *, layout: TextLayout) -> list[str]:
    return [
        f"{' ' * indent}{layout.styled(line, style) if style else line}"
        for line in lines
        for style in [_SOURCE_COLOURS.get(line[:1], "")]
    ]
