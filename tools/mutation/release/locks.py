"""Faults of locks: a node or a slot given up before its copy has finished, or never."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.operators.statements import without_statement
from tools.mutation.release.sites import (
    bare_call_of,
    class_around,
    shortened,
    sites_of,
    words_of,
)
from tools.mutation.source.bindings import descendants, simple_name
from tools.mutation.source.edits import SourceEdit
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceUnit

_TAKING = frozenset({"inc", "acquire", "lock", "pin", "protect"})
_GIVING = frozenset({"dec", "release", "unlock", "unpin", "unprotect"})
_LOCKS = frozenset({"lock", "ref", "pin", "unlock", "unpin", "protect", "unprotect", "hold"})
_VERBS = _TAKING | _GIVING
_FINISHED = frozenset({"query", "synchronize", "wait"})


@dataclass(slots=False, eq=False)
class _Method:
    """A function of a class, with what it calls and keeps."""

    unit: SourceUnit
    site: ScopedNode[cst.FunctionDef]

    @cached_property
    def calls(self) -> Sequence[cst.Call]:
        nodes = descendants(self.site.node.body)
        return [node for node in nodes if isinstance(node, cst.Call)]

    @cached_property
    def called(self) -> frozenset[str]:
        return frozenset(simple_name(call.func) for call in self.calls)

    @cached_property
    def kept_in(self) -> frozenset[str]:
        """Attributes of ``self`` that it puts items into or takes them out of."""
        return frozenset(
            node.value.attr.value
            for node in descendants(self.site.node.body)
            if isinstance(node, cst.Subscript | cst.Attribute)
            and isinstance(node.value, cst.Attribute)
            and simple_name(node.value.value) == "self"
            and (isinstance(node, cst.Subscript) or node.attr.value in ("pop", "get"))
        )

    def takes(self, given: cst.Call) -> bool:
        """Return whether it takes a lock of the kind that a call gives up."""
        return any(_lock_of(call) == _lock_of(given) for call in self.lock_calls(_TAKING))

    def lock_calls(self, verbs: frozenset[str]) -> list[cst.Call]:
        """Return the calls that take, or give up, a lock."""
        others = _GIVING if verbs is _TAKING else frozenset[str]()
        return [
            call
            for call in self.calls
            if (words := words_of(simple_name(call.func))) & verbs
            and words & _LOCKS
            and not words & others
        ]


def never_release_lock(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Keep a lock for ever."""
    for method in _methods(tree, scope):
        for call in method.lock_calls(_GIVING):
            line = method.unit.line_of(call)
            if line is not None and bare_call_of(line) is call and _is_own(method, call):
                yield without_statement(method.unit, method.unit.site(line))


def release_lock_early(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Give a lock up before the copy that it protects has finished.

    Either where the copy is launched: it is taken and given up there, and not given up where the
    copy ends. Or where it ends, without any test of the copy's event.
    """
    methods = list(_methods(tree, scope))
    for method in methods:
        siblings = [
            other
            for other in methods
            if other.unit is method.unit
            and class_around(other.site) is class_around(method.site) is not None
        ]
        for call in method.lock_calls(_GIVING):
            line = method.unit.line_of(call)
            is_statement = line is not None and bare_call_of(line) is call
            # A function that takes the lock as well gives up its own, on the way out.
            if is_statement and _is_own(method, call) and not method.takes(call):
                launches = _launches(method, call, siblings)
                if launches:
                    yield _given_at_launch(method, call, launches)
        yield from _without_tests(method, siblings)


def _methods(tree: SourceTree, scope: MutationScope) -> Iterator[_Method]:
    for unit, site in sites_of(tree, scope, cst.FunctionDef):
        yield _Method(unit, site)


def _lock_of(call: cst.Call) -> frozenset[str]:
    """Return the words of a call's name that say which lock it is about."""
    return words_of(simple_name(call.func)) - _VERBS


def _is_own(method: _Method, call: cst.Call) -> bool:
    """Return whether a call lies in a function itself, not in one inside of it."""
    return method.unit.site(call).function is method.site.node


def _launches(method: _Method, given: cst.Call, siblings: Sequence[_Method]) -> list[cst.Call]:
    """Return the calls that take the lock for a copy which a method sees finished."""
    stored: list[cst.Call] = []
    others: list[cst.Call] = []
    for other in siblings:
        helpers = [one for one in siblings if one.site.node.name.value in other.called]
        kept = other.kept_in.union(*(one.kept_in for one in helpers)) & method.kept_in
        if other is method or not kept:
            continue
        is_given_here = any(_lock_of(call) == _lock_of(given) for call in other.lock_calls(_GIVING))
        for call in other.lock_calls(_TAKING):
            is_same = _lock_of(call) == _lock_of(given)
            if is_same and call.args and _is_own(other, call):
                if _is_stored(other.unit, call, kept):
                    stored.append(call)
                elif not is_given_here:
                    others.append(call)
    return stored or others


def _is_stored(unit: SourceUnit, call: cst.Call, kept: frozenset[str]) -> bool:
    """Return whether the statement around a call puts something into one of some attributes."""
    line = unit.line_of(call)
    return line is not None and any(
        isinstance(node, cst.Attribute) and node.attr.value in kept for node in descendants(line)
    )


def _given_at_launch(method: _Method, given: cst.Call, launches: Sequence[cst.Call]) -> MutantSpec:
    unit = method.unit
    arguments = "".join(f"{unit.text(one.value)}, " for one in given.args)
    edits = [unit.replace(given, f"({arguments})")]
    for call in launches:
        whole = _whole_chain(unit, call)
        passed = ", lock" if len(given.args) > 1 else ""
        give = f"{unit.text(given.func)}({unit.text(call.args[0].value)}{passed})"
        text = f"(lambda lock: ({give}, lock)[1])({unit.text(whole)})"
        span = unit.span(whole)
        edits.append(SourceEdit(start=span.start, end=span.end, text=text))
    site = unit.site(given)
    found = MutantSpec.at(
        unit, site, *edits, change=f"{shortened(unit, given)} at the launch of the copy"
    )
    return replace(
        found, spans=tuple((unit, unit.site(call).statement) for call in (given, *launches))
    )


def _whole_chain(unit: SourceUnit, call: cst.CSTNode) -> cst.CSTNode:
    """Return the call with the attributes and calls that follow it: ``.to_dec_params()``."""
    around = unit.parent(call)
    is_followed = isinstance(around, cst.Attribute) and around.value is call
    is_called = isinstance(around, cst.Call) and around.func is call
    if around is not None and (is_followed or is_called):
        return _whole_chain(unit, around)
    return call


def _without_tests(method: _Method, siblings: Sequence[_Method]) -> Iterator[MutantSpec]:
    """Yield the mutant in which a method that gives locks up does not look at any event."""
    helpers = [one for one in siblings if one.site.node.name.value in method.called]
    if not any(one.lock_calls(_GIVING) for one in (method, *helpers)):
        return
    tests = [
        call
        for one in dict.fromkeys((method, *helpers))
        for call in one.calls
        if simple_name(call.func) in _FINISHED and isinstance(call.func, cst.Attribute)
    ]
    if not any(test in tests for test in method.calls):
        return
    unit = method.unit
    edits = [
        unit.replace(test, "True" if simple_name(test.func) == "query" else "(...)")
        for test in tests
    ]
    first = unit.site(tests[0])
    found = MutantSpec.at(unit, first, *edits, change=f"without {shortened(unit, tests[0])}")
    yield replace(found, spans=tuple((unit, unit.site(test).statement) for test in tests))
