"""Installation of mutated text: in imported modules, or in a copy of the package."""

import importlib
import inspect
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from tools.mutation.source.bytecode import is_same_code, is_same_outside_functions


def module_name_of(file: str) -> str:
    """Return the name of the module that a path under the root is."""
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def copy_tree(root: Path, texts: Mapping[str, str], *, package: str, to: Path) -> None:
    """Make a copy of a package with other texts in it, new files among them."""
    shutil.copytree(root / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in texts.items():
        (to / file).write_text(text, encoding="utf-8")


def reimport_from(root: Path, *, packages: Sequence[str]) -> None:
    """Unload packages, so that they are imported again, from another root if they are there."""
    for name in list(sys.modules):
        if any(name == package or name.startswith(f"{package}.") for package in packages):
            del sys.modules[name]
    # Before the finder of a worker in another interpreter, which finds our unchanged packages.
    sys.meta_path.insert(0, _RootFinder(root, packages))
    importlib.invalidate_caches()


@dataclass(frozen=True, slots=True)
class _RootFinder:
    """Finder of packages under a root, before other packages of the same names."""

    root: Path
    packages: Sequence[str]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Return the location of one of the packages; None for everything else."""
        if path is not None or fullname not in self.packages:
            return None
        return PathFinder.find_spec(fullname, [str(self.root)], target)


def swap_code(root: Path, texts: Mapping[str, str]) -> bool:
    """Give the functions of imported modules the code of another text.

    The functions stay the same objects, so every reference to one, by any import, runs the mutated
    code. Returns False, with nothing changed, when more than functions differ or when one closes
    over other names.
    """
    swaps: list[tuple[FunctionType, FunctionType]] = []
    for file, text in texts.items():
        module = sys.modules.get(module_name_of(file))
        if module is None:
            continue
        found = _function_pairs(module, root / file, text)
        if found is None:
            return False
        swaps += found
    for function, other in swaps:
        function.__code__ = other.__code__
        function.__defaults__ = other.__defaults__
        function.__kwdefaults__ = other.__kwdefaults__
    return True


def _function_pairs(
    module: ModuleType, file: Path, text: str
) -> list[tuple[FunctionType, FunctionType]] | None:
    # Under the path of the module: recorded locations are relative to its root.
    path = module.__file__ or str(file)
    new = compile(text, path, "exec", dont_inherit=True)
    old = compile(file.read_bytes(), path, "exec", dont_inherit=True)
    fresh = ModuleType(module.__name__)
    fresh.__file__, fresh.__package__ = module.__file__, module.__package__
    # The decorator of a dataclass looks its module up in sys.modules.
    sys.modules[module.__name__] = fresh
    try:
        exec(new, fresh.__dict__)
    finally:
        sys.modules[module.__name__] = module
    ours, theirs = (_functions(vars(one), module.__name__) for one in (module, fresh))
    before, after = _function_codes(old), _function_codes(new)
    same = {name for name in before.keys() & after if is_same_code(before[name], after[name])}
    changed = after.keys() - same
    if changed - ours.keys() & theirs.keys() or not is_same_outside_functions(old, new):
        return None
    pairs = [(ours[name], theirs[name]) for name in sorted(ours.keys() & theirs.keys())]
    free = [[len(one.__code__.co_freevars) for one in pair] for pair in pairs]
    return None if any(one != other for one, other in free) else pairs


def _functions(names: Mapping[str, object], owner: str) -> dict[str, FunctionType]:
    """Return the functions of a module or class by qualified name, decorated ones unwrapped."""
    found: dict[str, FunctionType] = {}
    for value in names.values():
        if isinstance(value, type):
            if value.__module__ == owner:
                found |= _functions(vars(value), owner)
            continue
        function = _unwrap_function(value)
        if function is not None and function.__module__ == owner:
            found.setdefault(function.__qualname__, function)
    return found


def _unwrap_function(value: object) -> FunctionType | None:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property | cached_property):
        value = value.fget if isinstance(value, property) else value.func
    if callable(value):
        value = inspect.unwrap(value)
    return value if isinstance(value, FunctionType) else None


def _function_codes(module: CodeType) -> dict[str, CodeType]:
    """Return the code of every function of a module and of its classes."""
    found: dict[str, CodeType] = {}
    for code in (constant for constant in module.co_consts if isinstance(constant, CodeType)):
        if code.co_flags & inspect.CO_OPTIMIZED:
            found[code.co_qualname] = code
        else:
            found |= _function_codes(code)
    return found
