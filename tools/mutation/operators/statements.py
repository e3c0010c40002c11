"""Operators on statements and on what is listed: entries, edges of order, transfers, calls."""

from collections.abc import Iterator, Sequence

import libcst as cst
from typing_extensions import override

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.source.bindings import names_in, simple_name
from tools.mutation.source.edits import SourceEdit, remove_item, replace_span
from tools.mutation.source.source_tree import (
    ScopedDisplay,
    ScopedStatement,
    SourceSpan,
    SourceTree,
    SourceUnit,
)

EDGES = frozenset(
    {
        "record",
        "wait",
        "wait_event",
        "wait_stream",
        "wait_until",
        "complete",
        "synchronize",
        "record_stream",
    }
)
TRANSFERS = ("backup", "load_to", "load_layer", "transfer_", "copy_", "move_rows")
_ENTRY = ("entry", "entries", "poolentry")
_TRANSFER = ("transfer", "pooltransfer")


def drop_entry(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave a pool entry out of the list that becomes a group."""
    yield from _drop_listed(tree, scope, words=_ENTRY)
    for unit, site, call in _lone_calls(tree, scope):
        if simple_name(call.func) in ("append", "extend") and _mentions(unit, call, _ENTRY):
            yield _without_statement(unit, site)


def drop_edge(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave a record, a wait or a synchronisation out."""
    for unit, site, call in _lone_calls(tree, scope):
        if simple_name(call.func) in EDGES:
            yield _without_statement(unit, site)


def drop_transfer(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave one copy out, or one transfer that is queued for it."""
    yield from _drop_listed(tree, scope, words=_TRANSFER)
    for unit, site, call in _lone_calls(tree, scope):
        name = simple_name(call.func)
        is_queued = name in ("append", "extend") and _mentions(unit, call, _TRANSFER)
        if name == "move" or name.startswith(TRANSFERS) or is_queued:
            yield _without_statement(unit, site)


def reorder_calls(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Swap two calls that follow one another, unless the second needs what the first makes."""
    for unit in tree.units:
        for site in unit.statements:
            if site.after is None or site.only_words or not scope.is_ordering(unit, site.scopes):
                continue
            one, other = site.node, site.after
            is_pair = (
                _calls(one) and _calls(other) and not _names_assigned(one) & _names_used(other)
            )
            if is_pair and not _names_assigned(other) & _names_used(one):
                yield _reordered(unit, site, other)


def _lone_calls(
    tree: SourceTree, scope: MutationScope
) -> Iterator[tuple[SourceUnit, ScopedStatement, cst.Call]]:
    """Yield the statements that are nothing but a call."""
    for unit in tree.units:
        for site in unit.statements:
            match site.node.body[0]:
                case cst.Expr(value=cst.Call() as call) if scope.is_ordering(unit, site.scopes):
                    if not site.only_words:
                        yield unit, site, call


def _drop_listed(
    tree: SourceTree, scope: MutationScope, *, words: Sequence[str]
) -> Iterator[MutantSpec]:
    for unit in tree.units:
        for site in unit.displays:
            if site.only_words or site.function is None or not scope.is_ordering(unit, site.scopes):
                continue
            for element in site.node.elements:
                if _mentions(unit, _value(element), words):
                    yield _without_element(unit, site, element)


def _value(element: cst.BaseElement | cst.BaseDictElement) -> cst.BaseExpression:
    value = element.value
    return value.func if isinstance(value, cst.Call) else value


def _mentions(unit: SourceUnit, node: cst.CSTNode, words: Sequence[str]) -> bool:
    if isinstance(node, cst.Call):
        return any(
            _mentions(unit, _callee_or_self(argument.value), words) for argument in node.args
        )
    name = simple_name(node).lower() if isinstance(node, cst.BaseExpression) else ""
    return name.endswith(tuple(words))


def _callee_or_self(node: cst.BaseExpression) -> cst.BaseExpression:
    return node.func if isinstance(node, cst.Call) else node


def _without_element(
    unit: SourceUnit, site: ScopedDisplay, element: cst.BaseElement | cst.BaseDictElement
) -> MutantSpec:
    span = unit.spans[element]
    return MutantSpec(
        qualname=site.qualname,
        callee="",
        change=f"without {unit.text(element.value)[:60]}",
        spans=((unit, site.statement),),
        parameters=(),
        edits={unit.file: [remove_item(unit.source, span.start, span.end)]},
    )


def _without_statement(unit: SourceUnit, site: ScopedStatement) -> MutantSpec:
    span = unit.spans[site.node.body[0]]
    return MutantSpec(
        qualname=site.qualname,
        callee="",
        change=f"without {unit.text(site.node.body[0])[:90]}",
        spans=((unit, span),),
        parameters=(),
        edits={unit.file: [replace_span(unit.source, span.start, span.end, "...")]},
    )


def _reordered(
    unit: SourceUnit, site: ScopedStatement, other: cst.SimpleStatementLine
) -> MutantSpec:
    first, second = unit.spans[site.node.body[0]], unit.spans[other.body[0]]
    texts = [unit.source[span.start : span.end].decode() for span in (first, second)]
    edits = [
        SourceEdit(start=first.start, end=first.end, text=texts[1]),
        SourceEdit(start=second.start, end=second.end, text=texts[0]),
    ]
    names = [unit.text(node.body[0])[:50] for node in (site.node, other)]
    lines = SourceSpan(start=first.start, end=second.end, first=first.first, last=second.last)
    return MutantSpec(
        qualname=site.qualname,
        callee="",
        change=f"{names[1]} before {names[0]}",
        spans=((unit, lines),),
        parameters=(),
        edits={unit.file: edits},
    )


def _calls(line: cst.SimpleStatementLine) -> bool:
    match line.body:
        case [cst.Expr(value=cst.Call()) | cst.Assign(value=cst.Call())]:
            return True
        case _:
            return False


def _names_assigned(line: cst.SimpleStatementLine) -> frozenset[str]:
    match line.body[0]:
        case cst.Assign(targets=targets):
            texts = [target.target for target in targets]
            return frozenset(_dotted(node) for target in texts for node in _parts(target))
        case _:
            return frozenset()


def _names_used(line: cst.SimpleStatementLine) -> frozenset[str]:
    match line.body[0]:
        case cst.Assign(value=value) | cst.Expr(value=value):
            return names_in(value) | _attributes(value)
        case _:
            return frozenset()


def _parts(target: cst.BaseAssignTargetExpression) -> list[cst.BaseExpression]:
    match target:
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            return [element.value for element in elements]
        case _:
            return [target]


def _dotted(node: cst.BaseExpression) -> str:
    match node:
        case cst.Name(value=name):
            return name
        case cst.Attribute(value=value, attr=cst.Name(value=name)):
            return f"{_dotted(value)}.{name}"
        case _:
            return ""


def _attributes(node: cst.CSTNode) -> frozenset[str]:
    collector = _Attributes()
    node.visit(collector)
    return frozenset(collector.found)


class _Attributes(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    @override
    def visit_Attribute(self, node: cst.Attribute) -> None:
        self.found.add(_dotted(node))
