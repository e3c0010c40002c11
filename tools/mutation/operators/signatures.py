"""The operator on a signature: a parameter removed from the function and from all its callers."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.source.bindings import name_uses, simple_name
from tools.mutation.source.edits import SourceEdit, remove_item
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceUnit


def drop_parameter(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave a keyword-only parameter out, and its keyword in every call of the tree.

    The body gets the default of the parameter instead, or None.
    """
    for unit in tree.units:
        for site in unit.functions:
            if scope.is_wiring(unit, site.scopes):
                bound = unit.assignments(site.node.body)
                for parameter in site.node.params.kwonly_params:
                    name = parameter.name.value
                    if len(bound[name]) == 1:
                        yield from _without_parameter(tree, unit, site, parameter)


def _without_parameter(
    tree: SourceTree, unit: SourceUnit, site: ScopedNode[cst.FunctionDef], parameter: cst.Param
) -> Iterator[MutantSpec]:
    name = parameter.name.value
    value = "None" if parameter.default is None else unit.line(parameter.default)
    edits = defaultdict(list, {unit.file: [_remove_parameter(unit, site.node, parameter)]})
    for node in name_uses(site.node.body):
        if node.value == name:
            edits[unit.file].append(unit.replace(node, f"({value})"))
    spans = [(unit, site.statement)]
    for caller, call in _calls(tree, _called_as(site)):
        for argument in call.node.args:
            if argument.keyword is not None and argument.keyword.value == name:
                edits[caller.file].append(caller.remove(argument))
                spans.append((caller, call.statement))
    if not any(_overlap(of_file) for of_file in edits.values()):
        change, found = f"parameter {name}", tuple(spans)
        yield MutantSpec(
            qualname=site.qualname, change=change, spans=found, edits=edits, parameters=(name,)
        )


def _called_as(site: ScopedNode[cst.FunctionDef]) -> str:
    *outer, own = site.around
    is_constructor = own.name.value == "__init__" and outer and isinstance(outer[-1], cst.ClassDef)
    return (outer[-1] if is_constructor else own).name.value


def _remove_parameter(
    unit: SourceUnit, function: cst.FunctionDef, parameter: cst.Param
) -> SourceEdit:
    start = unit.span(parameter).start
    parts = [parameter, parameter.annotation and parameter.annotation.annotation, parameter.default]
    end = max(unit.span(part).end for part in parts if part is not None)
    if len(function.params.kwonly_params) == 1:
        # The star has nothing left to separate.
        start = unit.source.rindex(b"*", 0, start)
    return remove_item(unit.source, start, end)


def _calls(tree: SourceTree, callee: str) -> Iterator[tuple[SourceUnit, ScopedNode[cst.Call]]]:
    for unit in tree.units:
        for site in unit.calls:
            if simple_name(site.node.func) == callee:
                yield unit, site


def _overlap(edits: list[SourceEdit]) -> bool:
    ordered = sorted(edits, key=lambda edit: edit.start)
    return any(one.end > other.start for one, other in pairwise(ordered))
