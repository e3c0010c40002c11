"""Mutants and refactors as data, for processes without LibCST."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRange:
    """Lines of a file, the same in the source and in the mutant."""

    file: str
    first: int
    last: int

    @property
    def lines(self) -> range:
        """The numbers of the lines."""
        return range(self.first, self.last + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A source tree with one fault.

    Attributes:
        id: digest of operator and texts.
        key: names the mutant without its line, for the file of explained survivors.
        changed_ranges: the changed lines; the first range is shown.
        functions: the functions around them.
        parameters: names of which a right cause gives one; empty when no parameter is the fault.
        texts: whole mutated files, by path under the root.
        is_equivalent: whether the bytecode is that of the source.
    """

    id: str
    operator: str
    key: str
    changed_ranges: tuple[LineRange, ...]
    functions: tuple[LineRange, ...] = ()
    parameters: tuple[str, ...] = ()
    texts: Mapping[str, str]
    is_equivalent: bool = False

    @property
    def label(self) -> str:
        """File, line, function and change."""
        first = self.changed_ranges[0]
        return f"{first.file}:{first.first} {self.key.removeprefix(first.file).strip()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefactorStep:
    """One harmless refactor: its kind, and the seed of the choice of file and place."""

    kind: str
    seed: int
