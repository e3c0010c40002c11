"""Names in expressions, and statements that only report something."""

from collections.abc import Iterator

import libcst as cst

_MESSAGE_CALLS = frozenset({"debug", "info", "warning", "error", "exception", "warn", "print"})


def simple_name(node: cst.BaseExpression) -> str:
    """Return the last part of a dotted name or callee: ``write`` of ``self.controller.write()``."""
    match node:
        case cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name)):
            return name
        case cst.Call(func=func):
            return simple_name(func)
        case _:
            return ""


def dotted_name(node: cst.BaseExpression) -> str:
    """Return a name with its attributes, ``self.stream``; empty for other expressions."""
    match node:
        case cst.Name(value=name):
            return name
        case cst.Attribute(value=value, attr=cst.Name(value=name)):
            return f"{dotted_name(value)}.{name}"
        case _:
            return ""


def names_in(node: cst.CSTNode) -> frozenset[str]:
    """Return the names that an expression looks up."""
    return frozenset(name.value for name in name_uses(node))


def name_uses(node: cst.CSTNode) -> Iterator[cst.Name]:
    """Yield the names that stand for variables, in order of the source.

    Attributes, keywords, import aliases and the parameters of a lambda inside do not count.
    """
    match node:
        case cst.Name():
            yield node
        case cst.Attribute(value=value) | cst.Arg(value=value):
            yield from name_uses(value)
        case cst.ImportAlias():
            return
        case cst.Lambda(params=parameters, body=body):
            bound = {
                one.name.value for one in descendants(parameters) if isinstance(one, cst.Param)
            }
            uses = (*name_uses(parameters), *name_uses(body))
            yield from (name for name in uses if name.value not in bound)
        case _:
            for child in node.children:
                yield from name_uses(child)


def descendants(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield a node and all nodes below it, in order of the source."""
    yield node
    yield from (child for _, child in edges(node))


def edges(node: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    """Yield every node below a node behind the one around it, in order of the source."""
    waiting = [(node, child) for child in reversed(node.children)]
    while waiting:
        edge = waiting.pop()
        yield edge
        inner = edge[1]
        waiting += [(inner, child) for child in reversed(inner.children)]


def is_message(line: cst.SimpleStatementLine) -> bool:
    """Return whether a line only raises or asserts, or logs or prints something."""
    match line.body[0]:
        case cst.Raise() | cst.Assert():
            return True
        case cst.Expr(value=cst.Call(func=func)):
            return simple_name(func) in _MESSAGE_CALLS
        case _:
            return False
