"""The operator on a signature: a parameter is gone, from the function and from all its callers."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.source.bindings import names_bound_in, simple_name, uses_in
from tools.mutation.source.edits import SourceEdit, remove_item, replace_span
from tools.mutation.source.source_tree import ScopedFunction, SourceSpan, SourceTree, SourceUnit


def drop_parameter(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave a keyword-only parameter out, and its keyword in every call of the tree.

    In the body stands what the parameter had for a default, or None.
    """
    for unit in tree.units:
        for site in unit.functions:
            if scope.is_wiring(unit, site.scopes):
                for parameter in site.node.params.kwonly_params:
                    draft = _without_parameter(tree, unit, site, parameter)
                    if draft is not None:
                        yield draft


def _without_parameter(
    tree: SourceTree, unit: SourceUnit, site: ScopedFunction, parameter: cst.Param
) -> MutantSpec | None:
    name = parameter.name.value
    if _is_rebound(site.node, name):
        return None
    value = "None" if parameter.default is None else unit.text(parameter.default)
    edits: dict[str, list[SourceEdit]] = {
        unit.file: [_remove_parameter(unit, site.node, parameter)]
    }
    for span in (unit.spans[node] for node in uses_in(site.node.body) if node.value == name):
        edits[unit.file].append(replace_span(unit.source, span.start, span.end, f"({value})"))
    spans: list[tuple[SourceUnit, SourceSpan]] = [(unit, site.statement)]
    for caller, span, argument in _keyword_arguments(tree, _called_as(site), name):
        passed = caller.spans[argument]
        edits.setdefault(caller.file, []).append(
            remove_item(caller.source, passed.start, passed.end)
        )
        spans.append((caller, span))
    if any(_overlap(of_file) for of_file in edits.values()):
        return None
    return MutantSpec(
        qualname=site.qualname,
        callee="",
        change=f"parameter {name}",
        spans=tuple(spans),
        parameters=(name,),
        edits=edits,
    )


def _called_as(site: ScopedFunction) -> str:
    is_constructor = site.node.name.value == "__init__" and site.owner is not None
    return site.owner.name.value if is_constructor and site.owner else site.node.name.value


def _remove_parameter(
    unit: SourceUnit, function: cst.FunctionDef, parameter: cst.Param
) -> SourceEdit:
    span = unit.spans[parameter]
    parts = [parameter, parameter.annotation and parameter.annotation.annotation, parameter.default]
    end = max(unit.spans[part].end for part in parts if part is not None)
    if len(function.params.kwonly_params) > 1:
        return remove_item(unit.source, span.start, end)
    # The star has nothing left to separate.
    star = unit.source.rindex(b"*", 0, span.start)
    return remove_item(unit.source, star, end)


def _keyword_arguments(
    tree: SourceTree, callee: str, name: str
) -> Iterator[tuple[SourceUnit, SourceSpan, cst.Arg]]:
    for unit in tree.units:
        for site in unit.calls:
            if simple_name(site.node.func) == callee:
                for argument in site.node.args:
                    if argument.keyword is not None and argument.keyword.value == name:
                        yield unit, site.statement, argument


def _overlap(edits: list[SourceEdit]) -> bool:
    ordered = sorted(edits, key=lambda edit: edit.start)
    return any(one.end > other.start for one, other in pairwise(ordered))


def _is_rebound(function: cst.FunctionDef, name: str) -> bool:
    body = function.with_changes(params=cst.Parameters())
    return name in names_bound_in(body)
