"""The verdict for a person before a terminal."""

from rich.color import ColorSystem
from rich.style import Style

from tools.formats import words
from traces.verdict import Cause, Level, Verdict

_HEADLINES = {"pass": "PASS", "fail": "FAIL", "error": "ERROR: could not judge"}
_COLOURS = {"pass": "bold green", "fail": "bold red", "error": "bold yellow"}
_LEVELS = {Level.BEHAVIOUR: "bold red", Level.INTERFACE: "bold cyan", Level.FORMAT: "bold yellow"}


def as_text(verdict: Verdict, *, coloured: bool) -> str:
    """Return headline, counts, then causes, the most upstream one first, and problems."""
    headline = _painted(_HEADLINES[verdict.verdict], _COLOURS[verdict.verdict], coloured=coloured)
    start = f"{headline}  {words.sides(verdict)}\n{words.played(verdict)}"
    causes = [
        _cause(number, cause, coloured=coloured)
        for number, cause in enumerate(verdict.causes, start=1)
    ]
    problems = [
        f"{_painted('problem', 'bold yellow', coloured=coloured)}  {problem}"
        for problem in verdict.problems
    ]
    return "\n\n".join([start, *_gathered(causes), *_gathered(problems)]) + "\n"


def _gathered(blocks: list[str]) -> list[str]:
    """Join neighbours that are one line each: a long list needs no empty lines."""
    gathered: list[str] = []
    alone = False
    for block in blocks:
        if alone and "\n" not in block:
            gathered[-1] += f"\n{block}"
        else:
            gathered.append(block)
        alone = "\n" not in block
    return gathered


def _cause(number: int, cause: Cause, *, coloured: bool) -> str:
    def painted(text: str, style: str) -> str:
        return _painted(text, style, coloured=coloured)

    kind = painted(cause.kind, _LEVELS[cause.level])
    change = f"  {_change(cause)}" if words.has_change(cause) else ""
    lines = [f"{number}. {kind}  {painted(words.subject(cause), 'bold')}{change}"]
    if words.is_about_a_scenario(cause):
        return lines[0]
    lines += [painted(words.place(cause), "underline")] if words.place(cause) else []
    lines += [words.chain(cause)] if words.chain(cause) else []
    lines += [cause.message] if cause.message else []
    lines += [painted(words.scenarios(cause, written=str), "dim")] if cause.scenarios else []
    consequences = [
        words.consequence(part) for part in cause.consequences[: words.SHOWN_CONSEQUENCES]
    ]
    rest = words.more_consequences(cause)
    lines += [painted(f"  {line}", "dim") for line in (*consequences, *([rest] if rest else []))]
    return f"\n{' ' * len(f'{number}. ')}".join(lines)


def _change(cause: Cause) -> str:
    return f"{words.before(cause)} -> {words.after(cause)}"


def _painted(text: str, style: str, *, coloured: bool) -> str:
    if not coloured:
        return text
    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)
