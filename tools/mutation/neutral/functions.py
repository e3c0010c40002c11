"""Refactors with helpers: extracted, inlined, put in between."""

import re
from random import Random

import libcst as cst

from tools.mutation.neutral.calls import is_pure, replace_node, unit_text
from tools.mutation.neutral.renames import fresh_name
from tools.mutation.source.bindings import names_bound_in, names_in, uses_in
from tools.mutation.source.edits import SourceEdit, apply_edits
from tools.mutation.source.source_tree import (
    ScopedCall,
    ScopedFunction,
    ScopedStatement,
    SourceTree,
    SourceUnit,
)


def extract_helper(_tree: SourceTree, unit: SourceUnit, random: Random) -> dict[str, str] | None:
    """Let a new function make what a statement assigns."""
    found = [site for site in unit.statements if _extractable(unit, site) is not None]
    if not found:
        return None
    site = random.choice(found)
    value = _extractable(unit, site)
    assert value is not None
    assert site.function is not None
    names = sorted(names_in(value) & names_bound_in(site.function))
    helper = fresh_name(unit, "_extracted", random)
    passed = ", ".join(f"{name}={name}" for name in names)
    taken = f"*, {', '.join(names)}" if names else ""
    span = unit.spans[value]
    edit = SourceEdit(start=span.start, end=span.end, text=f"{helper}({passed})")
    text = apply_edits(unit.source, [edit]).decode().rstrip("\n")
    body = unit_text(unit, value)
    return {unit.file: f"{text}\n\n\ndef {helper}({taken}):\n    return (\n{body}\n)\n"}


def inline_helper(_tree: SourceTree, unit: SourceUnit, random: Random) -> dict[str, str] | None:
    """Put what a function of one expression returns in the place of a call."""
    found = [
        (site, function, value)
        for function in unit.functions
        if (value := _returned_expression(function)) is not None
        for site in unit.calls
        if _is_plain_call(site, function) and _means_the_same(unit, site, function, value)
    ]
    if not found:
        return None
    site, function, value = random.choice(found)
    arguments = _bound(site, function)
    edits = [
        SourceEdit(
            start=unit.spans[node].start - unit.spans[value].start,
            end=unit.spans[node].end - unit.spans[value].start,
            text=f"({unit_text(unit, arguments[node.value])})",
        )
        for node in uses_in(value)
        if node.value in arguments
    ]
    text = apply_edits(unit_text(unit, value).encode(), edits).decode()
    return replace_node(unit, site.node, f"({text})")


def new_layer(_tree: SourceTree, unit: SourceUnit, random: Random) -> dict[str, str] | None:
    """Put a function that passes everything on before an imported one."""
    found = [
        (line, alias)
        for line in unit.module.body
        if isinstance(line, cst.SimpleStatementLine)
        for small in line.body
        if isinstance(small, cst.ImportFrom) and not isinstance(small.names, cst.ImportStar)
        for alias in small.names
        if alias.asname is None and _is_only_called(unit, alias.evaluated_name)
    ]
    if not found:
        return None
    _, alias = random.choice(found)
    name = alias.evaluated_name
    inner = fresh_name(unit, f"_{name}", random)
    span = unit.spans[alias.name]
    edit = SourceEdit(start=span.start, end=span.end, text=f"{name} as {inner}")
    text = apply_edits(unit.source, [edit]).decode().rstrip("\n")
    layer = f"def {name}(*arguments, **keywords):\n    return {inner}(*arguments, **keywords)\n"
    return {unit.file: f"{text}\n\n\n{layer}"}


_UNMOVABLE = (
    cst.Lambda,
    cst.ListComp,
    cst.SetComp,
    cst.DictComp,
    cst.GeneratorExp,
    cst.NamedExpr,
    cst.Await,
    cst.Yield,
)


def _extractable(unit: SourceUnit, site: ScopedStatement) -> cst.Call | None:
    function = site.function
    is_inner = len(site.scopes) - len(site.classes) > 1
    if function is None or site.only_words or is_inner:
        return None
    match site.node.body[0]:
        case cst.Assign(value=cst.Call() as value) | cst.Return(value=cst.Call() as value):
            text = unit_text(unit, value)
            is_movable = not _holds(value, _UNMOVABLE) and "super" not in text
            is_mangled = re.search(r"\b__\w+[^_\W]\b(?!__)", text) is not None
            return value if is_movable and not is_mangled and '"""' not in text else None
        case _:
            return None


def _holds(node: cst.CSTNode, kinds: tuple[type[cst.CSTNode], ...]) -> bool:
    return isinstance(node, kinds) or any(_holds(child, kinds) for child in node.children)


def _returned_expression(function: ScopedFunction) -> cst.BaseExpression | None:
    """Return the expression of a private module function that has nothing else."""
    node = function.node
    is_private = len(function.scopes) == 1 and node.name.value.startswith("_")
    defaults = [parameter.default for parameter in _parameters(node)]
    is_simple = isinstance(node.params.star_arg, cst.MaybeSentinel | cst.ParamStar)
    if (
        not is_private
        or node.decorators
        or node.params.star_kwarg
        or any(defaults)
        or not is_simple
    ):
        return None
    body = [line for line in node.body.body if not _is_docstring(line)]
    match body:
        case [cst.SimpleStatementLine(body=[cst.Return(value=value)])] if value is not None:
            return None if _holds(value, _UNMOVABLE) else value
        case _:
            return None


def _is_docstring(line: cst.CSTNode) -> bool:
    match line:
        case cst.SimpleStatementLine(body=[cst.Expr(value=cst.SimpleString())]):
            return True
        case _:
            return False


def _parameters(node: cst.FunctionDef) -> list[cst.Param]:
    return [*node.params.posonly_params, *node.params.params, *node.params.kwonly_params]


def _is_plain_call(site: ScopedCall, function: ScopedFunction) -> bool:
    match site.node.func:
        case cst.Name(value=name) if name == function.node.name.value and site.function:
            return all(not arg.star and is_pure(arg.value) for arg in site.node.args)
        case _:
            return False


def _bound(site: ScopedCall, function: ScopedFunction) -> dict[str, cst.BaseExpression]:
    names = [parameter.name.value for parameter in _parameters(function.node)]
    return {
        argument.keyword.value if argument.keyword is not None else names[index]: argument.value
        for index, argument in enumerate(site.node.args)
    }


def _means_the_same(
    unit: SourceUnit, site: ScopedCall, function: ScopedFunction, value: cst.BaseExpression
) -> bool:
    """Tell whether the names of the expression mean the same where it is called."""
    own = {parameter.name.value for parameter in _parameters(function.node)}
    outer = names_in(value) - own
    assert site.function is not None
    is_inside = unit.spans[site.node].start >= unit.spans[function.node].start and (
        unit.spans[site.node].end <= unit.spans[function.node].end
    )
    known = names_bound_in(site.function)
    return not is_inside and not outer & known and len(_bound(site, function)) == len(own)


def _is_only_called(unit: SourceUnit, name: str) -> bool:
    """Tell whether an imported function is used in this file only by calling it in functions."""
    if not name.islower() or name.startswith("_"):
        return False
    calls = sum(
        isinstance(site.node.func, cst.Name)
        and site.node.func.value == name
        and site.function is not None
        for site in unit.calls
    )
    mentions = len(re.findall(rf"(?<![\w.\"'`]){name}\b(?!\s*=[^=])", unit.source.decode()))
    return calls > 0 and mentions == calls + 1
