"""Operators on statements and list items: entries, order edges, transfers, calls."""

from collections.abc import Iterator, Sequence

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.source.bindings import descendants, dotted_name, names_in, simple_name
from tools.mutation.source.edits import SourceEdit
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceSpan, SourceUnit

Statement = ScopedNode[cst.SimpleStatementLine]

_EDGES = frozenset(
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
_TRANSFERS = ("backup", "load_to", "load_layer", "transfer_", "copy_", "move_rows")
_ENTRY_WORDS = ("entry", "entries", "poolentry")
_TRANSFER_WORDS = ("transfer", "pooltransfer")


def drop_entry(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave a pool entry out of the list that becomes a group."""
    yield from _drop_items(tree, scope, words=_ENTRY_WORDS)
    for unit, site, call in _call_statements(tree, scope):
        if _is_appending(call, _ENTRY_WORDS):
            yield without_statement(unit, site)


def drop_edge(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave a record, a wait or a synchronisation out."""
    for unit, site, call in _call_statements(tree, scope):
        if simple_name(call.func) in _EDGES:
            yield without_statement(unit, site)


def drop_transfer(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave one copy out, or one transfer that is queued for it."""
    yield from _drop_items(tree, scope, words=_TRANSFER_WORDS)
    for unit, site, call in _call_statements(tree, scope):
        name = simple_name(call.func)
        if name == "move" or name.startswith(_TRANSFERS) or _is_appending(call, _TRANSFER_WORDS):
            yield without_statement(unit, site)


def reorder_calls(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Swap two successive calls, unless one needs what the other makes."""
    for unit in tree.units:
        for site in unit.statements:
            after = unit.next_line(site.node)
            if after is None or site.is_message or not scope.is_ordering(unit, site.scopes):
                continue
            if all(map(_is_call, (site.node, after))) and _are_independent(site.node, after):
                yield _reordered(unit, site, after)


def without_statement(unit: SourceUnit, site: Statement) -> MutantSpec:
    """Return the mutant in which ``...`` takes the place of a statement."""
    small = site.node.body[0]
    edit, change = unit.replace(small, "..."), f"without {unit.line(small)[:90]}"
    return MutantSpec.at(unit, site, edit, change=change, span=unit.span(small))


def _call_statements(
    tree: SourceTree, scope: MutationScope
) -> Iterator[tuple[SourceUnit, Statement, cst.Call]]:
    for unit in tree.units:
        for site in unit.statements:
            match site.node.body[0]:
                case cst.Expr(value=cst.Call() as call) if not site.is_message:
                    if scope.is_ordering(unit, site.scopes):
                        yield unit, site, call


def _drop_items(
    tree: SourceTree, scope: MutationScope, *, words: Sequence[str]
) -> Iterator[MutantSpec]:
    for unit in tree.units:
        for node in unit.nodes:
            if not isinstance(node, cst.List | cst.Tuple | cst.Dict):
                continue
            site = unit.site(node)
            if site.is_message or site.function is None or not scope.is_ordering(unit, site.scopes):
                continue
            for element in node.elements:
                if _callee_name(element.value).endswith(tuple(words)):
                    change = f"without {unit.line(element.value)[:60]}"
                    yield MutantSpec.at(unit, site, unit.remove(element), change=change)


def _is_appending(call: cst.Call, words: Sequence[str]) -> bool:
    return simple_name(call.func) in ("append", "extend") and any(
        _callee_name(argument.value).endswith(tuple(words)) for argument in call.args
    )


def _callee_name(node: cst.BaseExpression) -> str:
    name = node.func if isinstance(node, cst.Call) else node
    return "" if isinstance(name, cst.Call) else simple_name(name).lower()


def _reordered(unit: SourceUnit, site: Statement, after: cst.SimpleStatementLine) -> MutantSpec:
    nodes = (site.node.body[0], after.body[0])
    one, other = map(unit.span, nodes)
    edits = (
        SourceEdit(start=one.start, end=one.end, text=unit.text(nodes[1])),
        SourceEdit(start=other.start, end=other.end, text=unit.text(nodes[0])),
    )
    names = [unit.line(node)[:50] for node in nodes]
    lines = SourceSpan(start=one.start, end=other.end, first=one.first, last=other.last)
    change = f"{names[1]} before {names[0]}"
    return MutantSpec.at(unit, site, *edits, change=change, span=lines)


def _is_call(line: cst.SimpleStatementLine) -> bool:
    match line.body:
        case [cst.Expr(value=cst.Call()) | cst.Assign(value=cst.Call())]:
            return True
        case _:
            return False


def _are_independent(one: cst.SimpleStatementLine, other: cst.SimpleStatementLine) -> bool:
    return not (_assigned(one) & _used(other) or _assigned(other) & _used(one))


def _assigned(line: cst.SimpleStatementLine) -> frozenset[str]:
    targets = line.body[0].targets if isinstance(line.body[0], cst.Assign) else ()
    return frozenset(
        dotted_name(part)
        for target in targets
        for part in (target.target, *(one.value for one in getattr(target.target, "elements", ())))
    )


def _used(line: cst.SimpleStatementLine) -> frozenset[str]:
    match line.body[0]:
        case cst.Assign(value=value) | cst.Expr(value=value):
            attributes = [node for node in descendants(value) if isinstance(node, cst.Attribute)]
            return names_in(value) | {dotted_name(node) for node in attributes}
        case _:
            return frozenset()
