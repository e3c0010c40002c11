"""Entries of the CHANGELOG under ``Unreleased`` > ``Goldens``, which declare golden changes.

Keep a Changelog, version 1.1. An entry reads ``- NAME, NAME: reason``; a name may be an
``fnmatch`` pattern and may stand in backticks. The rest of the file is neither parsed nor changed.
"""

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

UNRELEASED = "## [Unreleased]"
GOLDENS = "### Goldens"

_WIDTH = 100
_NAMES_PER_PATTERN = 3
_RELEASE = re.compile(r"^##(?!#)\s*(?P<title>.*?)\s*$")
_SECTION = re.compile(r"^###(?!#)\s*(?P<title>.*?)\s*$")
_BULLET = re.compile(r"^\s{0,3}[-*+]\s+(?P<text>.*)$")
_FENCE = re.compile(r"^\s{0,3}(```|~~~)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangelogEntry:
    """One bullet of the Goldens section.

    Attributes:
        patterns: scenario names or ``fnmatch`` patterns, in order.
        reason: the text after the colon, on one line.
    """

    patterns: tuple[str, ...]
    reason: str

    def names(self, scenario: str) -> bool:
        """Return whether the entry declares a change of this scenario's golden."""
        return any(fnmatchcase(scenario, pattern) for pattern in self.patterns)


def declared_entries(text: str) -> tuple[ChangelogEntry, ...]:
    """Return the entries under ``Unreleased`` > ``Goldens`` that name something and a reason."""
    start, end = _goldens_span(text.splitlines())
    bullets = _bullets(text.splitlines()[start:end])
    return tuple(entry for entry in map(_parse_entry, bullets) if entry.patterns and entry.reason)


def added_entries(before: str, after: str) -> tuple[ChangelogEntry, ...]:
    """Return the entries that a change adds; an old entry does not declare a new difference."""
    added = Counter(declared_entries(after)) - Counter(declared_entries(before))
    return tuple(added.elements())


def undeclared_scenarios(
    scenarios: Iterable[str], entries: Sequence[ChangelogEntry]
) -> tuple[str, ...]:
    """Return the scenarios that no entry names, sorted."""
    return tuple(sorted(s for s in scenarios if not any(entry.names(s) for entry in entries)))


def add_changelog_entry(text: str, *, names: Sequence[str], reason: str) -> str:
    """Return the CHANGELOG with one more entry, creating the section where it is missing."""
    lines = text.splitlines()
    entry = textwrap.wrap(
        f"- {', '.join(f'`{name}`' for name in names)}: {' '.join(reason.split())}",
        width=_WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    start, end = _goldens_span(lines)
    if start == end == -1:
        lines = _with_section(lines)
        start, end = _goldens_span(lines)
    while end > start and not lines[end - 1].strip():
        end -= 1
    # Markdown wants an empty line between a heading and a list.
    gap = [""] if end == start else []
    rest = lines[end:]
    tail = ["", *rest] if rest and rest[0].strip() else rest
    return "\n".join([*lines[:end], *gap, *entry, *tail]).rstrip() + "\n"


def shortest_patterns(names: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return patterns that match ``names`` and none of the other ``known`` scenarios.

    A pattern stands for at least three names; the others are listed as they are.
    """
    left = dict.fromkeys(names)
    others = set(known) - left.keys()
    parts = dict.fromkeys(part for name in names for part in name.split("."))
    patterns = ["*", *(p for part in parts for p in (f"{part}.*", f"*.{part}.*", f"*.{part}"))]
    safe = [p for p in patterns if not any(fnmatchcase(name, p) for name in others)]
    chosen: list[str] = []
    while safe and left:
        best = max(safe, key=lambda p: sum(fnmatchcase(name, p) for name in left))
        matched = [name for name in left if fnmatchcase(name, best)]
        if len(matched) < _NAMES_PER_PATTERN:
            break
        chosen.append(best)
        left = dict.fromkeys(name for name in left if name not in matched)
    return (*chosen, *left)


def _with_section(lines: Sequence[str]) -> list[str]:
    start, end = _span(lines, _RELEASE, "unreleased", begin=0)
    if start == -1:
        preface = next(iter(_headings(lines, _RELEASE, begin=0)), len(lines))
        kept = _without_trailing_blanks(lines[:preface]) or ["# Changelog"]
        return [*kept, "", UNRELEASED, "", GOLDENS, "", *lines[preface:]]
    return [*_without_trailing_blanks(lines[:end]), "", GOLDENS, "", *lines[end:]]


def _without_trailing_blanks(lines: Sequence[str]) -> list[str]:
    kept = list(lines)
    while kept and not kept[-1].strip():
        kept.pop()
    return kept


def _goldens_span(lines: Sequence[str]) -> tuple[int, int]:
    """Lines inside the section as a half-open range, or (-1, -1)."""
    start, end = _span(lines, _RELEASE, "unreleased", begin=0)
    return (-1, -1) if start == -1 else _span(lines[:end], _SECTION, "goldens", begin=start)


def _span(
    lines: Sequence[str], heading: re.Pattern[str], title: str, *, begin: int
) -> tuple[int, int]:
    """Lines between the heading of a title and the next one of its level, or (-1, -1)."""
    numbers = _headings(lines, heading, begin=begin)
    for number, following in pairwise([*numbers, len(lines)]):
        found = heading.match(lines[number])
        if found is not None and found["title"].strip("[] ").casefold() == title:
            return number + 1, following
    return -1, -1


def _headings(lines: Sequence[str], heading: re.Pattern[str], *, begin: int) -> list[int]:
    found: list[int] = []
    fenced = False
    for number, line in enumerate(lines):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and number >= begin and heading.match(line):
            found.append(number)
    return found


def _bullets(lines: Sequence[str]) -> list[str]:
    bullets: list[str] = []
    for line in lines:
        if (bullet := _BULLET.match(line)) is not None:
            bullets.append(bullet["text"])
        elif line.strip() and bullets:
            bullets[-1] += f" {line.strip()}"
    return bullets


def _parse_entry(bullet: str) -> ChangelogEntry:
    names, colon, reason = f"{bullet} ".partition(": ")
    patterns = names.replace("`", " ").replace(",", " ").split() if colon else []
    return ChangelogEntry(patterns=tuple(patterns), reason=reason.strip())
