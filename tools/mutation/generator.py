"""Makes mutants of what operators draft, each once, and says which are the same program."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import CodeType
from typing import TypeAlias

from tools.mutation.mutant import LineRange, Mutant
from tools.mutation.source.bytecode import is_same_code
from tools.mutation.source.edits import SourceEdit, apply_edits
from tools.mutation.source.source_tree import SourceSpan, SourceTree, SourceUnit

ID_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantSpec:
    """A mutant before it is made.

    Attributes:
        place: dotted name of the function.
        callee: what is called there, or what stands there.
        what: the change, for a reader.
        edits: by file.
    """

    qualname: str
    callee: str
    change: str
    spans: tuple[tuple[SourceUnit, SourceSpan], ...]
    parameters: tuple[str, ...]
    edits: Mapping[str, Sequence[SourceEdit]]


Operator: TypeAlias = Callable[[SourceTree, "MutationScope"], Iterator[MutantSpec]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MutationScope:
    """Which files and functions of a tree are mutated.

    Attributes:
        files: what is mutated, in order.
        wiring: beginnings of paths whose every function wires.
        wired_functions: names of functions that wire wherever they are: constructors.
        order: beginnings of paths where copies, waits and transfers are ordered.
        unmutated: beginnings of dotted functions (``file:place``) that are left alone.
    """

    files: tuple[str, ...]
    wiring_paths: tuple[str, ...]
    wiring_functions: tuple[str, ...]
    ordering_paths: tuple[str, ...]
    excluded: tuple[str, ...]

    def is_wiring(self, unit: SourceUnit, scopes: Sequence[str]) -> bool:
        """Tell whether a function passes arguments on that a stack is made of."""
        if self._is_excluded(unit, scopes) or not scopes:
            return False
        return unit.file.startswith(self.wiring_paths) or any(
            scope in self.wiring_functions for scope in scopes
        )

    def is_ordering(self, unit: SourceUnit, scopes: Sequence[str]) -> bool:
        """Tell whether a function orders copies."""
        if self._is_excluded(unit, scopes) or not scopes:
            return False
        return unit.file.startswith(self.ordering_paths) or self.is_wiring(unit, scopes)

    def _is_excluded(self, unit: SourceUnit, scopes: Sequence[str]) -> bool:
        return f"{unit.file}:{'.'.join(scopes)}".startswith(self.excluded)


def generate_mutants(
    tree: SourceTree, scope: MutationScope, operators: Mapping[str, Operator]
) -> list[Mutant]:
    """Return every distinct mutant: those with the same texts are one, of the first operator."""
    found: dict[tuple[tuple[str, str], ...], Mutant] = {}
    codes = {unit.file: _compile_quietly(unit.source.decode(), unit.file) for unit in tree.units}
    for name, operator in operators.items():
        keys: dict[str, int] = {}
        for draft in operator(tree, scope):
            mutant = _build_mutant(name, draft, tree=tree, codes=codes, keys=keys)
            if mutant is not None:
                found.setdefault(tuple(sorted(mutant.texts.items())), mutant)
    return list(found.values())


def _build_mutant(
    operator: str,
    draft: MutantSpec,
    *,
    tree: SourceTree,
    codes: Mapping[str, CodeType],
    keys: dict[str, int],
) -> Mutant | None:
    sources = {unit.file: unit.source for unit in tree.units}
    texts = {
        file: apply_edits(sources[file], edits).decode()
        for file, edits in draft.edits.items()
        if edits
    }
    mutated: dict[str, CodeType] = {}
    for file, text in texts.items():
        try:
            mutated[file] = _compile_quietly(text, file)
        except SyntaxError:
            return None
    unit = draft.spans[0][0]
    key = " ".join(part for part in (unit.file, draft.qualname, draft.callee, draft.change) if part)
    keys[key] = keys.get(key, 0) + 1
    key = key if keys[key] == 1 else f"{key} #{keys[key]}"
    return Mutant(
        id=_mutant_id(operator, texts),
        operator=operator,
        key=key,
        changed_ranges=tuple(
            LineRange(file=unit.file, first=span.first, last=span.last)
            for unit, span in draft.spans
        ),
        functions=tuple(_enclosing_function(unit, span) for unit, span in draft.spans),
        parameters=draft.parameters,
        texts=texts,
        is_equivalent=all(is_same_code(codes[file], code) for file, code in mutated.items()),
    )


def _enclosing_function(unit: SourceUnit, span: SourceSpan) -> LineRange:
    """Return the innermost function that a span lies in, or the span itself."""
    around = [unit.spans[site.node] for site in unit.functions]
    inside = [one for one in around if one.start <= span.start and span.end <= one.end]
    own = min(inside, key=lambda one: one.end - one.start, default=span)
    return LineRange(file=unit.file, first=own.first, last=own.last)


def _compile_quietly(text: str, file: str) -> CodeType:
    with warnings.catch_warnings():
        # What a mutant makes suspicious is its business.
        warnings.simplefilter("ignore", SyntaxWarning)
        return compile(text, file, "exec", dont_inherit=True)


def _mutant_id(operator: str, texts: Mapping[str, str]) -> str:
    found = sha256(operator.encode())
    for file, text in sorted(texts.items()):
        found.update(f"\0{file}\0{text}".encode())
    return found.hexdigest()[:ID_DIGITS]
