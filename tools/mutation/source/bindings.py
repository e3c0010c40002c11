"""Names in a piece of source: which it uses, and which it binds."""

import libcst as cst
from typing_extensions import override


def simple_name(node: cst.BaseExpression) -> str:
    """Return the last part of what is called: ``write`` of ``self.controller.write``."""
    match node:
        case cst.Name(value=name):
            return name
        case cst.Attribute(attr=cst.Name(value=name)):
            return name
        case cst.Call(func=func):
            return simple_name(func)
        case _:
            return ""


def names_in(node: cst.CSTNode) -> frozenset[str]:
    """Return the names that an expression needs."""
    return frozenset(name.value for name in uses_in(node))


def uses_in(node: cst.CSTNode) -> list[cst.Name]:
    """Return where names stand for variables, in order of the source.

    Attributes, keywords, what an import is called and what a lambda inside binds are none.
    """
    collector = _NameUseCollector()
    node.visit(collector)
    return collector.found


def names_bound_in(function: cst.FunctionDef) -> frozenset[str]:
    """Return the parameters of a function and the names that it assigns."""
    collector = _BoundNameCollector()
    function.params.visit(collector)
    function.body.visit(collector)
    return frozenset(collector.found)


def names_bound_at_top(module: cst.Module) -> set[str]:
    """Return the names that a module binds outside of functions and classes."""
    collector = _BoundNameCollector()
    for statement in module.body:
        match statement:
            case cst.FunctionDef(name=name) | cst.ClassDef(name=name):
                collector.found.add(name.value)
            case _:
                statement.visit(collector)
    return collector.found


class _NameUseCollector(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[cst.Name] = []

    @override
    def visit_Name(self, node: cst.Name) -> None:
        self.found.append(node)

    @override
    def visit_Attribute(self, node: cst.Attribute) -> bool:
        node.value.visit(self)
        return False

    @override
    def visit_Arg(self, node: cst.Arg) -> bool:
        node.value.visit(self)
        return False

    @override
    def visit_ImportAlias(self, node: cst.ImportAlias) -> bool:
        return False

    @override
    def visit_Lambda(self, node: cst.Lambda) -> bool:
        parameters = _all_parameters(node.params)
        for parameter in parameters:
            if parameter.default is not None:
                parameter.default.visit(self)
        bound = {parameter.name.value for parameter in parameters}
        self.found += [name for name in uses_in(node.body) if name.value not in bound]
        return False


class _BoundNameCollector(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    @override
    def visit_Param(self, node: cst.Param) -> None:
        self.found.add(node.name.value)

    @override
    def visit_AssignTarget(self, node: cst.AssignTarget) -> None:
        self.found |= _target_names(node.target)

    @override
    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        self.found |= _target_names(node.target)

    @override
    def visit_For(self, node: cst.For) -> None:
        self.found |= _target_names(node.target)

    @override
    def visit_AsName(self, node: cst.AsName) -> None:
        self.found |= _target_names(node.name)

    @override
    def visit_CompFor(self, node: cst.CompFor) -> None:
        self.found |= _target_names(node.target)

    @override
    def visit_NamedExpr(self, node: cst.NamedExpr) -> None:
        self.found |= _target_names(node.target)

    @override
    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self.found.add(node.name.value)

    @override
    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self.found.add(node.name.value)

    @override
    def visit_ImportAlias(self, node: cst.ImportAlias) -> None:
        if node.asname is None:
            self.found.add(node.evaluated_name.split(".", maxsplit=1)[0])


def _target_names(node: cst.BaseExpression) -> set[str]:
    match node:
        case cst.Name(value=name):
            return {name}
        case cst.Tuple(elements=elements) | cst.List(elements=elements):
            return {name for element in elements for name in _target_names(element.value)}
        case cst.StarredElement(value=value):
            return _target_names(value)
        case _:
            return set()


def _all_parameters(parameters: cst.Parameters) -> list[cst.Param]:
    rest = (parameters.star_arg, parameters.star_kwarg)
    return [
        *parameters.posonly_params,
        *parameters.params,
        *parameters.kwonly_params,
        *(one for one in rest if isinstance(one, cst.Param)),
    ]


_MESSAGE_CALLS = frozenset({"debug", "info", "warning", "error", "exception", "warn", "print"})


def is_message(line: cst.SimpleStatementLine) -> bool:
    """Return whether a line only words an error or a log record, or guards."""
    match line.body[0]:
        case cst.Raise() | cst.Assert():
            return True
        case cst.Expr(value=cst.Call(func=func)):
            return simple_name(func) in _MESSAGE_CALLS
        case _:
            return False
