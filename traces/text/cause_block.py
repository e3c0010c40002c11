"""Block of lines about one cause, for a terminal, a log, and the failure of a test."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.color import ColorSystem
from rich.style import Style

from traces.schema.verdict import Cause, Level
from traces.text import phrases

DEFAULT_COLUMNS = 80
_LEAST_COLUMNS = 40
_LEVELS = {Level.BEHAVIOUR: "bold red", Level.INTERFACE: "bold cyan", Level.FORMAT: "bold yellow"}
_SOURCE_COLOURS = {"-": "red", "+": "green"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLayout:
    """Layout of a text: colours, width, and the folder that lines of source are links into.

    Attributes:
        coloured: whether it has colours, and links where ``root`` is known.
        columns: width to which text is wrapped; a name or a place that is longer stays whole.
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

    def wrapped(self, text: str, *, indent: int, style: str = "", mark: str = "") -> list[str]:
        """Return the lines of a text behind a mark, those after the first one set in by two."""
        lines = textwrap.wrap(
            text,
            max(self.columns, _LEAST_COLUMNS),
            initial_indent=" " * indent + mark,
            subsequent_indent=" " * (indent + len(mark) + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        return [self.styled(line, style) if style else line for line in lines]


PLAIN = TextLayout()


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
    shown = []
    for line in lines:
        length = 2 if line[:2] in ("- ", "+ ", "  ") else 0
        style = _SOURCE_COLOURS.get(line[:1], "")
        shown += layout.wrapped(line[length:], indent=indent, style=style, mark=line[:length])
    return shown
