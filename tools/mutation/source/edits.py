"""Edits of source text by byte range; a removal keeps its line ends, so lines stay in place."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEdit:
    """The bytes from ``start`` to ``end`` replaced by ``text``."""

    start: int
    end: int
    text: str


def apply_edits(source: bytes, edits: Sequence[SourceEdit]) -> bytes:
    """Return the source with every edit made; they must not overlap."""
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        source = source[: edit.start] + edit.text.encode() + source[edit.end :]
    return source


def replace_range(source: bytes, start: int, end: int, text: str) -> SourceEdit:
    """Return the edit that puts ``text`` there, with as many line ends as were there before."""
    missing = source[start:end].count(b"\n") - text.count("\n")
    return SourceEdit(start=start, end=end, text=text + "\n" * max(0, missing))


def remove_item(source: bytes, start: int, end: int) -> SourceEdit:
    """Return the edit that removes one item of a list, with the comma that follows it."""
    after = end + len(source[end:]) - len(source[end:].lstrip())
    return replace_range(source, start, after + 1 if source[after : after + 1] == b"," else end, "")
