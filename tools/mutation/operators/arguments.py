"""Operators on the arguments of one call."""

from collections.abc import Iterator

import libcst as cst

from tools.mutation.bindings import names_bound_in, names_in, simple_name
from tools.mutation.edits import Edit, removed_item, replaced
from tools.mutation.mutants import Draft, Scope
from tools.mutation.source import CallSite, Parameter, Tree, Unit

_BUILTIN_NAMES = frozenset({"True", "False", "None", "len", "max", "min", "int", "range", "tuple"})


def drop_keyword(tree: Tree, scope: Scope) -> Iterator[Draft]:
    """Leave a keyword out."""
    for unit, site in _wiring_calls(tree, scope):
        for argument in site.node.args:
            if argument.keyword is not None:
                name = argument.keyword.value
                span = unit.spans[argument]
                edit = removed_item(unit.source, span.start, span.end)
                yield _draft(unit, site, what=name, parameters=(name,), edits=[edit])


def default_argument(tree: Tree, scope: Scope) -> Iterator[Draft]:
    """Pass what the callee has for a default."""
    for unit, site, argument, parameter in _bound(tree, scope):
        default = parameter.default
        # A default is evaluated where the callee is defined: only plain ones mean the same here.
        if default and unit.text(argument.value) != default and _is_plain(default):
            what = f"{parameter.name} -> default {default}"
            yield _valued(unit, site, argument, what=what, name=parameter.name, text=default)


def swap_arguments(tree: Tree, scope: Scope) -> Iterator[Draft]:
    """Swap the values of two arguments of one type."""
    for unit, site in _wiring_calls(tree, scope):
        bound = _arguments(tree, site)
        for index, (argument, parameter) in enumerate(bound):
            for other, its_parameter in bound[index + 1 :]:
                is_same_type = parameter.annotation == its_parameter.annotation != ""
                if is_same_type and unit.text(argument.value) != unit.text(other.value):
                    yield _swapped(unit, site, (argument, parameter), (other, its_parameter))
                    break


def sibling_value(tree: Tree, scope: Scope) -> Iterator[Draft]:
    """Pass what the same keyword gets in another call of the same callee."""
    by_keyword: dict[tuple[str, str], list[tuple[Unit, CallSite, cst.Arg]]] = {}
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
                yield _valued(unit, site, argument, what=what, name=name, text=other)


def none_group(tree: Tree, scope: Scope) -> Iterator[Draft]:
    """Pass None for a process group."""
    for unit, site, argument, parameter in _bound(tree, scope):
        if parameter.name.endswith("_group") and unit.text(argument.value) != "None":
            what = f"{parameter.name} -> None"
            yield _valued(unit, site, argument, what=what, name=parameter.name, text="None")


def layer_off_by_one(tree: Tree, scope: Scope) -> Iterator[Draft]:
    """Begin or end a range of layers one too early or too late."""
    for unit in tree.units:
        for site in unit.calls:
            if site.only_words or not scope.orders(unit, site.scopes):
                continue
            if simple_name(site.node.func) == "range" and "layer" in unit.text(site.node).lower():
                yield from _shifted_range(unit, site)
    for unit, site, argument, parameter in _bound(tree, scope):
        if parameter.name.endswith(("start_layer", "end_layer", "layer_num", "layer_id")):
            value = unit.text(argument.value)
            for shift in ("+ 1", "- 1"):
                text = f"({value}) {shift}"
                what = f"{parameter.name} {shift}"
                yield _valued(unit, site, argument, what=what, name=parameter.name, text=text)


def _shifted_range(unit: Unit, site: CallSite) -> Iterator[Draft]:
    first, last = site.node.args[0], site.node.args[-1]
    span, text = unit.spans[last.value], unit.text(last.value)
    for shift in ("+ 1", "- 1"):
        edit = replaced(unit.source, span.start, span.end, f"({text}) {shift}")
        yield _draft(unit, site, what=f"end {shift}", parameters=(), edits=[edit])
    if first is last:
        edit = replaced(unit.source, span.start, span.end, f"1, {text}")
        yield _draft(unit, site, what="begin + 1", parameters=(), edits=[edit])


def _wiring_calls(tree: Tree, scope: Scope) -> Iterator[tuple[Unit, CallSite]]:
    for unit in tree.units:
        for site in unit.calls:
            words = site.only_words or simple_name(site.node.func).endswith("Error")
            if not words and site.function is not None and scope.wires(unit, site.scopes):
                yield unit, site


def _bound(tree: Tree, scope: Scope) -> Iterator[tuple[Unit, CallSite, cst.Arg, Parameter]]:
    for unit, site in _wiring_calls(tree, scope):
        for argument, parameter in _arguments(tree, site):
            yield unit, site, argument, parameter


def _arguments(tree: Tree, site: CallSite) -> list[tuple[cst.Arg, Parameter]]:
    """Return the plain arguments of a call with what they are bound to."""
    signature = tree.signature(simple_name(site.node.func))
    if simple_name(site.node.func) == "__init__" or signature is None:
        signature = ()
    by_name = {parameter.name: parameter for parameter in signature}
    positions = [parameter for parameter in signature if parameter.takes_position]
    found = []
    for index, argument in enumerate(site.node.args):
        if argument.star:
            positions = []
        elif argument.keyword is not None:
            name = argument.keyword.value
            unknown = Parameter(name=name, annotation="", default="", takes_position=False)
            found.append((argument, by_name.get(name, unknown)))
        elif index < len(positions):
            found.append((argument, positions[index]))
    return found


def _known_names(unit: Unit, site: CallSite) -> frozenset[str]:
    own = frozenset() if site.function is None else names_bound_in(site.function)
    return own | unit.module_names | _BUILTIN_NAMES


def _is_plain(default: str) -> bool:
    return not names_in(cst.parse_expression(default)) - _BUILTIN_NAMES


def _swapped(
    unit: Unit, site: CallSite, one: tuple[cst.Arg, Parameter], other: tuple[cst.Arg, Parameter]
) -> Draft:
    first, second = unit.spans[one[0].value], unit.spans[other[0].value]
    names = (one[1].name, other[1].name)
    edits = [
        replaced(unit.source, first.start, first.end, unit.text(other[0].value)),
        replaced(unit.source, second.start, second.end, unit.text(one[0].value)),
    ]
    return _draft(unit, site, what=" <-> ".join(names), parameters=names, edits=edits)


def _valued(
    unit: Unit, site: CallSite, argument: cst.Arg, *, what: str, name: str, text: str
) -> Draft:
    span = unit.spans[argument.value]
    edit = replaced(unit.source, span.start, span.end, text)
    return _draft(unit, site, what=what, parameters=(name,), edits=[edit])


def _draft(
    unit: Unit, site: CallSite, *, what: str, parameters: tuple[str, ...], edits: list[Edit]
) -> Draft:
    return Draft(
        place=site.place,
        callee=unit.text(site.node.func),
        what=what,
        spans=((unit, site.statement),),
        parameters=parameters,
        edits={unit.file: edits},
    )
