"""Refactors of functions, names and modules, and the table of all kinds of refactors."""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TypeAlias

import libcst as cst

from tools.mutation.neutral import calls
from tools.mutation.neutral.calls import FileTexts, edited, is_pure, replaced
from tools.mutation.source.bindings import descendants, name_uses, names_in
from tools.mutation.source.edits import SourceEdit, apply_edits
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceUnit

Rewrite: TypeAlias = Callable[[SourceTree, SourceUnit], Iterator[FileTexts]]
"""Yields every refactor of one kind in a file, each as the texts that change, by file."""

_UNMOVABLE = cst.BaseComp | cst.Lambda | cst.NamedExpr | cst.Await | cst.Yield
_FIXED = cst.Param | cst.NameItem | cst.FunctionDef | cst.ClassDef


def rename_local(_tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Rename a local variable of a function."""
    for site in unit.functions:
        inside = list(descendants(site.node))
        if any(isinstance(one, cst.ClassDef) for one in inside):
            continue
        fixed = {one.name.value for one in inside if isinstance(one, _FIXED)}
        for name, found in unit.assignments(site.node.body).items():
            # Imports and what a pattern binds are recorded with other nodes.
            nodes = [getattr(one, "node", None) for one in found]
            if name not in fixed and all(isinstance(node, cst.Name) for node in nodes):
                yield _renamed(unit, site.node, name)


def rename_private_function(tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Rename a private function of a module that no other module names."""
    others = [other.source.decode() for other in tree.units if other is not unit]
    local = {name for site in unit.functions for name in unit.local_names(site.node.body)}
    for site in unit.functions:
        name = site.node.name.value
        is_private = len(site.around) == 1 and name.startswith("_") and name not in local
        is_private = is_private and name not in tree.outside.private
        if is_private and not any(re.search(rf"\b{name}\b", text) for text in others):
            yield _renamed(unit, unit.module, name)


def extract_helper(_tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Move the call that a statement assigns or returns into a new function."""
    for site in unit.statements:
        value = _extractable(unit, site)
        if value is None:
            continue
        names = sorted(names_in(value) & unit.local_names(value))
        helper = _fresh_name(unit, "_extracted")
        passed = ", ".join(f"{name}={name}" for name in names)
        taken = f"*, {', '.join(names)}" if names else ""
        text = replaced(unit, value, f"{helper}({passed})")[unit.file].rstrip("\n")
        body = f"def {helper}({taken}):\n    return (\n{unit.text(value)}\n)\n"
        yield {unit.file: f"{text}\n\n\n{body}"}


def inline_helper(_tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Put the only expression of a private function in the place of a call."""
    for function in unit.functions:
        value = _returned_expression(function)
        if value is None:
            continue
        names = [parameter.name.value for parameter in _parameters(function.node)]
        for site in unit.calls:
            if function.node in site.around or not _is_pure_call(site, function):
                continue
            arguments = {
                argument.keyword.value if argument.keyword else names[index]: argument.value
                for index, argument in enumerate(site.node.args)
            }
            outer = names_in(value) - set(names)
            if len(arguments) == len(names) and not outer & unit.local_names(site.node):
                yield replaced(unit, site.node, f"({_substituted(unit, value, arguments)})")


def new_layer(_tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Put a function that passes everything on before an imported one."""
    for node in unit.nodes:
        if not isinstance(node, cst.ImportAlias) or node.asname or len(unit.site(node).around):
            continue
        name, line = node.evaluated_name, unit.line_of(node)
        if line is None or unit.parent(line) is not unit.module or not _is_only_called(unit, name):
            continue
        inner = _fresh_name(unit, f"_{name}")
        passed = "(*arguments, **keywords)"
        # Right behind the import: a decorator calls it while the module is imported.
        end = unit.source.find(b"\n", unit.span(line.body[-1]).end) + 1 or len(unit.source)
        yield edited(
            unit,
            unit.replace(node.name, f"{name} as {inner}"),
            SourceEdit(
                start=end,
                end=end,
                text=f"\n\ndef {name}{passed}:\n    return {inner}{passed}\n\n\n",
            ),
        )


def move_module(tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Move the content of a module to a new one, from which the old one imports every name.

    A module whose functions bind its names again is left: the old module would keep their old
    values.
    """
    if unit.file.endswith("__init__.py"):
        return
    taken = {other.file for other in tree.units}
    stem = unit.file.removesuffix(".py")
    new = next(f"{stem}_moved_{n}" for n in count(1) if f"{stem}_moved_{n}.py" not in taken)
    names = sorted(unit.module_names - {"annotations"})
    is_flat = not any(isinstance(line, cst.If | cst.Try | cst.With) for line in unit.module.body)
    is_constant = not any(isinstance(node, cst.Global) for node in unit.nodes)
    if names and is_flat and is_constant:
        lines = "".join(f"    {name},\n" for name in names if name.isidentifier())
        old = f'"""Moved."""\n\nfrom {new.replace("/", ".")} import (\n{lines})\n'
        yield {f"{new}.py": unit.source.decode(), unit.file: old}


def reformat(_tree: SourceTree, unit: SourceUnit) -> Iterator[FileTexts]:
    """Write a file in the format of ``ast.unparse``: other lines, other quotes, no comments."""
    text = ast.unparse(ast.parse(unit.source)) + "\n"
    if text != unit.source.decode():
        yield {unit.file: text}


REWRITES: Mapping[str, Rewrite] = {
    "reorder_keywords": calls.reorder_keywords,
    "explicit_default": calls.explicit_default,
    "position_to_keyword": calls.position_to_keyword,
    "keyword_to_position": calls.keyword_to_position,
    "dict_splat": calls.dict_splat,
    "rename_local": rename_local,
    "rename_private_function": rename_private_function,
    "extract_helper": extract_helper,
    "inline_helper": inline_helper,
    "new_layer": new_layer,
    "move_module": move_module,
    "reformat": reformat,
    "widen": calls.widen,
}


def _fresh_name(unit: SourceUnit, name: str) -> str:
    return next(f"{name}_{n}" for n in count(1) if f"{name}_{n}".encode() not in unit.source)


def _renamed(unit: SourceUnit, root: cst.CSTNode, name: str) -> FileTexts:
    uses = [node for node in name_uses(root) if node.value == name]
    return edited(unit, *(unit.replace(node, _fresh_name(unit, name)) for node in uses))


def _extractable(unit: SourceUnit, site: ScopedNode[cst.SimpleStatementLine]) -> cst.Call | None:
    functions = [one for one in site.around if isinstance(one, cst.FunctionDef)]
    if len(functions) != 1 or site.is_message:
        return None
    match site.node.body[0]:
        case cst.Assign(value=cst.Call() as value) | cst.Return(value=cst.Call() as value):
            text = unit.text(value)
            is_movable = _is_movable(value) and "super" not in text
            # A name with two underscores means something else outside of its class.
            is_mangled = re.search(r"\b__\w+[^_\W]\b(?!__)", text) is not None
            return value if is_movable and not is_mangled and '"""' not in text else None
        case _:
            return None


def _is_movable(node: cst.CSTNode) -> bool:
    return not any(isinstance(one, _UNMOVABLE) for one in descendants(node))


def _returned_expression(function: ScopedNode[cst.FunctionDef]) -> cst.BaseExpression | None:
    """Return the only expression of a private module function without defaults and stars."""
    node = function.node
    is_private = len(function.around) == 1 and node.name.value.startswith("_")
    is_simple = isinstance(node.params.star_arg, cst.MaybeSentinel | cst.ParamStar)
    has_defaults = any(parameter.default for parameter in _parameters(node))
    if not is_private or not is_simple or node.decorators or node.params.star_kwarg or has_defaults:
        return None
    match [line for line in node.body.body if not _is_docstring(line)]:
        case [cst.SimpleStatementLine(body=[cst.Return(value=cst.BaseExpression() as value)])]:
            return value if _is_movable(value) else None
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


def _is_pure_call(site: ScopedNode[cst.Call], function: ScopedNode[cst.FunctionDef]) -> bool:
    is_call = _calls_name(site, function.node.name.value)
    return is_call and all(not one.star and is_pure(one.value) for one in site.node.args)


def _substituted(
    unit: SourceUnit, value: cst.BaseExpression, arguments: Mapping[str, cst.BaseExpression]
) -> str:
    first = unit.span(value).start
    edits = []
    for node in name_uses(value):
        if node.value in arguments:
            span, text = unit.span(node), f"({unit.text(arguments[node.value])})"
            edits.append(SourceEdit(start=span.start - first, end=span.end - first, text=text))
    return apply_edits(unit.text(value).encode(), edits).decode()


def _is_only_called(unit: SourceUnit, name: str) -> bool:
    """Return whether a file uses an imported function only by calling it in functions."""
    if not name.islower() or name.startswith("_") or not name.isidentifier():
        return False
    found = sum(_calls_name(site, name) for site in unit.calls)
    mentions = len(re.findall(rf"(?<![\w.\"'`]){name}\b(?!\s*=[^=])", unit.source.decode()))
    return found > 0 and mentions == found + 1


def _calls_name(site: ScopedNode[cst.Call], name: str) -> bool:
    """Return whether a call in a function is of a plain name."""
    func = site.node.func
    return isinstance(func, cst.Name) and func.value == name and site.function is not None
