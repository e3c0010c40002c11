"""The code of a release that holds, builds and moves KV caches: found by imports and classes."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tools.errors import ToolError
from tools.mutation.generator import MutationScope

CACHE_PACKAGE = "sglang/srt/mem_cache"
_CACHE_MODULE = CACHE_PACKAGE.replace("/", ".")
_SEARCHED = "sglang/srt"
_POINTER = "data_ptr"


@dataclass(slots=False, eq=False)
class _ParsedModule:
    """One module of the release.

    Attributes:
        file: path under the root, posix.
    """

    file: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Dotted name of the module."""
        return self.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @cached_property
    def imports(self) -> frozenset[str]:
        """Names of the modules that it imports, and of what it imports from them."""
        found = set[str]()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        return frozenset(found)

    @cached_property
    def classes(self) -> tuple[ast.ClassDef, ...]:
        """All classes that it defines."""
        return tuple(node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))


def release_scope(root: Path) -> MutationScope:
    """Return the mutated part of the release under a root.

    It is every module of the cache package; every module that the cache package imports and that
    imports pool classes of it (controllers); and, in other modules, the functions that construct
    such a pool or ask one for its pointers. A pool class is one that reads the address of a tensor,
    or is derived from one that does.

    Raises:
        ToolError: a module cannot be parsed.
    """
    modules = list(_parsed_modules(root))
    inside = [one for one in modules if one.file.startswith(f"{CACHE_PACKAGE}/")]
    outside = [one for one in modules if not one.file.startswith(f"{CACHE_PACKAGE}/")]
    classes = [node for one in inside for node in one.classes]
    pools = _pool_classes(classes)
    pointer_methods = _pointer_methods(node for node in classes if node.name in pools)
    imported = frozenset[str]().union(*(one.imports for one in inside))
    whole = [one.file for one in inside]
    partly: dict[str, frozenset[str]] = {}
    for one in outside:
        if one.name in imported and _imports_pool(one, pools):
            whole.append(one.file)
        elif functions := _functions_using(one.tree, pools | pointer_methods):
            partly[one.file] = functions
    return MutationScope(
        files=tuple(sorted((*whole, *partly))),
        wiring_paths=(_SEARCHED,),
        wiring_functions=(),
        ordering_paths=(_SEARCHED,),
        functions=partly,
        optional_parameters=_optional_parameters(classes),
    )


def _parsed_modules(root: Path) -> Iterator[_ParsedModule]:
    """Yield the modules of the release that mention the cache package, tests left out."""
    for path in sorted((root / _SEARCHED).rglob("*.py")):
        file = path.relative_to(root).as_posix()
        parts = Path(file).parts
        if any(one == "tests" or one.startswith("test_") for one in parts):
            continue
        if parts[-1].endswith("_test.py"):
            continue
        source = path.read_bytes()
        if file.startswith(f"{CACHE_PACKAGE}/") or _CACHE_MODULE.encode() in source:
            try:
                yield _ParsedModule(file, ast.parse(source))
            except SyntaxError as error:
                rule = "must be readable"
                raise ToolError(file, rule, expected="Python source", got=error) from error


def _pool_classes(classes: Iterable[ast.ClassDef]) -> frozenset[str]:
    """Return the names of the classes that read addresses of tensors, and of derived ones."""
    bases = {node.name: {_last_name(base) for base in node.bases} for node in classes}
    found = {node.name for node in classes if _mentions(node, _POINTER)}
    while more := {name for name, above in bases.items() if name not in found and above & found}:
        found |= more
    return frozenset(found)


def _pointer_methods(classes: Iterable[ast.ClassDef]) -> frozenset[str]:
    """Return the names of public methods that read addresses and return several values."""
    return frozenset(
        node.name
        for owner in classes
        for node in owner.body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and _mentions(node, _POINTER)
        and any(
            isinstance(one, ast.Return) and isinstance(one.value, ast.Tuple)
            for one in ast.walk(node)
        )
    )


def _imports_pool(module: _ParsedModule, pools: frozenset[str]) -> bool:
    prefix = f"{_CACHE_MODULE}."
    return any(
        name.startswith(prefix) and name.rpartition(".")[2] in pools for name in module.imports
    )


def _functions_using(tree: ast.Module, names: frozenset[str]) -> frozenset[str]:
    """Return the names of the functions that call one of some names."""
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(
            isinstance(one, ast.Call) and _last_name(one.func) in names for one in ast.walk(node)
        )
    )


def _optional_parameters(classes: Iterable[ast.ClassDef]) -> Mapping[str, frozenset[str]]:
    """Return by class the keywords that a call of it may leave out; classes of one name only."""
    by_name: dict[str, list[ast.ClassDef]] = {}
    for node in classes:
        by_name.setdefault(node.name, []).append(node)
    single = {name: nodes[0] for name, nodes in by_name.items() if len(nodes) == 1}
    return {name: _optional_of(name, single, seen=frozenset()) for name in single}


def _optional_of(
    name: str, classes: Mapping[str, ast.ClassDef], *, seen: frozenset[str]
) -> frozenset[str]:
    if name not in classes or name in seen:
        return frozenset()
    node, own = classes[name], frozenset[str]()
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _defaulted(statement.args)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            own |= {statement.target.id} if statement.value is not None else set()
    return own.union(
        *(_optional_of(_last_name(base), classes, seen=seen | {name}) for base in node.bases)
    )


def _defaulted(arguments: ast.arguments) -> frozenset[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    found = {one.arg for one in positional[len(positional) - len(arguments.defaults) :]}
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return frozenset(found | {one.arg for one, default in pairs if default is not None})


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return _last_name(value)
        case _:
            return ""


def _mentions(node: ast.AST, attribute: str) -> bool:
    return any(isinstance(one, ast.Attribute) and one.attr == attribute for one in ast.walk(node))
