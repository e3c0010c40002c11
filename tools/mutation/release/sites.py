"""Places in the scope where the operators for releases look, and words of names."""

import re
from collections.abc import Iterator
from typing import TypeVar

import libcst as cst

from tools.mutation.generator import MutationScope
from tools.mutation.source.bindings import is_message, simple_name
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceUnit

_NodeT = TypeVar("_NodeT", bound=cst.CSTNode)
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_TEXT_MAX = 70


def words_of(name: str) -> frozenset[str]:
    """Return the words of a name in lower case: ``get``, ``page``, ``meta``."""
    return frozenset(word.lower() for word in _WORD.findall(name))


def sites_of(
    tree: SourceTree, scope: MutationScope, kind: type[_NodeT]
) -> Iterator[tuple[SourceUnit, ScopedNode[_NodeT]]]:
    """Yield the nodes of one type inside the mutated functions.

    Messages are left out, checks that only raise, annotations, which say nothing when the code
    runs, and kernels, which Python does not run.
    """
    for unit in tree.units:
        for node in unit.nodes:
            if isinstance(node, kind):
                site = unit.site(node)
                is_report = site.is_message or _is_in_check(unit, node)
                is_note = is_report or _is_in_annotation(unit, node)
                is_code = not is_note and not _is_kernel(site.function)
                if is_code and scope.is_included(unit, site.scopes):
                    yield unit, site


def _is_in_check(unit: SourceUnit, node: cst.CSTNode) -> bool:
    """Return whether a node lies in the condition of a statement that only raises."""
    around = unit.parent(node)
    while around is not None and not isinstance(around, cst.BaseStatement):
        node, around = around, unit.parent(around)
    if not isinstance(around, cst.If) or node is not around.test:
        return False
    body = around.body.body
    return len(body) == 1 and isinstance(body[0], cst.SimpleStatementLine) and is_message(body[0])


def _is_in_annotation(unit: SourceUnit, node: cst.CSTNode) -> bool:
    around: cst.CSTNode | None = node
    while around is not None and not isinstance(around, cst.BaseStatement):
        if isinstance(around, cst.Annotation):
            return True
        around = unit.parent(around)
    return False


def _is_kernel(function: cst.FunctionDef | None) -> bool:
    """Return whether a compiler takes a function, or there is none."""
    return function is None or any(
        "jit" in words_of(simple_name(one.decorator)) for one in function.decorators
    )


def statements_of(
    tree: SourceTree, scope: MutationScope
) -> Iterator[tuple[SourceUnit, ScopedNode[cst.SimpleStatementLine]]]:
    """Yield the lines with one small statement inside the mutated functions."""
    for unit, site in sites_of(tree, scope, cst.SimpleStatementLine):
        if len(site.node.body) == 1:
            yield unit, site


def call_of(line: cst.SimpleStatementLine) -> cst.Call | None:
    """Return the call that a line makes, its result used or assigned; None for other lines."""
    match line.body:
        case [cst.Expr(value=cst.Call() as call) | cst.Assign(value=cst.Call() as call)]:
            return call
        case _:
            return None


def bare_call_of(line: cst.SimpleStatementLine) -> cst.Call | None:
    """Return the call that is all of a line, its result unused; None for other lines."""
    match line.body:
        case [cst.Expr(value=cst.Call() as call)]:
            return call
        case _:
            return None


def own_name(site: ScopedNode[_NodeT]) -> str:
    """Return the name of the innermost function around a node; empty outside of functions."""
    return "" if site.function is None else site.function.name.value


def class_around(site: ScopedNode[_NodeT]) -> cst.ClassDef | None:
    """Return the innermost class around a node."""
    classes = [one for one in site.around if isinstance(one, cst.ClassDef)]
    return classes[-1] if classes else None


def assigned_names(node: cst.CSTNode) -> tuple[str, ...]:
    """Return the last names of what a small statement assigns to."""
    match node:
        case cst.Assign(targets=targets):
            return tuple(simple_name(one.target) for one in targets)
        case cst.AnnAssign(target=target) | cst.AugAssign(target=target):
            return (simple_name(target),)
        case _:
            return ()


def shortened(unit: SourceUnit, node: cst.CSTNode) -> str:
    """Return the beginning of a node's text, for the name of a mutant."""
    return unit.line(node)[:_TEXT_MAX]
