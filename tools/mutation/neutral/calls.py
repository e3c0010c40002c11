"""Refactors of one call: what is passed stays the same, how it is written changes."""

from collections.abc import Sequence
from random import Random

import libcst as cst

from tools.mutation.source.bindings import names_bound_in, names_in
from tools.mutation.source.edits import SourceEdit, apply_edits
from tools.mutation.source.source_tree import ScopedCall, SignatureParameter, SourceTree, SourceUnit

_PLAIN = frozenset({"True", "False", "None"})


def reorder_keywords(_tree: SourceTree, unit: SourceUnit, random: Random) -> dict[str, str] | None:
    """Write the keywords of a call in another order."""
    found = [
        site for site in _calls(unit) if len(_keywords(site.node)) > 1 and _is_order_free(site.node)
    ]
    if not found:
        return None
    site = random.choice(found)
    before = _keywords(site.node)
    keywords = random.sample(before, len(before))
    if keywords == before:
        keywords.reverse()
    return _rewritten(unit, site, [*_positions(site.node), *keywords])


def explicit_default(tree: SourceTree, unit: SourceUnit, random: Random) -> dict[str, str] | None:
    """Pass what the callee has for a default."""
    found = [
        (site, parameter)
        for site in _calls(unit)
        for parameter in _omitted_parameters(tree, site)
        if not any(argument.star for argument in site.node.args)
    ]
    if not found:
        return None
    site, parameter = random.choice(found)
    arguments = [unit_text(unit, argument) for argument in site.node.args]
    return _with_arguments(unit, site, [*arguments, f"{parameter.name}={parameter.default}"])


def position_to_keyword(
    tree: SourceTree, unit: SourceUnit, random: Random
) -> dict[str, str] | None:
    """Name the last argument that is passed by position."""
    found = [
        (site, signature)
        for site in _calls(unit)
        if (signature := _signature(tree, site)) and _positions(site.node) and _has_no_star(site)
    ]
    if not found:
        return None
    site, signature = random.choice(found)
    index = len(_positions(site.node)) - 1
    if index >= len(signature) or not signature[index].allows_positional:
        return None
    texts = [unit_text(unit, argument) for argument in site.node.args]
    texts[index] = f"{signature[index].name}={texts[index]}"
    return _with_arguments(unit, site, texts)


def keyword_to_position(
    tree: SourceTree, unit: SourceUnit, random: Random
) -> dict[str, str] | None:
    """Pass the first keyword by position where it is its turn."""
    found = []
    for site in _calls(unit):
        signature, index = _signature(tree, site), len(_positions(site.node))
        keywords = _keywords(site.node)
        if not signature or not keywords or index >= len(signature) or not _has_no_star(site):
            continue
        first = keywords[0].keyword
        is_turn = first is not None and first.value == signature[index].name
        if is_turn and signature[index].allows_positional and signature[index].is_order_certain:
            found.append((site, index))
    if not found:
        return None
    site, index = random.choice(found)
    texts = [unit_text(unit, argument) for argument in site.node.args]
    texts[index] = value_text(unit, site.node.args[index])
    return _with_arguments(unit, site, texts)


def dict_splat(_tree: SourceTree, unit: SourceUnit, random: Random) -> dict[str, str] | None:
    """Pass all keywords in one dictionary."""
    found = [site for site in _calls(unit) if _keywords(site.node) and _has_no_star(site)]
    if not found:
        return None
    site = random.choice(found)
    pairs = ", ".join(
        f'"{argument.keyword.value}": {value_text(unit, argument)}'
        for argument in _keywords(site.node)
        if argument.keyword is not None
    )
    positions = [unit_text(unit, argument) for argument in _positions(site.node)]
    return _with_arguments(unit, site, [*positions, f"**{{{pairs}}}"])


def unit_text(unit: SourceUnit, node: cst.CSTNode) -> str:
    """Return the text of a node as it stands."""
    span = unit.spans[node]
    return unit.source[span.start : span.end].decode()


def value_text(unit: SourceUnit, argument: cst.Arg) -> str:
    """Return what an argument passes, with its parentheses: the place of a node is without them."""
    text = unit_text(unit, argument)
    return text if argument.keyword is None else text.partition("=")[2].strip()


def replace_node(unit: SourceUnit, node: cst.CSTNode, text: str) -> dict[str, str]:
    """Return the file with another text for a node."""
    span = unit.spans[node]
    edit = SourceEdit(start=span.start, end=span.end, text=text)
    return {unit.file: apply_edits(unit.source, [edit]).decode()}


def is_pure(node: cst.CSTNode) -> bool:
    """Tell whether an expression only looks names, attributes and constants up."""
    simple = cst.Name | cst.Attribute | cst.Integer | cst.SimpleString
    pure = simple | cst.UnaryOperation | cst.BinaryOperation
    return isinstance(node, pure) and all(
        is_pure(child) for child in node.children if isinstance(child, cst.BaseExpression)
    )


def _calls(unit: SourceUnit) -> list[ScopedCall]:
    """Return the calls inside functions, those of `super().__init__` and wordings left out."""
    return [site for site in unit.calls if site.function is not None and not site.only_words]


def _keywords(node: cst.Call) -> list[cst.Arg]:
    return [argument for argument in node.args if argument.keyword is not None]


def _positions(node: cst.Call) -> list[cst.Arg]:
    return [argument for argument in node.args if argument.keyword is None and not argument.star]


def _has_no_star(site: ScopedCall) -> bool:
    return not any(argument.star for argument in site.node.args)


def _is_order_free(node: cst.Call) -> bool:
    """Tell whether it does not matter in what order the arguments are evaluated."""
    return all(not argument.star and is_pure(argument.value) for argument in node.args)


def _signature(tree: SourceTree, site: ScopedCall) -> tuple[SignatureParameter, ...] | None:
    """Return the signature of what is called by a plain name that the tree defines."""
    match site.node.func:
        case cst.Name(value=name) if name not in ("super", "type", "replace"):
            # A parameter may have the name of a function that lies elsewhere.
            is_own = site.function is not None and name in names_bound_in(site.function)
            return None if is_own else tree.signature(name)
        case _:
            return None


def _omitted_parameters(tree: SourceTree, site: ScopedCall) -> list[SignatureParameter]:
    """Return the parameters that a call leaves to a default which means the same here."""
    signature = _signature(tree, site) or ()
    given = {argument.keyword.value for argument in site.node.args if argument.keyword is not None}
    passed = len(_positions(site.node))
    return [
        parameter
        for index, parameter in enumerate(signature)
        if parameter.default
        and parameter.name not in given
        and (index >= passed or not parameter.allows_positional)
        and not names_in(cst.parse_expression(parameter.default)) - _PLAIN
        and "field(" not in parameter.default
    ]


def _rewritten(
    unit: SourceUnit, site: ScopedCall, arguments: Sequence[cst.Arg]
) -> dict[str, str] | None:
    return _with_arguments(unit, site, [unit_text(unit, argument) for argument in arguments])


def _with_arguments(unit: SourceUnit, site: ScopedCall, texts: Sequence[str]) -> dict[str, str]:
    callee = unit_text(unit, site.node.func)
    return replace_node(unit, site.node, f"{callee}({', '.join(texts)})")
