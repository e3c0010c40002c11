"""Operators on the arguments of calls, and on the parameters that they are passed to."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.source.bindings import name_uses, names_in, simple_name
from tools.mutation.source.edits import SourceEdit, remove_item
from tools.mutation.source.signatures import SignatureParameter, SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceUnit

_BUILTIN_NAMES = frozenset({"True", "False", "None", "len", "max", "min", "int", "range", "tuple"})
_LAYER_NUMBERS = ("start_layer", "end_layer", "layer_num", "layer_id")


@dataclass(frozen=True, slots=True)
class _BoundArgument:
    """An argument of a wiring call, with the parameter that it is bound to."""

    unit: SourceUnit
    site: ScopedNode[cst.Call]
    argument: cst.Arg
    parameter: SignatureParameter

    @property
    def name(self) -> str:
        return self.parameter.name

    @property
    def value(self) -> str:
        return self.unit.line(self.argument.value)

    def edit(self, value: str) -> SourceEdit:
        """Return the edit that passes another value."""
        return self.unit.replace(self.argument.value, value)

    def spec(self, change: str, *edits: SourceEdit, others: tuple[str, ...] = ()) -> MutantSpec:
        """Return the specification of a mutant of this argument, and of others of the call."""
        change = f"{self.unit.line(self.site.node.func)} {change}"
        found = MutantSpec.at(self.unit, self.site, *edits, change=change)
        return replace(found, parameters=(self.name, *others))


def drop_keyword(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave a keyword out."""
    for one in _bound_arguments(tree, scope):
        if one.argument.keyword is not None:
            yield one.spec(one.name, one.unit.remove(one.argument))


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


def default_argument(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Pass the default of the callee."""
    for one in _bound_arguments(tree, scope):
        default = one.parameter.default
        # A default is evaluated where the callee is defined: only plain ones mean the same here.
        is_other = default and one.value != default
        if is_other and names_in(cst.parse_expression(default)) <= _BUILTIN_NAMES:
            yield one.spec(f"{one.name} -> default {default}", one.edit(default))


def swap_arguments(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Swap the values of two arguments of one type."""
    for unit, site in _wiring_calls(tree, scope):
        done: set[int] = set()
        for one, other in combinations(_arguments(tree, unit, site), 2):
            is_same_type = one.parameter.annotation == other.parameter.annotation != ""
            if is_same_type and one.value != other.value and id(one) not in done:
                done.add(id(one))
                edits = (one.edit(other.value), other.edit(one.value))
                yield one.spec(f"{one.name} <-> {other.name}", *edits, others=(other.name,))


def sibling_value(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Pass the value that the same keyword gets in another call of the same callee."""
    by_keyword: defaultdict[tuple[str, str], list[_BoundArgument]] = defaultdict(list)
    for one in _bound_arguments(tree, scope):
        if one.argument.keyword is not None:
            by_keyword[simple_name(one.site.node.func), one.name].append(one)
    for siblings in by_keyword.values():
        for one in siblings:
            local = one.unit.local_names(one.argument.value)
            known = local | one.unit.module_names | _BUILTIN_NAMES
            for other in siblings:
                if other.value != one.value and names_in(other.argument.value) <= known:
                    yield one.spec(f"{one.name} -> sibling's {other.value}", one.edit(other.value))
                    break


def none_group(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Pass None for a process group."""
    for one in _bound_arguments(tree, scope):
        if one.name.endswith("_group") and one.value != "None":
            yield one.spec(f"{one.name} -> None", one.edit("None"))


def layer_off_by_one(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Begin or end a range of layers one too early or too late."""
    for unit in tree.units:
        for site in unit.calls:
            is_range = simple_name(site.node.func) == "range" and not site.is_message
            is_of_layers = is_range and "layer" in unit.text(site.node).lower()
            if is_of_layers and scope.is_ordering(unit, site.scopes):
                yield from _shifted_range(unit, site)
    for one in _bound_arguments(tree, scope):
        if one.name.endswith(_LAYER_NUMBERS):
            for shift in ("+ 1", "- 1"):
                yield one.spec(f"{one.name} {shift}", one.edit(f"({one.value}) {shift}"))


def _shifted_range(unit: SourceUnit, site: ScopedNode[cst.Call]) -> Iterator[MutantSpec]:
    last = site.node.args[-1].value
    text = unit.line(last)
    shifts = {"end + 1": f"({text}) + 1", "end - 1": f"({text}) - 1"}
    if len(site.node.args) == 1:
        shifts["begin + 1"] = f"1, {text}"
    for change, shifted in shifts.items():
        yield MutantSpec.at(unit, site, unit.replace(last, shifted), change=f"range {change}")


def _wiring_calls(
    tree: SourceTree, scope: MutationScope
) -> Iterator[tuple[SourceUnit, ScopedNode[cst.Call]]]:
    for unit in tree.units:
        for site in unit.calls:
            is_message = site.is_message or simple_name(site.node.func).endswith("Error")
            if not is_message and site.function is not None and scope.is_wiring(unit, site.scopes):
                yield unit, site


def _bound_arguments(tree: SourceTree, scope: MutationScope) -> Iterator[_BoundArgument]:
    for unit, site in _wiring_calls(tree, scope):
        yield from _arguments(tree, unit, site)


def _arguments(
    tree: SourceTree, unit: SourceUnit, site: ScopedNode[cst.Call]
) -> Iterator[_BoundArgument]:
    """Yield the plain arguments of a call with their parameters."""
    callee = simple_name(site.node.func)
    signature = () if callee == "__init__" else tree.signature(callee) or ()
    by_name = {parameter.name: parameter for parameter in signature}
    positions = [parameter for parameter in signature if parameter.allows_positional]
    for index, argument in enumerate(site.node.args):
        if argument.star:
            positions = []
        elif argument.keyword is not None:
            name = argument.keyword.value
            parameter = by_name.get(name, SignatureParameter(name=name))
            yield _BoundArgument(unit, site, argument, parameter)
        elif index < len(positions):
            yield _BoundArgument(unit, site, argument, positions[index])


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
    callee = _called_as(site)
    for caller, call in [(other, call) for other in tree.units for call in other.calls]:
        for argument in call.node.args if simple_name(call.node.func) == callee else ():
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


def _overlap(edits: list[SourceEdit]) -> bool:
    ordered = sorted(edits, key=lambda edit: edit.start)
    return any(one.end > other.start for one, other in pairwise(ordered))
