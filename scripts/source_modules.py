"""Modules of a source tree, parsed, and the graph of their imports.

`scripts/house_figures.py` defines rooms, arrows, circles and floors.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGES = ("assembler", "traces", "tools")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Module:
    """A parsed source file with its dotted name."""

    name: str
    is_package: bool
    source: str
    tree: ast.Module

    @property
    def folder(self) -> str:
        """Return the dotted name of the directory that contains the file."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Return all nodes."""
        return list(ast.walk(self.tree))

    @cached_property
    def functions(self) -> list[tuple[str, Function]]:
        """Return every function with its qualified name."""
        found: list[tuple[str, Function]] = []

        def visit(node: ast.AST, around: str) -> None:
            for child in ast.iter_child_nodes(node):
                name = around
                if isinstance(child, Function | ast.ClassDef):
                    name = f"{around}.{child.name}"
                if isinstance(child, Function):
                    found.append((name, child))
                visit(child, name)

        visit(self.tree, self.name)
        return found

    @cached_property
    def docstrings(self) -> list[tuple[str, ast.Constant]]:
        """Return the docstrings of the module, its classes and its functions, with their owner."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Module | ast.ClassDef | Function):
                match node.body:
                    case [ast.Expr(value=ast.Constant(value=str()) as text), *_]:
                        found.append((f"{self.name}.{getattr(node, 'name', '')}", text))
                    case _:
                        pass
        return found

    def imports(self) -> Iterator[str]:
        """Yield the dotted names that the module imports."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


Modules = dict[str, Module]


def read_modules(root: Path, top: str) -> Modules:
    """Parse every Python file below one top folder of a tree."""
    modules: Modules = {}
    for path in sorted((root / top).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        source = path.read_text(encoding="utf-8")
        modules[name] = Module(name, is_package, source, ast.parse(source, str(path)))
    return modules


def read_packages(root: Path) -> Modules:
    """Parse the packages of a tree."""
    return {k: v for package in PACKAGES for k, v in read_modules(root, package).items()}


def all_functions(modules: Modules) -> list[tuple[str, Function]]:
    """Return every function with its qualified name."""
    return [found for module in modules.values() for found in module.functions]


def function_lines(function: Function) -> int:
    """Return the number of lines of a function, without its decorators."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def parameter_count(function: Function) -> int:
    """Return the number of parameters without self and cls."""
    named = [*function.args.posonlyargs, *function.args.args]
    has_self = bool(named) and named[0].arg in {"self", "cls"}
    return len(named) - has_self + len(function.args.kwonlyargs)


def is_inside(name: str, folder: str) -> bool:
    """Return whether a dotted name is a folder or lies below it."""
    return name == folder or name.startswith(folder + ".")


def below(modules: Modules, folder: str) -> Modules:
    """Return the modules of a folder and of everything below it."""
    return {name: module for name, module in modules.items() if is_inside(name, folder)}


def folders_of(modules: Modules) -> list[str]:
    """Return every directory that contains one of the modules at any depth."""
    found = set()
    for module in modules.values():
        parts = module.folder.split(".")
        found |= {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return sorted(found)


def label(folder: str) -> str:
    """Return a dotted folder name as a path."""
    return folder.replace(".", "/") + "/"


def import_graph(modules: Modules) -> Graph:
    """Return the modules that each module imports."""

    def resolve(name: str) -> str | None:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name or None

    return {
        name: {found for one in module.imports() if (found := resolve(one))} - {name}
        for name, module in modules.items()
    }


def room_graph(graph: Graph, folder: str) -> Graph:
    """Return the arrows between the rooms of a folder."""
    first = len(folder) + 1
    rooms: Graph = defaultdict(set)
    for source, targets in graph.items():
        if source.startswith(folder + "."):
            room = source[first:].partition(".")[0]
            inside = (target for target in targets if target.startswith(folder + "."))
            rooms[room] |= {target[first:].partition(".")[0] for target in inside} - {room}
    return dict(rooms)


def reachable(graph: Graph, start: str) -> set[str]:
    """Return the members that a chain of arrows leads to."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph[waiting.pop()] - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def components(graph: Graph) -> dict[str, frozenset[str]]:
    """Return the strongly connected component of each member."""
    reach = {start: reachable(graph, start) for start in graph}
    return {
        start: frozenset({start} | {end for end in reach[start] if start in reach[end]})
        for start in graph
    }


def circles(graph: Graph) -> list[list[str]]:
    """Return the components of more than one member."""
    return sorted(sorted(part) for part in set(components(graph).values()) if len(part) > 1)


def floor_count(graph: Graph) -> int:
    """Return the number of components on the longest chain."""
    part_of = components(graph)
    heights: dict[frozenset[str], int] = {}

    def height(part: frozenset[str]) -> int:
        if part not in heights:
            below = {part_of[target] for member in part for target in graph[member]} - {part}
            heights[part] = 1 + max(map(height, below), default=0)
        return heights[part]

    return max(map(height, part_of.values()), default=0)
