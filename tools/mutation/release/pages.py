"""Faults of addresses: two pointers swapped, an offset of a page that is one too large."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.release.sites import (
    bare_call_of,
    own_name,
    shortened,
    sites_of,
    statements_of,
    words_of,
)
from tools.mutation.source.bindings import descendants, simple_name
from tools.mutation.source.edits import SourceEdit
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceSpan, SourceUnit

_POINTER = "data_ptr"
_PAGE_WORDS = frozenset({"page", "pages"})
_MOVES = frozenset({"get", "set", "dummy", "data", "flat", "meta", "buffer", "offset", "index"})
_COUNTS = frozenset({"size", "num", "count"})
_INFO_WORDS = frozenset({"infos", "info", "meta", "refs", "ptrs", "pointers"})


def swap_pointers(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Swap two neighbours in the lists of pointers, lengths and item lengths of buffers."""
    for kind in (cst.List, cst.Tuple):
        for unit, site in sites_of(tree, scope, kind):
            if _gives_pointers(site) and isinstance(site.node, cst.List | cst.Tuple):
                yield from _swapped_elements(unit, site, site.node)
    for unit, total in sites_of(tree, scope, cst.BinaryOperation):
        is_sum = isinstance(total.node.operator, cst.Add)
        # The order of a sum of numbers means nothing; that of two lists does.
        if is_sum and _gives_pointers(total) and _are_lists(total.node):
            yield _swapped(unit, total, total.node.left, total.node.right, span=total.statement)
    for unit, line in statements_of(tree, scope):
        after = unit.next_line(line.node)
        is_pair = after is not None and _is_append(line.node) and _is_append(after)
        if after is None or not is_pair or not _gives_pointers(line):
            continue
        if _receiver(unit, line.node) == _receiver(unit, after):
            small, other = line.node.body[0], after.body[0]
            first, last = unit.span(small), unit.span(other)
            span = SourceSpan(start=first.start, end=last.end, first=first.first, last=last.last)
            yield _swapped(unit, line, small, other, span=span)


def page_offset(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Shift what a getter or setter of pages reads or writes by one."""
    for unit, site in sites_of(tree, scope, cst.SubscriptElement):
        if _moves_pages(site):
            yield from _shifted_element(unit, site)
    for unit, total in sites_of(tree, scope, cst.BinaryOperation):
        is_address = isinstance(total.node.operator, cst.Add) and _moves_pages(total)
        if is_address and not _is_inner(unit, total.node) and _is_number(total.node):
            text = unit.text(total.node)
            change = f"{shortened(unit, total.node)} + 1"
            edit = unit.replace(total.node, f"({text}) + 1")
            yield MutantSpec.at(unit, total, edit, change=change)
    for unit, product in sites_of(tree, scope, cst.BinaryOperation):
        is_stride = isinstance(product.node.operator, cst.Multiply) and _moves_pages(product)
        if is_stride and isinstance(unit.parent(product.node), cst.Assign):
            text = unit.text(product.node)
            edit = unit.replace(product.node, f"({text}) + 1")
            change = f"{shortened(unit, product.node)} + 1"
            yield MutantSpec.at(unit, product, edit, change=change)


def _swapped_elements(
    unit: SourceUnit, site: ScopedNode[cst.CSTNode], node: cst.List | cst.Tuple
) -> Iterator[MutantSpec]:
    for one, other in pairwise(element.value for element in node.elements):
        is_text = isinstance(one, cst.SimpleString)
        if not is_text and unit.line(one) != unit.line(other):
            yield _swapped(unit, site, one, other, span=site.statement)


def _gives_pointers(site: ScopedNode[cst.CSTNode]) -> bool:
    """Return whether the function around a node tells where buffers lie."""
    assert site.function is not None
    if words_of(own_name(site)) & _INFO_WORDS:
        return True
    nodes = list(descendants(site.function.body))
    is_asked = any(
        isinstance(node, cst.Call) and simple_name(node.func) == _POINTER for node in nodes
    )
    return is_asked and any(
        isinstance(node, cst.Return) and isinstance(node.value, cst.Tuple) for node in nodes
    )


def _moves_pages(site: ScopedNode[cst.CSTNode]) -> bool:
    """Return whether the function around a node reads, writes or addresses pages."""
    words = words_of(own_name(site))
    return bool(words & _PAGE_WORDS and words & _MOVES and not words & _COUNTS)


def _are_lists(node: cst.BinaryOperation) -> bool:
    """Return whether both operands of a sum read like lists: plural names or displays."""
    return all(_is_list(operand) for operand in (node.left, node.right))


def _is_list(node: cst.BaseExpression) -> bool:
    match node:
        case cst.List() | cst.ListComp():
            return True
        case cst.BinaryOperation(operator=cst.Add()):
            return _are_lists(node)
        case _:
            name = simple_name(node)
            return name.endswith("s") or bool(words_of(name) & {"list", "buffer", "data"})


def _is_append(line: cst.SimpleStatementLine) -> bool:
    call = bare_call_of(line)
    return call is not None and simple_name(call.func) in ("append", "extend")


def _receiver(unit: SourceUnit, line: cst.SimpleStatementLine) -> str:
    call = bare_call_of(line)
    return "" if call is None else unit.line(call.func)


def _swapped(
    unit: SourceUnit,
    site: ScopedNode[cst.CSTNode],
    one: cst.CSTNode,
    other: cst.CSTNode,
    *,
    span: SourceSpan,
) -> MutantSpec:
    first, second = unit.span(one), unit.span(other)
    edits = (
        SourceEdit(start=first.start, end=first.end, text=unit.text(other)),
        SourceEdit(start=second.start, end=second.end, text=unit.text(one)),
    )
    change = f"{shortened(unit, one)} <-> {shortened(unit, other)}"
    return MutantSpec.at(unit, site, *edits, change=change, span=span)


def _shifted_element(
    unit: SourceUnit, site: ScopedNode[cst.SubscriptElement]
) -> Iterator[MutantSpec]:
    change = f"{shortened(unit, site.node)} shifted by 1"
    match site.node.slice:
        case cst.Slice(lower=lower, upper=upper) if lower is not None and upper is not None:
            edits = [unit.replace(bound, f"({unit.text(bound)}) + 1") for bound in (lower, upper)]
            yield MutantSpec.at(unit, site, *edits, change=change)
        case cst.Index(value=cst.Name() | cst.BinaryOperation() as value):
            edit = unit.replace(value, f"({unit.text(value)}) + 1")
            yield MutantSpec.at(unit, site, edit, change=change)
        case _:
            return


def _is_inner(unit: SourceUnit, node: cst.CSTNode) -> bool:
    """Return whether a sum is an operand or a bound of something larger."""
    around = unit.parent(node)
    return isinstance(around, cst.BinaryOperation | cst.Slice | cst.Index)


def _is_number(node: cst.BinaryOperation) -> bool:
    return not _are_lists(node)
