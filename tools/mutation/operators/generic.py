"""Generic operators: faults that any code can have, in every function of the scope.

Code that only words a message is left out. So is code outside of functions: it runs at import,
before line coverage knows which scenarios execute a line.
"""

from collections.abc import Iterator

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.operators.statements import without_statement
from tools.mutation.source.bindings import descendants, dotted_name, is_message
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceUnit

_OTHER_COMPARISONS: dict[type[cst.BaseCompOp], type[cst.BaseCompOp]] = {
    cst.LessThan: cst.LessThanEqual,
    cst.LessThanEqual: cst.LessThan,
    cst.GreaterThan: cst.GreaterThanEqual,
    cst.GreaterThanEqual: cst.GreaterThan,
    cst.Equal: cst.NotEqual,
    cst.NotEqual: cst.Equal,
    cst.In: cst.NotIn,
    cst.NotIn: cst.In,
    cst.Is: cst.IsNot,
    cst.IsNot: cst.Is,
}
_TEXT_MAX = 60


def constant_off_by_one(tree: SourceTree, _scope: MutationScope) -> Iterator[MutantSpec]:
    """Make an integer one more or one less."""
    for unit, site in _sites(tree):
        if isinstance(site.node, cst.Integer):
            for value in (site.node.evaluated_value + 1, site.node.evaluated_value - 1):
                yield _spec(unit, site, site.node, str(value))


def comparison_changed(tree: SourceTree, _scope: MutationScope) -> Iterator[MutantSpec]:
    """Include or exclude the bound of a comparison, or turn an equality around."""
    for unit, site in _sites(tree):
        if not isinstance(site.node, cst.Comparison):
            continue
        bare = site.node.with_changes(lpar=(), rpar=())
        for index, target in enumerate(site.node.comparisons):
            other = _OTHER_COMPARISONS[type(target.operator)]()
            targets = list(bare.comparisons)
            targets[index] = target.with_changes(operator=other)
            text = unit.module.code_for_node(bare.with_changes(comparisons=targets))
            yield _spec(unit, site, site.node, text)


def condition_negated(tree: SourceTree, _scope: MutationScope) -> Iterator[MutantSpec]:
    """Negate a condition."""
    for unit, site in _sites(tree):
        if isinstance(site.node, cst.If | cst.While | cst.IfExp | cst.CompIf):
            test = site.node.test
            yield _spec(unit, unit.site(test), test, f"not ({unit.text(test)})")


def attribute_swapped(tree: SourceTree, _scope: MutationScope) -> Iterator[MutantSpec]:
    """Read another attribute of the same object, or call another method, that the function uses."""
    for unit in tree.units:
        for function in unit.functions:
            used: dict[tuple[str, bool], dict[str, None]] = {}
            for node, key in _attributes(function.node):
                used.setdefault(key, {})[node.attr.value] = None
            for node, key in _attributes(function.node):
                site = unit.site(node)
                if site.function is not function.node or site.is_message or len(used[key]) == 1:
                    continue
                names = list(used[key])
                other = names[(names.index(node.attr.value) + 1) % len(names)]
                yield _spec(unit, site, node.attr, other)


def statement_removed(tree: SourceTree, _scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave a statement out: a call, an assignment, a check."""
    assignments = cst.Assign | cst.AnnAssign | cst.AugAssign
    removable = assignments | cst.Raise | cst.Assert | cst.Del | cst.Break | cst.Continue
    for unit in tree.units:
        for site in unit.statements:
            small = site.node.body[0]
            is_call = isinstance(small, cst.Expr) and isinstance(small.value, cst.Call)
            is_fault = not is_message(site.node) if is_call else isinstance(small, removable)
            if site.function is not None and is_fault:
                yield without_statement(unit, site)


def _sites(tree: SourceTree) -> Iterator[tuple[SourceUnit, ScopedNode[cst.CSTNode]]]:
    kinds = cst.Integer | cst.Comparison | cst.If | cst.While | cst.IfExp | cst.CompIf
    for unit in tree.units:
        for node in unit.nodes:
            if isinstance(node, kinds):
                site = unit.site(node)
                if site.function is not None and not site.is_message:
                    yield unit, site


def _attributes(function: cst.FunctionDef) -> Iterator[tuple[cst.Attribute, tuple[str, bool]]]:
    """Yield the attributes that a function reads, with their object and whether they are called."""
    nodes = list(descendants(function.body))
    called = {id(one.func) for one in nodes if isinstance(one, cst.Call)}
    written = {id(one.target) for one in nodes if isinstance(one, cst.AssignTarget | cst.AnnAssign)}
    for node in nodes:
        if isinstance(node, cst.Attribute) and id(node) not in written:
            owner = dotted_name(node.value)
            if owner and not owner.startswith("."):
                yield node, (owner, id(node) in called)


def _spec(
    unit: SourceUnit, site: ScopedNode[cst.CSTNode], node: cst.CSTNode, text: str
) -> MutantSpec:
    statement = unit.source[site.statement.start : site.statement.end].decode().split("\n")[0]
    parts = unit.line(node), " ".join(text.split()), statement.strip()
    change = "{} -> {} in {}".format(*(part[:_TEXT_MAX] for part in parts))
    return MutantSpec.at(unit, site, unit.replace(node, text), change=change)
