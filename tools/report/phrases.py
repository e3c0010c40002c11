"""Phrases that all formats of a verdict share."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from traces.schema.verdict import Cause, Consequence, Kind, SourceHunk, Verdict

SHOWN_CONSEQUENCES = 8
SHOWN_SCENARIOS = 3
SHOWN_HUNKS = 3
SHOWN_HUNK_LINES = 3

_SHOWN_CHARACTERS = 120
_ABSENT_BEFORE = (Kind.ARGUMENT_ADDED, Kind.PARAMETER_ADDED, Kind.CALL_ADDED)
_ABSENT_AFTER = (Kind.ARGUMENT_DROPPED, Kind.PARAMETER_REMOVED, Kind.CALL_REMOVED)


def pluralise(number: int, noun: str) -> str:
    """Return ``1 cause``, ``2 causes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sides_line(verdict: Verdict) -> str:
    """Return ``native: worktree against golden``."""
    head, base = (
        f"{side['side']} ({side['commit'][:12]})" if "commit" in side else side["side"]
        for side in (verdict.head, verdict.base)
    )
    return f"{verdict.target}: {head} against {base}"


def counts_line(verdict: Verdict) -> str:
    """Return ``41 scenarios played, 38 unchanged, 3 changed``, and which were run if not all."""
    counts = verdict.scenarios
    word = "compared" if verdict.kept else "played"
    start = f"{pluralise(counts.played, 'scenario')} {word}"
    line = f"{start}, {counts.unchanged} unchanged, {counts.changed} changed"
    return f"{line}\n{verdict.selection}" if verdict.selection else line


def total_line(verdict: Verdict) -> str:
    """Return ``2 causes (1 behaviour, 1 interface), 3 of 41 scenarios changed``."""
    levels = Counter(cause.level for cause in verdict.causes)
    parts = ", ".join(f"{number} {level}" for level, number in levels.items())
    counts = verdict.scenarios
    start = f"{pluralise(len(verdict.causes), 'cause')} ({parts})"
    return f"{start}, {counts.changed} of {pluralise(counts.played, 'scenario')} changed"


def value_text(value: Any) -> str:  # noqa: ANN401 - any encoded value
    """Return a value as JSON on one line, its middle left out when it is very long."""
    text = msgspec.json.encode(value).decode()
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]} ... {text[-half:]}"


def value_texts(cause: Cause) -> tuple[str, str]:
    """Return the values on the base side and on the head side."""
    before = cause.before is None and cause.kind in _ABSENT_BEFORE
    after = cause.after is None and cause.kind in _ABSENT_AFTER
    return (
        "nothing" if before else value_text(cause.before),
        "nothing" if after else value_text(cause.after),
    )


def has_change(cause: Cause | Consequence) -> bool:
    """Return whether there are values to show that are not just the name of what differs."""
    trivial: tuple[Any, ...] = (None, {}, cause.where)
    return cause.before not in trivial or cause.after not in trivial


def change_text(cause: Cause) -> str:
    """Return ``before -> after``; empty when there are no values to show."""
    return " -> ".join(value_texts(cause)) if has_change(cause) else ""


def subject_text(cause: Cause) -> str:
    """Return what differs: the parameter, or the place in the trace."""
    return cause.parameter or cause.where


def chain_text(cause: Cause) -> str:
    """Return ``build_kv_only_stack -> MLATokenToKVPoolHost``; empty when nothing is called."""
    names = (cause.builder, *cause.path, cause.callee)
    return " -> ".join(dict.fromkeys(name for name in names if name))


def place_text(cause: Cause) -> str:
    """Return ``file:line``; empty when neither side knows."""
    return "" if cause.location is None else f"{cause.location.file}:{cause.location.line}"


def source_lines(cause: Cause, *, written: Callable[[str], str]) -> list[str]:
    """Return lines of both sides: of the hunks that make a cause, else those at its location.

    Lines of the base begin with ``-``, of the head with ``+``; one that both share with neither.
    """
    lines = []
    for hunk in cause.made_by[:SHOWN_HUNKS]:
        lines += [f"made by {hunk.place}", *_side_lines(hunk, written=written)]
    hidden = len(cause.made_by) - SHOWN_HUNKS
    if hidden > 0:
        lines.append(f"and {pluralise(hidden, 'more hunk')}")
    if cause.made_by or cause.source is None:
        return lines
    if cause.source.before == cause.source.after:
        return [written(f"  {line.strip()}") for line in cause.source.after]
    return _side_lines(cause.source, written=written)


def _side_lines(hunk: SourceHunk, *, written: Callable[[str], str]) -> list[str]:
    lines = []
    for mark, side in (("-", hunk.before), ("+", hunk.after)):
        shown = [line for line in side if line.strip()]
        lines += [written(f"{mark} {line.strip()}") for line in shown[:SHOWN_HUNK_LINES]]
        hidden = len(shown) - SHOWN_HUNK_LINES
        lines += [f"{mark} and {pluralise(hidden, 'more line')}"] if hidden > 0 else []
    return lines


def is_about_a_scenario(cause: Cause) -> bool:
    """Return whether the scenario itself is what differs: there are no further details to show."""
    return cause.scenarios == (cause.where,) and not cause.consequences


def scenarios_text(cause: Cause, *, written: Callable[[str], str]) -> str:
    """Return the number of scenarios and the first names, each as ``written`` writes it."""
    if not cause.scenarios:
        return ""
    names = ", ".join(map(written, cause.scenarios[:SHOWN_SCENARIOS]))
    more = len(cause.scenarios) - SHOWN_SCENARIOS
    rest = f" and {more} more" if more > 0 else ""
    return f"{pluralise(len(cause.scenarios), 'scenario')}: {names}{rest}"


def consequence_text(part: Consequence) -> str:
    """Return one consequence on a line."""
    times = f" ({part.count} times)" if part.count > 1 else ""
    change = f" {value_text(part.before)} -> {value_text(part.after)}" if has_change(part) else ""
    return f"{part.kind} {part.where}{change}{times}"


def consequence_lines(cause: Cause, *, written: Callable[[str], str]) -> list[str]:
    """Return the first consequences, each as ``written`` writes it, and the kinds of the rest."""
    lines = [written(consequence_text(part)) for part in cause.consequences[:SHOWN_CONSEQUENCES]]
    hidden = cause.consequences[SHOWN_CONSEQUENCES:]
    if not hidden:
        return lines
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(one.kind for one in hidden).items())
    return [*lines, f"and {len(hidden)} more: {kinds}"]


def detail_lines(cause: Cause) -> list[str]:
    """Return a whole cause as plain lines: what differs, the calls, the message, what follows."""
    lines = [
        " ".join(filter(None, (subject_text(cause), change_text(cause)))),
        chain_text(cause),
        cause.message,
        cause.effect,
        *source_lines(cause, written=str),
        *consequence_lines(cause, written=str),
        scenarios_text(cause, written=str),
    ]
    return [line for line in lines if line]
