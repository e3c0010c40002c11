"""Phrases that all formats of a verdict share."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from traces.schema.verdict import (
    ADDED_KINDS,
    REMOVED_KINDS,
    Cause,
    Consequence,
    Kind,
    SourceHunk,
    Verdict,
)

SHOWN_CONSEQUENCES = 8
SHOWN_OF_ONE_KIND = 3
SHOWN_SCENARIOS = 3
SHOWN_HUNKS = 3
SHOWN_HUNK_LINES = 3

_SHOWN_CHARACTERS = 120
_CONTEXT_CHARACTERS = 30
_EMPTY: tuple[Any, ...] = (None, "", [], (), {})
# Both sides hold records: None is a record that one side lacks, not a value of Python.
_KINDS_OF_RECORDS = frozenset(
    (
        Kind.TRANSFER_CHANGED,
        Kind.COLLECTIVE_CHANGED,
        Kind.STORAGE_KEY_CHANGED,
        Kind.DIGEST_CHANGED,
        Kind.LOCKS_CHANGED,
        Kind.BALANCE_CHANGED,
        Kind.OUTCOME_CHANGED,
    )
)


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


def counts_lines(verdict: Verdict) -> list[str]:
    """Return ``41 scenarios played, 38 unchanged, 3 changed``, and which were run if not all."""
    counts = verdict.scenarios
    word = "compared" if verdict.kept else "played"
    start = f"{pluralise(counts.played, 'scenario')} {word}"
    line = f"{start}, {counts.unchanged} unchanged, {counts.changed} changed"
    return [line, verdict.selection] if verdict.selection else [line]


def total_line(verdict: Verdict) -> str:
    """Return ``2 causes (1 behaviour, 1 interface), 3 of 41 scenarios changed``."""
    levels = Counter(cause.level for cause in verdict.causes)
    parts = ", ".join(f"{number} {level}" for level, number in levels.items())
    counts = verdict.scenarios
    start = f"{pluralise(len(verdict.causes), 'cause')} ({parts})"
    return f"{start}, {counts.changed} of {pluralise(counts.played, 'scenario')} changed"


def value_texts(part: Cause | Consequence) -> tuple[str, str]:
    """Return the values on the base side and on the head side, as JSON on one line.

    Of two records only the fields that differ are shown, of two long texts the place where they
    begin to differ, and of a record that one side lacks the fields that are not empty.
    """
    before, after = msgspec.to_builtins(part.before), msgspec.to_builtins(part.after)
    is_record = part.kind in _KINDS_OF_RECORDS
    if isinstance(before, dict) and isinstance(after, dict):
        before, after = _differing_fields(before, after), _differing_fields(after, before)
        if before.keys() == after.keys():
            for name in before:
                before[name], after[name] = _around_difference(before[name], after[name])
    before, after = _around_difference(before, after)
    if before is None or after is None:
        before, after = _filled_fields(before), _filled_fields(after)
    return (
        _value_text(before, is_absent=is_record or part.kind in ADDED_KINDS),
        _value_text(after, is_absent=is_record or part.kind in REMOVED_KINDS),
    )


def _differing_fields(mine: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {name: mine[name] for name in mine if name not in other or mine[name] != other[name]}


def _filled_fields(value: Any) -> Any:  # noqa: ANN401 - a plain value
    if not isinstance(value, dict):
        return value
    return {name: one for name, one in value.items() if one not in _EMPTY}


def _around_difference(before: Any, after: Any) -> tuple[Any, Any]:  # noqa: ANN401 - plain values
    """Leave out what two long texts have in common at their start and at their end."""
    if not (isinstance(before, str) and isinstance(after, str)) or before == after:
        return before, after
    if max(len(before), len(after)) <= _SHOWN_CHARACTERS:
        return before, after
    start = max(0, _shared_length(before, after) - _CONTEXT_CHARACTERS)
    mine, other = before[start:], after[start:]
    end = max(0, _shared_length(mine[::-1], other[::-1]) - _CONTEXT_CHARACTERS)
    return _without_ends(mine, start, end), _without_ends(other, start, end)


def _shared_length(one: str, other: str) -> int:
    """Return how many characters two texts share at their start."""
    pairs = zip(one, other, strict=False)
    differing = (index for index, (left, right) in enumerate(pairs) if left != right)
    return next(differing, min(len(one), len(other)))


def _without_ends(text: str, start: int, end: int) -> str:
    return f"{'...' if start else ''}{text[: len(text) - end]}{'...' if end else ''}"


def _value_text(value: Any, *, is_absent: bool) -> str:  # noqa: ANN401 - a plain value
    """Return a value as JSON, its middle left out when it is very long."""
    if value is None:
        return "nothing" if is_absent else "None"
    text = msgspec.json.encode(value).decode()
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]} ... {text[-half:]}"


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
    change = f" {' -> '.join(value_texts(part))}" if has_change(part) else ""
    return f"{part.kind} {part.where}{change}{times}"


def split_consequences(cause: Cause) -> tuple[list[Consequence], list[Consequence]]:
    """Return the consequences to show and the others: no kind takes the room of another one."""
    numbers: Counter[Kind] = Counter()
    early: list[int] = []
    late: list[int] = []
    for position, part in enumerate(cause.consequences):
        numbers[part.kind] += 1
        (early if numbers[part.kind] <= SHOWN_OF_ONE_KIND else late).append(position)
    shown = {*(early + late)[:SHOWN_CONSEQUENCES]}
    parts = list(enumerate(cause.consequences))
    return (
        [part for position, part in parts if position in shown],
        [part for position, part in parts if position not in shown],
    )


def consequence_lines(cause: Cause, *, written: Callable[[str], str]) -> list[str]:
    """Return the first consequences, each as ``written`` writes it, and the kinds of the rest."""
    shown, hidden = split_consequences(cause)
    lines = [written(consequence_text(part)) for part in shown]
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
