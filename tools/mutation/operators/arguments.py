"""Operators on the arguments of one call."""

from collections.abc import Iterator

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.source.bindings import names_bound_in, names_in, simple_name
from tools.mutation.source.edits import SourceEdit, remove_item, replace_span
from tools.mutation.source.source_tree import ScopedCall, SignatureParameter, SourceTree, SourceUnit

_BUILTIN_NAMES = frozenset({"True", "False", "None", "len", "max", "min", "int", "range", "tuple"})


def drop_keyword(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave a keyword out."""
    for unit, site in _wiring_calls(tree, scope):
        for argument in site.node.args:
            if argument.keyword is not None:
                name = argument.keyword.value
                span = unit.spans[argument]
                edit = remove_item(unit.source, span.start, span.end)
                yield _spec(unit, site, change=name, parameters=(name,), edits=[edit])


def default_argument(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Pass what the callee has for a default."""
    for unit, site, argument, parameter in _bound(tree, scope):
        default = parameter.default
        # A default is evaluated where the callee is defined: only plain ones mean the same here.
        if default and unit.text(argument.value) != default and _is_plain(default):
            what = f"{parameter.name} -> default {default}"
            yield _with_value(unit, site, argument, change=what, name=parameter.name, text=default)


def swap_arguments(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Swap the values of two arguments of one type."""
    for unit, site in _wiring_calls(tree, scope):
        bound = _arguments(tree, site)
        for index, (argument, parameter) in enumerate(bound):
            for other, its_parameter in bound[index + 1 :]:
                is_same_type = parameter.annotation == its_parameter.annotation != ""
                if is_same_type and unit.text(argument.value) != unit.text(other.value):
                    yield _swapped(unit, site, (argument, parameter), (other, its_parameter))
                    break


def sibling_value(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Pass what the same keyword gets in another call of the same callee."""
    by_keyword: dict[tuple[str, str], list[tuple[SourceUnit, ScopedCall, cst.Arg]]] = {}
    for unit, site in _wiring_calls(tree, scope):
        for argument in site.node.args:
            if argument.keyword is not None:
                key = simple_name(site.node.func), argument.keyword.value
                by_keyword.setdefault(key, []).append((unit, site, argument))
    for (_, name), siblings in by_keyword.items():
        for unit, site, argument in siblings:
            known = _known_names(unit, site)
            own = unit.text(argument.value)
            texts = [(its_unit.text(its.value), its) for its_unit, _, its in siblings]
            other = next(
                (text for text, its in texts if text != own and names_in(its.value) <= known), None
            )
            if other is not None:
                what = f"{name} -> sibling's {other}"
                yield _with_value(unit, site, argument, change=what, name=name, text=other)


def none_group(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Pass None for a process group."""
    for unit, site, argument, parameter in _bound(tree, scope):
        if parameter.name.endswith("_group") and unit.text(argument.value) != "None":
            what = f"{parameter.name} -> None"
            yield _with_value(unit, site, argument, change=what, name=parameter.name, text="None")


def layer_off_by_one(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Begin or end a range of layers one too early or too late."""
    for unit in tree.units:
        for site in unit.calls:
            if site.only_words or not scope.is_ordering(unit, site.scopes):
                continue
            if simple_name(site.node.func) == "range" and "layer" in unit.text(site.node).lower():
                yield from _shifted_range(unit, site)
    for unit, site, argument, parameter in _bound(tree, scope):
        if parameter.name.endswith(("start_layer", "end_layer", "layer_num", "layer_id")):
            value = unit.text(argument.value)
            for shift in ("+ 1", "- 1"):
                text = f"({value}) {shift}"
                what = f"{parameter.name} {shift}"
                yield _with_value(unit, site, argument, change=what, name=parameter.name, text=text)


def _shifted_range(unit: SourceUnit, site: ScopedCall) -> Iterator[MutantSpec]:
    first, last = site.node.args[0], site.node.args[-1]
    span, text = unit.spans[last.value], unit.text(last.value)
    for shift in ("+ 1", "- 1"):
        edit = replace_span(unit.source, span.start, span.end, f"({text}) {shift}")
        yield _spec(unit, site, change=f"end {shift}", parameters=(), edits=[edit])
    if first is last:
        edit = replace_span(unit.source, span.start, span.end, f"1, {text}")
        yield _spec(unit, site, change="begin + 1", parameters=(), edits=[edit])


def _wiring_calls(
    tree: SourceTree, scope: MutationScope
) -> Iterator[tuple[SourceUnit, ScopedCall]]:
    for unit in tree.units:
        for site in unit.calls:
            words = site.only_words or simple_name(site.node.func).endswith("Error")
            if not words and site.function is not None and scope.is_wiring(unit, site.scopes):
                yield unit, site


def _bound(
    tree: SourceTree, scope: MutationScope
) -> Iterator[tuple[SourceUnit, ScopedCall, cst.Arg, SignatureParameter]]:
    for unit, site in _wiring_calls(tree, scope):
        for argument, parameter in _arguments(tree, site):
            yield unit, site, argument, parameter


def _arguments(tree: SourceTree, site: ScopedCall) -> list[tuple[cst.Arg, SignatureParameter]]:
    """Return the plain arguments of a call with what they are bound to."""
    signature = tree.signature(simple_name(site.node.func))
    if simple_name(site.node.func) == "__init__" or signature is None:
        signature = ()
    by_name = {parameter.name: parameter for parameter in signature}
    positions = [parameter for parameter in signature if parameter.allows_positional]
    found = []
    for index, argument in enumerate(site.node.args):
        if argument.star:
            positions = []
        elif argument.keyword is not None:
            name = argument.keyword.value
            unknown = SignatureParameter(
                name=name, annotation="", default="", allows_positional=False
            )
            found.append((argument, by_name.get(name, unknown)))
        elif index < len(positions):
            found.append((argument, positions[index]))
    return found


def _known_names(unit: SourceUnit, site: ScopedCall) -> frozenset[str]:
    own = frozenset() if site.function is None else names_bound_in(site.function)
    return own | unit.module_names | _BUILTIN_NAMES


def _is_plain(default: str) -> bool:
    return not names_in(cst.parse_expression(default)) - _BUILTIN_NAMES


def _swapped(
    unit: SourceUnit,
    site: ScopedCall,
    one: tuple[cst.Arg, SignatureParameter],
    other: tuple[cst.Arg, SignatureParameter],
) -> MutantSpec:
    first, second = unit.spans[one[0].value], unit.spans[other[0].value]
    names = (one[1].name, other[1].name)
    edits = [
        replace_span(unit.source, first.start, first.end, unit.text(other[0].value)),
        replace_span(unit.source, second.start, second.end, unit.text(one[0].value)),
    ]
    return _spec(unit, site, change=" <-> ".join(names), parameters=names, edits=edits)


def _with_value(
    unit: SourceUnit, site: ScopedCall, argument: cst.Arg, *, change: str, name: str, text: str
) -> MutantSpec:
    span = unit.spans[argument.value]
    edit = replace_span(unit.source, span.start, span.end, text)
    return _spec(unit, site, change=change, parameters=(name,), edits=[edit])


def _spec(
    unit: SourceUnit,
    site: ScopedCall,
    *,
    change: str,
    parameters: tuple[str, ...],
    edits: list[SourceEdit],
) -> MutantSpec:
    return MutantSpec(
        qualname=site.qualname,
        callee=unit.text(site.node.func),
        change=change,
        spans=((unit, site.statement),),
        parameters=parameters,
        edits={unit.file: edits},
    )
