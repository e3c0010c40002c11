"""Faults of storage: a key without one of its components, a prefix that is not clamped."""

from collections.abc import Iterator

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.operators.statements import without_statement
from tools.mutation.release.sites import (
    assigned_names,
    bare_call_of,
    own_name,
    shortened,
    sites_of,
    statements_of,
    words_of,
)
from tools.mutation.source.bindings import descendants, simple_name
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceUnit

_KEY_WORDS = frozenset({"key", "keys", "hash", "hashes", "suffix", "suffixes", "digest"})
_LENGTH_WORDS = frozenset(
    {"hit", "hits", "prefix", "match", "matched", "len", "length", "page", "pages", "tokens"}
)
_PAGE = "page_size"


def drop_key_component(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave one component out of the text, the sum or the hash that a storage key is made of."""
    for unit, site in sites_of(tree, scope, cst.FormattedString):
        if _makes_key(unit, site):
            yield from _without_parts(unit, site)
    for unit, total in sites_of(tree, scope, cst.BinaryOperation):
        is_sum = isinstance(total.node.operator, cst.Add)
        # Inside of brackets a sum is a position.
        if is_sum and _is_of_keys(unit, total) and not _is_position(unit, total.node):
            yield from _without_summands(unit, total)
    for unit, line in statements_of(tree, scope):
        call = bare_call_of(line.node)
        is_fed = call is not None and simple_name(call.func) == "update"
        if _lengthens_key(line.node.body[0]) or (is_fed and _makes_key(unit, line)):
            yield without_statement(unit, line)
    yield from _without_prior_hash(tree, scope)


def shorten_clamp(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Take one operand of a clamped length alone, or a page more; of a tensor, no clamp."""
    for unit, site in sites_of(tree, scope, cst.Call):
        operands = _clamped(site.node)
        if not (operands and _is_length(unit, site)):
            continue
        for operand in operands:
            if not isinstance(operand, cst.Integer):
                change = f"{shortened(unit, site.node)} -> {shortened(unit, operand)}"
                edit = unit.replace(site.node, f"({unit.text(operand)})")
                yield MutantSpec.at(unit, site, edit, change=change)
        page = _page_name(unit, site)
        if page and simple_name(site.node.func) == "min":
            change = f"{shortened(unit, site.node)} + {page}"
            edit = unit.replace(site.node, f"({unit.text(site.node)} + {page})")
            yield MutantSpec.at(unit, site, edit, change=change)


def _clamped(call: cst.Call) -> list[cst.BaseExpression]:
    """Return what a clamp may give: all operands of ``min`` and ``max``, the tensor of others."""
    name = simple_name(call.func)
    plain = [one.value for one in call.args if not one.star and one.keyword is None]
    match call.func:
        case cst.Name() if name in ("min", "max"):
            return plain if len(plain) == len(call.args) > 1 else []
        case cst.Attribute(value=cst.Name(value="torch")) if name in ("clamp", "clip"):
            return plain[:1]
        case cst.Attribute(value=value) if name in ("clamp", "clip", "clamp_"):
            return [value]
        case _:
            return []


def _without_parts(unit: SourceUnit, site: ScopedNode[cst.FormattedString]) -> Iterator[MutantSpec]:
    for part in site.node.parts:
        if isinstance(part, cst.FormattedStringExpression):
            change = f"{shortened(unit, site.node)} without {shortened(unit, part)}"
            yield MutantSpec.at(unit, site, unit.replace(part, ""), change=change)


def _without_summands(
    unit: SourceUnit, site: ScopedNode[cst.BinaryOperation]
) -> Iterator[MutantSpec]:
    left, right = site.node.left, site.node.right
    for kept, dropped in ((left, right), (right, left)):
        edit = unit.replace(site.node, f"({unit.text(kept)})")
        change = f"{shortened(unit, site.node)} without {shortened(unit, dropped)}"
        yield MutantSpec.at(unit, site, edit, change=change)


def _without_prior_hash(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Yield mutants that hash a page without what the pages before it are."""
    for unit, site in sites_of(tree, scope, cst.Call):
        is_hash = bool(words_of(simple_name(site.node.func)) & {"hash"})
        if is_hash and len(site.node.args) > 1:
            for one in site.node.args:
                before = words_of(unit.line(one)) & _KEY_WORDS
                if before and not one.star and unit.line(one.value) != "None":
                    change = f"{shortened(unit, site.node)} with None for {shortened(unit, one)}"
                    yield MutantSpec.at(unit, site, unit.replace(one.value, "None"), change=change)


def _makes_key(unit: SourceUnit, site: ScopedNode[cst.CSTNode]) -> bool:
    """Return whether a node lies in the making of a key: by the function or what is assigned."""
    names = [own_name(site), *_assigned_around(unit, site.node)]
    return any(words_of(name) & _KEY_WORDS for name in names)


def _is_of_keys(unit: SourceUnit, site: ScopedNode[cst.BinaryOperation]) -> bool:
    """Return whether a sum joins texts of keys, or lists of them, as a name or literal says."""
    operands = (site.node.left, site.node.right)
    if any(words_of(simple_name(operand)) & _KEY_WORDS for operand in operands):
        return True
    texts = cst.SimpleString | cst.FormattedString
    return _makes_key(unit, site) and any(isinstance(operand, texts) for operand in operands)


def _lengthens_key(small: cst.BaseSmallStatement) -> bool:
    """Return whether a statement adds to a key: the last word of its target says so."""
    is_added = isinstance(small, cst.AugAssign)
    return is_added and assigned_names(small)[0].rpartition("_")[2] in _KEY_WORDS


def _is_position(unit: SourceUnit, node: cst.CSTNode) -> bool:
    around = unit.parent(node)
    while isinstance(around, cst.BaseExpression | cst.BaseSlice | cst.SubscriptElement | cst.Arg):
        is_range = isinstance(around, cst.Call) and simple_name(around.func) == "range"
        if is_range or isinstance(around, cst.BaseSlice):
            return True
        around = unit.parent(around)
    return False


def _assigned_around(unit: SourceUnit, node: cst.CSTNode) -> tuple[str, ...]:
    line = unit.line_of(node)
    return () if line is None else assigned_names(line.body[0])


def _is_length(unit: SourceUnit, site: ScopedNode[cst.Call]) -> bool:
    """Return whether a clamp is of a number of tokens or pages."""
    names = {*_assigned_around(unit, site.node), own_name(site)}
    names |= {
        part.value
        for one in site.node.args
        for part in descendants(one)
        if isinstance(part, cst.Name)
    }
    return any(words_of(name) & _LENGTH_WORDS for name in names)


def _page_name(unit: SourceUnit, site: ScopedNode[cst.Call]) -> str:
    """Return how the function around names the page size; empty when it does not."""
    assert site.function is not None
    for node in descendants(site.function):
        if isinstance(node, cst.Attribute) and node.attr.value == _PAGE:
            return unit.text(node)
        if isinstance(node, cst.Param) and node.name.value == _PAGE:
            return _PAGE
    return ""
