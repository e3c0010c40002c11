"""Mutants of ``assembler/`` without one edge of order: a record, a wait or a synchronisation."""

from collections.abc import Iterator
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from tests.mutation import Mutant

EDGES = ("record", "wait_event", "wait_until", "complete", "synchronize")
PLACES = ("assembler/controller", "assembler/transfer", "assembler/device_pools", "assembler/cache")


class _Edges(cst.CSTVisitor):
    """Collects the statements that are nothing but a call of one of ``EDGES``."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self._scopes: list[str] = []
        self.found: list[tuple[cst.Expr, str, int]] = []

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._scopes.append(node.name.value)

    def leave_ClassDef(self, original_node: cst.ClassDef) -> None:
        self._scopes.pop()

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._scopes.append(node.name.value)

    def leave_FunctionDef(self, original_node: cst.FunctionDef) -> None:
        self._scopes.pop()

    def visit_Expr(self, node: cst.Expr) -> None:
        match node.value:
            case cst.Call(func=cst.Attribute(attr=cst.Name(value=name))) if name in EDGES:
                line = self.get_metadata(PositionProvider, node).start.line
                self.found.append((node, ".".join(self._scopes), line))


def edge_mutants(root: Path) -> Iterator[Mutant]:
    """Yield a mutant for every edge, in file and line order."""
    files = [file for place in PLACES for file in sorted((root / place).rglob("*.py"))]
    for file in files:
        name = file.relative_to(root).as_posix()
        wrapper = MetadataWrapper(cst.parse_module(file.read_text(encoding="utf-8")))
        visitor = _Edges()
        wrapper.visit(visitor)
        for statement, function, line in visitor.found:
            text = wrapper.module.code_for_node(statement)
            nothing = statement.with_changes(value=cst.Ellipsis())
            yield Mutant(
                file=name,
                line=line,
                key=f"{name} {function} {text}",
                dropped=text,
                source=wrapper.module.deep_replace(statement, nothing).code,
            )
