"""The operator on a signature: a parameter is gone, from the function and from all its callers."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from tools.mutation.bindings import names_bound_in, simple_name, uses_in
from tools.mutation.edits import Edit, removed_item, replaced
from tools.mutation.mutants import Draft, Scope
from tools.mutation.source import FunctionSite, Span, Tree, Unit


def drop_parameter(tree: Tree, scope: Scope) -> Iterator[Draft]:
    """Leave a keyword-only parameter out, and its keyword in every call of the tree.

    In the body stands what the parameter had for a default, or None.
    """
    for unit in tree.units:
        for site in unit.functions:
            if scope.wires(unit, site.scopes):
                for parameter in site.node.params.kwonly_params:
                    draft = _without(tree, unit, site, parameter)
                    if draft is not None:
                        yield draft


def _without(tree: Tree, unit: Unit, site: FunctionSite, parameter: cst.Param) -> Draft | None:
    name = parameter.name.value
    if _is_rebound(site.node, name):
        return None
    value = "None" if parameter.default is None else unit.text(parameter.default)
    edits: dict[str, list[Edit]] = {unit.file: [_removed(unit, site.node, parameter)]}
    for span in (unit.spans[node] for node in uses_in(site.node.body) if node.value == name):
        edits[unit.file].append(replaced(unit.source, span.start, span.end, f"({value})"))
    spans: list[tuple[Unit, Span]] = [(unit, site.statement)]
    for caller, span, argument in _passed(tree, _called_as(site), name):
        passed = caller.spans[argument]
        edits.setdefault(caller.file, []).append(
            removed_item(caller.source, passed.start, passed.end)
        )
        spans.append((caller, span))
    if any(_overlap(of_file) for of_file in edits.values()):
        return None
    return Draft(
        place=site.place,
        callee="",
        what=f"parameter {name}",
        spans=tuple(spans),
        parameters=(name,),
        edits=edits,
    )


def _called_as(site: FunctionSite) -> str:
    is_constructor = site.node.name.value == "__init__" and site.owner is not None
    return site.owner.name.value if is_constructor and site.owner else site.node.name.value


def _removed(unit: Unit, function: cst.FunctionDef, parameter: cst.Param) -> Edit:
    span = unit.spans[parameter]
    parts = [parameter, parameter.annotation and parameter.annotation.annotation, parameter.default]
    end = max(unit.spans[part].end for part in parts if part is not None)
    if len(function.params.kwonly_params) > 1:
        return removed_item(unit.source, span.start, end)
    # The star has nothing left to separate.
    star = unit.source.rindex(b"*", 0, span.start)
    return removed_item(unit.source, star, end)


def _passed(tree: Tree, callee: str, name: str) -> Iterator[tuple[Unit, Span, cst.Arg]]:
    for unit in tree.units:
        for site in unit.calls:
            if simple_name(site.node.func) == callee:
                for argument in site.node.args:
                    if argument.keyword is not None and argument.keyword.value == name:
                        yield unit, site.statement, argument


def _overlap(edits: list[Edit]) -> bool:
    ordered = sorted(edits, key=lambda edit: edit.start)
    return any(one.end > other.start for one, other in pairwise(ordered))


def _is_rebound(function: cst.FunctionDef, name: str) -> bool:
    body = function.with_changes(params=cst.Parameters())
    return name in names_bound_in(body)
