"""Mutants: a source tree with one place changed, and where and what that is."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRange:
    """Lines of a file, the same in the source and in the mutant."""

    file: str
    first: int
    last: int

    def contains(self, file: str, line: int) -> bool:
        """Tell whether a line lies within."""
        return file == self.file and self.first <= line <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A source tree with one place changed.

    Attributes:
        id: digest of operator and texts.
        operator: what made it.
        key: names the mutant without its line, for a ledger and a reader.
        places: where the change is; the first is shown.
        functions: the functions around those places.
        parameters: names of which a right cause gives one; empty when no parameter is the fault.
        texts: whole mutated files, by path under the root.
        is_equivalent: whether the bytecode is that of the source.
    """

    id: str
    operator: str
    key: str
    changed_ranges: tuple[LineRange, ...]
    functions: tuple[LineRange, ...]
    parameters: tuple[str, ...]
    texts: Mapping[str, str]
    is_equivalent: bool

    @property
    def label(self) -> str:
        """File, line, function and change."""
        place = self.changed_ranges[0]
        return f"{place.file}:{place.first} {self.key.removeprefix(place.file).strip()}"
