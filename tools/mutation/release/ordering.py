"""Faults of order: a missing wait before a read, a missing fence between streams."""

from collections.abc import Iterator

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.operators.statements import without_statement
from tools.mutation.release.sites import bare_call_of, statements_of, words_of
from tools.mutation.source.bindings import descendants, dotted_name, simple_name
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import SourceUnit

_FENCES = frozenset({"wait_stream", "wait_event", "wait", "synchronize", "record"})
_THREADS = "threading."


def drop_wait(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave out the wait for a layer before its rows are read."""
    for unit, site in statements_of(tree, scope):
        call = bare_call_of(site.node)
        name = "" if call is None else simple_name(call.func)
        if "wait" in words_of(name) and name not in _FENCES:
            yield without_statement(unit, site)


def drop_fence(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave out what makes a stream, or the host, wait for another stream."""
    for unit, site in statements_of(tree, scope):
        call = bare_call_of(site.node)
        if call is None or simple_name(call.func) not in _FENCES:
            continue
        if isinstance(call.func, cst.Attribute) and not _is_of_threads(unit, call.func.value):
            yield without_statement(unit, site)


def _is_of_threads(unit: SourceUnit, receiver: cst.BaseExpression) -> bool:
    """Return whether a file assigns an object of ``threading`` to the name of a receiver."""
    name = simple_name(receiver)
    return any(
        isinstance(node, cst.Assign)
        and any(simple_name(one.target) == name for one in node.targets)
        and any(
            isinstance(part, cst.Call) and dotted_name(part.func).startswith(_THREADS)
            for part in descendants(node.value)
        )
        for node in unit.nodes
    )
