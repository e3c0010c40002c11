"""Refactors of names: locals and private functions are called something else."""

import re
from random import Random

import libcst as cst
from libcst.matchers import Name, findall
from typing_extensions import override

from tools.mutation.source.bindings import names_bound_in, uses_in
from tools.mutation.source.edits import SourceEdit, apply_edits
from tools.mutation.source.source_tree import ScopedFunction, SourceTree, SourceUnit


def rename_local(_tree: SourceTree, unit: SourceUnit, random: Random) -> dict[str, str] | None:
    """Rename a local variable of a function."""
    found = [(site, name) for site in unit.functions for name in _renamable_locals(site)]
    if not found:
        return None
    site, name = random.choice(found)
    return _rename_uses(unit, site.node, name, fresh_name(unit, name, random))


def rename_private_function(
    tree: SourceTree, unit: SourceUnit, random: Random
) -> dict[str, str] | None:
    """Rename a private function of a module that nobody else knows."""
    others = [other for other in tree.units if other is not unit]
    found = [
        name
        for site in unit.functions
        if len(site.scopes) == 1 and (name := site.node.name.value).startswith("_")
        if not any(re.search(rf"\b{name}\b", other.source.decode()) for other in others)
        if not _is_bound_elsewhere(unit, name)
    ]
    if not found:
        return None
    name = random.choice(found)
    return _rename_uses(unit, unit.module, name, fresh_name(unit, name, random))


def fresh_name(unit: SourceUnit, name: str, random: Random) -> str:
    """Return a name that the file does not have."""
    while True:
        fresh = f"{name}_{random.randrange(10**6)}"
        if fresh.encode() not in unit.source:
            return fresh


def _renamable_locals(site: ScopedFunction) -> list[str]:
    """Return names that a function assigns and that no scope inside or outside knows as its own."""
    bound = names_bound_in(site.node)
    scan = _FixedNameCollector()
    site.node.visit(scan)
    fixed = scan.parameters | scan.declared | scan.imported | scan.loose | scan.functions
    is_inner = len(site.scopes) > 1 and site.owner is None
    return [] if is_inner else sorted(bound - fixed)


def _is_bound_elsewhere(unit: SourceUnit, name: str) -> bool:
    return any(name in names_bound_in(site.node) for site in unit.functions)


def _rename_uses(unit: SourceUnit, root: cst.CSTNode, name: str, fresh: str) -> dict[str, str]:
    edits = [
        SourceEdit(start=unit.spans[node].start, end=unit.spans[node].end, text=fresh)
        for node in uses_in(root)
        if node.value == name
    ]
    return {unit.file: apply_edits(unit.source, edits).decode()}


class _FixedNameCollector(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.parameters: set[str] = set()
        self.declared: set[str] = set()
        self.imported: set[str] = set()
        self.loose: set[str] = set()
        self.functions: set[str] = set()

    @override
    def visit_Param(self, node: cst.Param) -> None:
        self.parameters.add(node.name.value)

    @override
    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self.functions.add(node.name.value)

    @override
    def visit_NameItem(self, node: cst.NameItem) -> None:
        self.declared.add(node.name.value)

    @override
    def visit_ImportAlias(self, node: cst.ImportAlias) -> None:
        self.imported.add(node.evaluated_name.split(".")[0])
        if isinstance(node.asname, cst.AsName) and isinstance(node.asname.name, cst.Name):
            self.imported.add(node.asname.name.value)

    @override
    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        # A class body reads its own names: what it assigns stays as it is.
        names = findall(node, Name())
        self.loose |= {name.value for name in names if isinstance(name, cst.Name)}
        return False
