"""Signatures of the functions and classes that a source tree defines."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import libcst as cst

from tools.mutation.source.bindings import simple_name
from tools.mutation.source.outside import OutsideNames
from tools.mutation.source.source_tree import SourceUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureParameter:
    """One parameter; ``annotation`` and ``default`` are texts, empty for none.

    Attributes:
        allows_positional: whether an argument may be passed by position.
        is_order_certain: whether calls surely bind in the order of the source; those of
            dataclasses, which have inherited fields as well, do not.
    """

    name: str
    annotation: str = ""
    default: str = ""
    allows_positional: bool = False
    is_order_certain: bool = True


Signature = tuple[SignatureParameter, ...]


@dataclass(slots=False, eq=False)
class SourceTree:
    """All units of a campaign, and the signatures of what they define.

    Attributes:
        outside: names in the files of the package that are no units.
    """

    units: Sequence[SourceUnit]
    outside: OutsideNames = field(default_factory=OutsideNames)

    def __post_init__(self) -> None:
        self.signature = cache(self._signature)

    @cached_property
    def _defined(self) -> dict[str, list[tuple[SourceUnit, cst.ClassDef | cst.FunctionDef]]]:
        found = defaultdict(list)
        for unit in self.units:
            for node in unit.nodes:
                if isinstance(node, cst.ClassDef | cst.FunctionDef):
                    found[node.name.value].append((unit, node))
        return found

    def _signature(self, callee: str) -> Signature | None:
        """Return the parameters of a callee by its simple name; None for unknown or ambiguous."""
        if callee in self.outside.defined:
            return None
        defined = self._defined.get(callee, [])
        if any(isinstance(node, cst.ClassDef) for _, node in defined):
            return self._constructor(callee, seen=frozenset())
        functions = [(unit, node) for unit, node in defined if isinstance(node, cst.FunctionDef)]
        found = {_parameters(unit, node) for unit, node in functions}
        return found.pop() if len(found) == 1 else None

    def _constructor(self, name: str, *, seen: frozenset[str]) -> Signature | None:
        defined = self._defined.get(name, [])
        classes = [(unit, node) for unit, node in defined if isinstance(node, cst.ClassDef)]
        if name in seen or len(classes) != 1:
            return None
        [(unit, node)] = classes
        for statement in node.body.body:
            if isinstance(statement, cst.FunctionDef) and statement.name.value == "__init__":
                return _parameters(unit, statement)
        if any("dataclass" in unit.text(decorator.decorator) for decorator in node.decorators):
            return tuple(
                _dataclass_parameter(unit, small)
                for line in node.body.body
                if isinstance(line, cst.SimpleStatementLine)
                for small in line.body
                if isinstance(small, cst.AnnAssign)
            )
        names = (simple_name(base.value) for base in node.bases)
        bases = (self._constructor(base, seen=seen | {name}) for base in names)
        return next((found for found in bases if found is not None), None)


def _parameters(unit: SourceUnit, node: cst.FunctionDef) -> Signature:
    positional = [*node.params.posonly_params, *node.params.params]
    if positional and positional[0].name.value in ("self", "cls"):
        del positional[0]
    return tuple(
        SignatureParameter(
            name=one.name.value,
            annotation="" if one.annotation is None else unit.line(one.annotation.annotation),
            default="" if one.default is None else unit.line(one.default),
            allows_positional=one in positional,
        )
        for one in (*positional, *node.params.kwonly_params)
    )


def _dataclass_parameter(unit: SourceUnit, field: cst.AnnAssign) -> SignatureParameter:
    return SignatureParameter(
        name=simple_name(field.target),
        annotation=unit.line(field.annotation.annotation),
        default="" if field.value is None else unit.line(field.value),
        allows_positional=True,
        is_order_certain=False,
    )
