"""Refactors of one call: the same arguments, written in another way."""

from collections.abc import Iterator, Sequence

import libcst as cst

from tools.mutation.source.bindings import names_in
from tools.mutation.source.edits import SourceEdit, apply_edits
from tools.mutation.source.signatures import Signature, SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceUnit

Call = ScopedNode[cst.Call]
FileTexts = dict[str, str]

_MAPPING = "**"
_CONSTANTS = frozenset({"True", "False", "None"})


def reorder_keywords(_tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Write the keywords of a call in another order."""
    for site in _calls(unit):
        keywords = [unit.text(argument) for argument in _keywords(site).values()]
        if len(keywords) > 1 and all(is_pure(argument.value) for argument in site.node.args):
            others = [argument for argument in site.node.args if argument.keyword is None]
            texts = [unit.text(argument) for argument in others if argument.star != _MAPPING]
            mappings = [unit.text(argument) for argument in others if argument.star == _MAPPING]
            yield _with_arguments(unit, site, [*texts, *keywords[::-1], *mappings])
            yield _with_arguments(unit, site, [*texts, *keywords[1:], keywords[0], *mappings])


def explicit_default(tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Pass the default of the callee."""
    for site, signature in _known_calls(tree, unit):
        texts = [unit.text(argument) for argument in site.node.args]
        for index, parameter in enumerate(signature):
            is_passed = index < len(_positions(site)) and parameter.allows_positional
            default = parameter.default
            if not is_passed and parameter.name not in _keywords(site) and _is_constant(default):
                yield _with_arguments(unit, site, [*texts, f"{parameter.name}={default}"])


def position_to_keyword(tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Name the last argument that is passed by position."""
    for site, signature in _known_calls(tree, unit):
        last = len(_positions(site)) - 1
        is_known = 0 <= last < len(signature) and signature[last].is_order_certain
        if is_known and signature[last].allows_positional:
            texts = [unit.text(argument) for argument in site.node.args]
            texts[last] = f"{signature[last].name}={texts[last]}"
            yield _with_arguments(unit, site, texts)


def keyword_to_position(tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Pass the first keyword by position where the next parameter has its name."""
    for site, signature in _known_calls(tree, unit):
        index = len(_positions(site))
        first = list(_keywords(site).items())[:1]
        for parameter, (name, argument) in zip(signature[index:], first, strict=False):
            is_next = name == parameter.name and parameter.allows_positional
            if is_next and parameter.is_order_certain:
                texts = [unit.text(one) for one in site.node.args]
                texts[index] = _value_text(unit, argument)
                yield _with_arguments(unit, site, texts)


def dict_splat(_tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Pass all keywords in one dictionary."""
    for site in _calls(unit):
        keywords = _keywords(site).items()
        pairs = [f'"{name}": {_value_text(unit, argument)}' for name, argument in keywords]
        if pairs and _has_no_star(site):
            texts = [unit.text(argument) for argument in _positions(site)]
            yield _with_arguments(unit, site, [*texts, f"**{{{', '.join(pairs)}}}"])


def widen(_tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Write every argument of a call on a line of its own, as formatters do with long calls."""
    for site in unit.calls:
        if len(site.node.args) > 1 and site.function is not None:
            starts = [unit.span(argument).start for argument in site.node.args]
            yield edited(unit, *(SourceEdit(start=at, end=at, text="\n    ") for at in starts))


def edited(unit: SourceUnit, *edits: SourceEdit) -> FileTexts:
    """Return a file with edits made."""
    return {unit.file: apply_edits(unit.source, edits).decode()}


def replaced(unit: SourceUnit, node: cst.CSTNode, text: str) -> FileTexts:
    """Return a file with another text for a node."""
    span = unit.span(node)
    return edited(unit, SourceEdit(start=span.start, end=span.end, text=text))


def is_pure(node: cst.CSTNode) -> bool:
    """Return whether an expression only looks names, attributes and constants up."""
    simple = cst.Name | cst.Attribute | cst.Integer | cst.SimpleString
    return isinstance(node, simple | cst.UnaryOperation | cst.BinaryOperation) and all(
        is_pure(child) for child in node.children if isinstance(child, cst.BaseExpression)
    )


def _calls(unit: SourceUnit) -> list[Call]:
    """Return the calls inside functions, messages left out."""
    return [site for site in unit.calls if site.function is not None and not site.is_message]


def _known_calls(tree: SourceTree, unit: SourceUnit) -> Iterator[tuple[Call, Signature]]:
    """Yield the calls without stars of what the tree defines, by plain name."""
    for site in _calls(unit):
        match site.node.func:
            case cst.Name(value=name) if name not in ("super", "type", "replace"):
                signature = tree.signature(name)
                # A parameter may have the name of a function that lies elsewhere.
                is_local = name in unit.local_names(site.node)
                if signature and not is_local and _has_no_star(site):
                    yield site, signature


def _keywords(site: Call) -> dict[str, cst.Arg]:
    return {one.keyword.value: one for one in site.node.args if one.keyword is not None}


def _positions(site: Call) -> list[cst.Arg]:
    return [one for one in site.node.args if one.keyword is None and not one.star]


def _has_no_star(site: Call) -> bool:
    return not any(argument.star for argument in site.node.args)


def _is_constant(default: str) -> bool:
    """Return whether a default means the same in every module."""
    is_plain = bool(default) and "field(" not in default
    return is_plain and names_in(cst.parse_expression(default)) <= _CONSTANTS


def _value_text(unit: SourceUnit, argument: cst.Arg) -> str:
    # The position of the value itself lies inside its parentheses.
    return unit.text(argument).partition("=")[2].strip()


def _with_arguments(unit: SourceUnit, site: Call, texts: Sequence[str]) -> FileTexts:
    return replaced(unit, site.node, f"{unit.text(site.node.func)}({', '.join(texts)})")
