"""Generation of mutants from the specifications of operators, each mutant once."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from types import CodeType
from typing import TypeAlias

import libcst as cst

from tools.mutation.mutant import LineRange, Mutant
from tools.mutation.source.bytecode import is_same_code
from tools.mutation.source.edits import SourceEdit, apply_edits
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceSpan, SourceUnit

ID_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantSpec:
    """A mutant before it is generated.

    Attributes:
        qualname: dotted name of the function.
        change: the change, for a reader; the callee first where it is the argument of a call.
        spans: the changed positions; the first is shown.
        edits: by file.
        parameters: names of which a right cause gives one; empty when no parameter is the fault.
    """

    qualname: str
    change: str
    spans: tuple[tuple[SourceUnit, SourceSpan], ...]
    edits: Mapping[str, Sequence[SourceEdit]]
    parameters: tuple[str, ...] = ()

    @classmethod
    def at(
        cls,
        unit: SourceUnit,
        site: ScopedNode[cst.CSTNode],
        *edits: SourceEdit,
        change: str,
        span: SourceSpan | None = None,
    ) -> "MutantSpec":
        """Return the specification of edits in one statement; ``span`` where it is less or more."""
        spans = ((unit, span or site.statement),)
        return cls(qualname=site.qualname, change=change, spans=spans, edits={unit.file: edits})


Operator: TypeAlias = Callable[[SourceTree, "MutationScope"], Iterator[MutantSpec]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MutationScope:
    """Files and functions of a tree that are mutated.

    Attributes:
        files: the mutated files, in order.
        wiring_paths: beginnings of paths whose every function passes arguments on.
        wiring_functions: names of functions that do so in every file: constructors.
        ordering_paths: beginnings of paths where copies, waits and transfers are ordered.
    """

    files: tuple[str, ...]
    wiring_paths: tuple[str, ...]
    wiring_functions: tuple[str, ...]
    ordering_paths: tuple[str, ...]

    def is_wiring(self, unit: SourceUnit, scopes: Sequence[str]) -> bool:
        """Return whether a function passes arguments on that a stack is made of."""
        is_path = bool(scopes) and unit.file.startswith(self.wiring_paths)
        return is_path or not set(scopes).isdisjoint(self.wiring_functions)

    def is_ordering(self, unit: SourceUnit, scopes: Sequence[str]) -> bool:
        """Return whether a function orders copies."""
        is_path = bool(scopes) and unit.file.startswith(self.ordering_paths)
        return is_path or self.is_wiring(unit, scopes)


def generate_mutants(
    tree: SourceTree, scope: MutationScope, operators: Mapping[str, Operator]
) -> list[Mutant]:
    """Return every distinct mutant: those with the same texts are one, of the first operator."""
    found: dict[tuple[tuple[str, str], ...], Mutant] = {}
    sources = {unit.file: unit.source for unit in tree.units}
    codes = {file: _compile_quietly(text.decode(), file) for file, text in sources.items()}
    for name, operator in operators.items():
        keys: Counter[str] = Counter()
        for spec in operator(tree, scope):
            edits = spec.edits
            texts = {file: apply_edits(sources[file], edits[file]).decode() for file in edits}
            try:
                mutated = {file: _compile_quietly(text, file) for file, text in texts.items()}
            except SyntaxError:
                continue
            key = f"{spec.spans[0][0].file} {spec.qualname} {spec.change}"
            keys[key] += 1
            mutant = Mutant(
                id=_mutant_id(name, texts),
                operator=name,
                key=key if keys[key] == 1 else f"{key} #{keys[key]}",
                changed_ranges=tuple(_line_range(unit, span) for unit, span in spec.spans),
                functions=tuple(_enclosing_function(unit, span) for unit, span in spec.spans),
                parameters=spec.parameters,
                texts=texts,
                is_equivalent=all(is_same_code(codes[file], mutated[file]) for file in mutated),
            )
            found.setdefault(tuple(sorted(texts.items())), mutant)
    return list(found.values())


def _line_range(unit: SourceUnit, span: SourceSpan) -> LineRange:
    return LineRange(file=unit.file, first=span.first, last=span.last)


def _enclosing_function(unit: SourceUnit, span: SourceSpan) -> LineRange:
    """Return the innermost function that a span lies in, or the span itself."""
    around = [unit.span(site.node) for site in unit.functions]
    inside = [one for one in around if one.start <= span.start and span.end <= one.end]
    return _line_range(unit, min(inside, key=lambda one: one.end - one.start, default=span))


def _compile_quietly(text: str, file: str) -> CodeType:
    with warnings.catch_warnings():
        # Mutants contain what the compiler finds suspicious.
        warnings.simplefilter("ignore", SyntaxWarning)
        return compile(text, file, "exec", dont_inherit=True)


def _mutant_id(operator: str, texts: Mapping[str, str]) -> str:
    found = sha256(operator.encode())
    for file, text in sorted(texts.items()):
        found.update(f"\0{file}\0{text}".encode())
    return found.hexdigest()[:ID_DIGITS]
