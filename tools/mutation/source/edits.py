"""Edits of source text by byte range; what is removed leaves its line ends, so lines stay."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEdit:
    """Replace the bytes from ``start`` to ``end`` by ``text``."""

    start: int
    end: int
    text: str


def apply_edits(source: bytes, edits: Sequence[SourceEdit]) -> bytes:
    """Return the source with every edit made; they must not overlap."""
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        source = source[: edit.start] + edit.text.encode() + source[edit.end :]
    return source


def replace_span(source: bytes, start: int, end: int, text: str) -> SourceEdit:
    """Return the edit that puts ``text`` there and keeps the number of lines where it can."""
    missing = source[start:end].count(b"\n") - text.count("\n")
    return SourceEdit(start=start, end=end, text=text + "\n" * max(0, missing))


def remove_item(source: bytes, start: int, end: int) -> SourceEdit:
    """Return the edit that removes one item of a list of them, with the comma that follows it."""
    after = end
    while after < len(source) and source[after : after + 1].isspace():
        after += 1
    if source[after : after + 1] == b",":
        end = after + 1
    return replace_span(source, start, end, "")
