"""Generation of mutants from the specifications of operators, each mutant once."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from types import CodeType
from typing import TypeAlias

import libcst as cst

from tools.bytecode import is_same_code
from tools.mutation.mutant import LineRange, Mutant
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
        functions: names of the only mutated functions, by file; every function of other files.
        optional_parameters: keywords that a call of a class may leave out, by class.
    """

    files: tuple[str, ...]
    wiring_paths: tuple[str, ...]
    wiring_functions: tuple[str, ...]
    ordering_paths: tuple[str, ...]
    functions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    optional_parameters: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def is_included(self, unit: SourceUnit, scopes: Sequence[str]) -> bool:
        """Return whether a function of a file is mutated at all."""
        only = self.functions.get(unit.file)
        return only is None or not only.isdisjoint(scopes)

    def is_wiring(self, unit: SourceUnit, scopes: Sequence[str]) -> bool:
        """Return whether a function passes arguments on that a stack is made of."""
        is_path = bool(scopes) and unit.file.startswith(self.wiring_paths)
        return is_path or not set(scopes).isdisjoint(self.wiring_functions)

    def is_ordering(self, unit: SourceUnit, scopes: Sequence[str]) -> bool:
        """Return whether a function orders copies."""
        is_path = bool(scopes) and unit.file.startswith(self.ordering_paths)
        return is_path or self.is_wiring(unit, scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantDraft:
    """A mutant without its texts, which are as long as the files.

    Attributes:
        key: as in :class:`Mutant`.
        edits: by file.
    """

    operator: str
    key: str
    changed_ranges: tuple[LineRange, ...]
    functions: tuple[LineRange, ...]
    parameters: tuple[str, ...]
    edits: Mapping[str, tuple[SourceEdit, ...]]


def draft_mutants(
    tree: SourceTree, scope: MutationScope, operators: Mapping[str, Operator]
) -> Iterator[MutantDraft]:
    """Yield every mutant before it is made, some of which may not compile or be the same."""
    for name, operator in operators.items():
        keys: Counter[str] = Counter()
        for spec in operator(tree, scope):
            key = f"{spec.spans[0][0].file} {spec.qualname} {spec.change}"
            keys[key] += 1
            yield MutantDraft(
                operator=name,
                key=key if keys[key] == 1 else f"{key} #{keys[key]}",
                changed_ranges=tuple(_line_range(unit, span) for unit, span in spec.spans),
                functions=tuple(_enclosing_function(unit, span) for unit, span in spec.spans),
                parameters=spec.parameters,
                edits={file: tuple(edits) for file, edits in spec.edits.items()},
            )


def make_mutants(
    drafts: Iterable[MutantDraft], sources: Mapping[str, bytes], *, number: int | None = None
) -> list[Mutant]:
    """Return distinct mutants that compile, at most so many.

    Those with the same texts are one, of the first operator.
    """
    found: dict[tuple[tuple[str, str], ...], Mutant] = {}
    codes: dict[str, CodeType] = {}
    for draft in drafts:
        if len(found) == number:
            break
        mutant = _make_mutant(draft, sources, codes)
        if mutant is not None:
            found.setdefault(tuple(sorted(mutant.texts.items())), mutant)
    return list(found.values())


def generate_mutants(
    tree: SourceTree, scope: MutationScope, operators: Mapping[str, Operator]
) -> list[Mutant]:
    """Return every distinct mutant."""
    sources = {unit.file: unit.source for unit in tree.units}
    return make_mutants(draft_mutants(tree, scope, operators), sources)


def _make_mutant(
    draft: MutantDraft, sources: Mapping[str, bytes], codes: dict[str, CodeType]
) -> Mutant | None:
    texts = {
        file: apply_edits(sources[file], edits).decode() for file, edits in draft.edits.items()
    }
    try:
        mutated = {file: _compile_quietly(text, file) for file, text in texts.items()}
    except SyntaxError:
        return None
    for file in texts:
        if file not in codes:
            codes[file] = _compile_quietly(sources[file].decode(), file)
    return Mutant(
        id=_mutant_id(draft.operator, texts),
        operator=draft.operator,
        key=draft.key,
        changed_ranges=draft.changed_ranges,
        functions=draft.functions,
        parameters=draft.parameters,
        texts=texts,
        is_equivalent=all(is_same_code(codes[file], mutated[file]) for file in mutated),
    )


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
