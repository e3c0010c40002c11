"""Facts that scenarios learn from the text of one source file of a release.

Each is a function of the file's syntax tree, so that it can be asked of another tree's file as
well. Nothing here imports torch or sglang.
"""

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeGuard

POOL_MAKER = "_init_pools"
"""Name of the method that makes the pools of a model runner."""

# Part of the names of pools of tokens and of their allocators.
_POOL = "TokenToKVPool"
_CONTROLLER = "cache_controller"
_FORWARD_STREAM = "forward_stream"
_HOST_TIER = "enable_hierarchical_cache"


def forward_stream_attributes(text: str) -> tuple[str, ...]:
    """Return the attributes of a controller that a server sets to its forward stream, sorted."""
    if _CONTROLLER not in text or _FORWARD_STREAM not in text:
        return ()
    return tuple(sorted(set(_attributes_set(text))))


def defines_pool_maker(text: str) -> bool:
    """Return whether a module defines the method that makes the pools of a model runner."""
    return f"def {POOL_MAKER}(" in text and any(
        isinstance(node, ast.FunctionDef) and node.name == POOL_MAKER
        for node in _statements(ast.parse(text))
    )


def read_attributes(text: str) -> tuple[str, ...]:
    """Return the names of all attributes that a module uses, sorted."""
    return tuple(sorted({node.attr for node in _nodes(text) if isinstance(node, ast.Attribute)}))


def used_imports(text: str) -> tuple[str, ...]:
    """Return the names that a module imports and that its expressions consist of, sorted.

    Names of its own are left out: a fact that has them changes with every local variable.
    """
    nodes = _nodes(text)
    imports = (node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    return tuple(
        sorted({node.id for node in nodes if isinstance(node, ast.Name) and node.id in imported})
    )


def flags_without_host_tier(text: str) -> tuple[str, ...]:
    """Return the server flags that a module's checks refuse beside a host tier, sorted.

    Such a check is a function that returns where the flag is not given, and asserts of every server
    with the flag that it has no host tier.
    """
    if _HOST_TIER not in text:
        return ()
    functions = (node for node in _nodes(text) if isinstance(node, ast.FunctionDef))
    return tuple(
        sorted(
            {flag for one in functions if _refuses_host_tier(one) for flag in _needed_flags(one)}
        )
    )


def _refuses_host_tier(function: ast.FunctionDef) -> bool:
    """Return whether a function asserts, whatever else is set, that there is no host tier."""
    return any(
        isinstance(alternative, ast.Attribute) and alternative.attr == _HOST_TIER
        for node in function.body
        if isinstance(node, ast.Assert) and _is_negation(node.test)
        for alternative in _alternatives(node.test.operand)
    )


def _is_negation(test: ast.expr) -> TypeGuard[ast.UnaryOp]:
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _alternatives(test: ast.expr) -> list[ast.expr]:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        return test.values
    return [test]


def _needed_flags(function: ast.FunctionDef) -> Iterator[str]:
    for node in function.body:
        if isinstance(node, ast.If) and isinstance(node.body[0], ast.Return):
            test = node.test
            if _is_negation(test) and isinstance(test.operand, ast.Attribute):
                yield test.operand.attr


def pool_bases(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the classes of a module, each with the last names of the classes it inherits from.

    Nothing of a module that names neither a pool of tokens nor an allocator of one.
    """
    if _POOL not in text:
        return ()
    nodes = ast.walk(ast.parse(text))
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    return tuple((node.name, tuple(map(_last_name, node.bases))) for node in classes)


def compared_texts(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the texts that each attribute is compared with, in order."""
    texts: dict[str, dict[str, None]] = {}
    for node in _nodes(text):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute):
            for other in node.comparators:
                for leaf in ast.walk(other):
                    if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
                        texts.setdefault(node.left.attr, {})[leaf.value] = None
    return tuple((name, tuple(found)) for name, found in texts.items())


@lru_cache(maxsize=1)
def _nodes(text: str) -> tuple[ast.AST, ...]:
    """Return the nodes of a module's syntax tree; several facts are learnt from each text."""
    return tuple(ast.walk(ast.parse(text)))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements below a node and the parts that hold them, without expressions."""
    for _, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else ():
            if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                yield child
                yield from _statements(child)


def _attributes_set(text: str) -> Iterator[str]:
    for statement in _statements(ast.parse(text)):
        if not isinstance(statement, ast.Assign) or _last_name(statement.value) != _FORWARD_STREAM:
            continue
        for target in statement.targets:
            if isinstance(target, ast.Attribute) and _last_name(target.value) == _CONTROLLER:
                yield target.attr


def _last_name(expression: ast.expr) -> str:
    """Return the last name of a dotted expression; empty for another expression."""
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""
