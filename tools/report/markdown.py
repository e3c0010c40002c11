"""Rendering of tables, and of a verdict for a comment on a pull request, as Markdown."""

import re
from collections.abc import Sequence

from traces.schema.verdict import Cause, Verdict
from traces.text import phrases

_HEADLINES = {"pass": "pass", "fail": "**fail**", "error": "**could not judge**"}


def render_markdown(verdict: Verdict) -> str:
    """Return headline and counts, a table of causes, their consequences folded, and problems.

    The last line is a comment by which a program finds its earlier comment on a pull request.
    """
    blocks = [
        f"### goldentrace: {_HEADLINES[verdict.verdict]}",
        f"{_escaped(phrases.sides_line(verdict))}. {'. '.join(phrases.counts_lines(verdict))}.",
    ]
    if verdict.causes:
        blocks.append(_table(verdict.causes))
    blocks += [
        _details(cause)
        for cause in verdict.causes
        if cause.consequences or phrases.source_lines(cause, written=str)
    ]
    if verdict.problems:
        blocks.append("\n".join(f"- {_escaped(problem)}" for problem in verdict.problems))
    blocks.append(f"<!-- goldentrace {verdict.target} -->")
    return "\n\n".join(blocks) + "\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with a line end; bars inside cells are escaped."""
    lines = [_line(head), _line(["---"] * len(head)), *map(_line, rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(causes: tuple[Cause, ...]) -> str:
    head = ["| cause | what | before | after | where | scenarios |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(_row(cause) for cause in causes)])


def _row(cause: Cause) -> str:
    values = phrases.value_texts(cause) if phrases.has_change(cause) else ("", "")
    cells = (
        f"{cause.kind} ({cause.level})",
        _code(phrases.subject_text(cause)),
        *map(_code, values),
        _code(phrases.place_text(cause) or phrases.chain_text(cause)),
        phrases.scenarios_text(cause, written=_code),
    )
    return f"| {' | '.join(cells)} |"


def _details(cause: Cause) -> str:
    lines = [f"- {_escaped(text)}" for text in (cause.message, cause.effect) if text]
    lines += [f"- {line}" for line in phrases.source_lines(cause, written=_code)]
    lines += [f"- {line}" for line in phrases.consequence_lines(cause, written=_code)]
    title = f"{phrases.pluralise(len(cause.consequences), 'consequence')} of {cause.kind}"
    summary = f"{title} <code>{_html(phrases.subject_text(cause))}</code>"
    return "\n".join(["<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"])


def _code(text: str) -> str:
    """Return a code span that holds any text; a table cell ends at a bar even inside one."""
    if not text:
        return ""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|")


def _escaped(text: str) -> str:
    for special in ("\\", "`", "*", "_", "[", "]", "|", "#"):
        text = text.replace(special, f"\\{special}")
    return _html(text)


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
