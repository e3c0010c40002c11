"""The verdict as a comment on a pull request."""

import re

from tools.formats import words
from traces.verdict import Cause, Verdict

_HEADLINES = {"pass": "pass", "fail": "**fail**", "error": "**could not judge**"}


def as_markdown(verdict: Verdict) -> str:
    """Return headline and counts, a table of causes, what follows from each, and problems.

    What follows from a cause is folded.
    """
    blocks = [
        f"### goldentrace: {_HEADLINES[verdict.verdict]}",
        f"{_escaped(words.sides(verdict))}. {words.played(verdict)}.",
    ]
    if verdict.causes:
        blocks.append(_table(verdict.causes))
    blocks += [_details(cause) for cause in verdict.causes if cause.consequences]
    if verdict.problems:
        blocks.append("\n".join(f"- {_escaped(problem)}" for problem in verdict.problems))
    return "\n\n".join(blocks) + "\n"


def _table(causes: tuple[Cause, ...]) -> str:
    head = ["| cause | what | before | after | where | scenarios |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *(_row(cause) for cause in causes)])


def _row(cause: Cause) -> str:
    change = words.has_change(cause)
    cells = (
        f"{cause.kind} ({cause.level})",
        _code(words.subject(cause)),
        _code(words.before(cause)) if change else "",
        _code(words.after(cause)) if change else "",
        _code(words.place(cause) or words.chain(cause)),
        words.scenarios(cause, written=_code),
    )
    return f"| {' | '.join(cells)} |"


def _details(cause: Cause) -> str:
    shown = cause.consequences[: words.SHOWN_CONSEQUENCES]
    lines = [f"- {_code(words.consequence(part))}" for part in shown]
    rest = words.more_consequences(cause)
    lines += [f"- {rest}"] if rest else []
    title = f"{words.counted(len(cause.consequences), 'consequence')} of {cause.kind}"
    summary = f"{title} <code>{_html(words.subject(cause))}</code>"
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
