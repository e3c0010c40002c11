"""Installation of mutated text: in imported modules, or in a copy of the package."""

import importlib
import inspect
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from typing_extensions import override

from tools.bytecode import is_same_code, is_same_outside_functions


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
class _TextFinder:
    """Finder of modules that have other texts, by name; they lie where they always lay."""

    texts: Mapping[str, str]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Return the location of one of the modules with its text; None for everything else."""
        text = self.texts.get(fullname)
        spec = None if text is None else PathFinder.find_spec(fullname, path)
        if text is None or spec is None or spec.origin is None:
            return None
        spec.loader = _TextLoader(fullname, spec.origin, text)
        return spec


class _TextLoader(SourceFileLoader):
    """Loader of a module with another text than that of its file."""

    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self._text = text

    @override
    def get_code(self, fullname: str) -> CodeType:
        return _compiled(self._text, str(self.path))


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


def link_tree(root: Path, texts: Mapping[str, str], *, package: str, to: Path) -> None:
    """Make a tree that has a package with other texts in it, without a copy of all of it.

    Directories without a changed file are links. Modules beside a changed file are copied with
    their times, so that their compiled code is used again; what runs the tree must write none.
    """
    changed = {to / file: text for file, text in texts.items()}
    above = {folder for file in changed for folder in file.parents}
    _link_folder(root / package, to / package, above)
    for file, text in changed.items():
        file.write_text(text, encoding="utf-8")


def _link_folder(source: Path, folder: Path, above: Collection[Path]) -> None:
    folder.mkdir(parents=True)
    for entry in source.iterdir():
        new = folder / entry.name
        if new in above:
            _link_folder(entry, new, above)
        elif entry.suffix == ".py":
            shutil.copy2(entry, new)
        else:
            new.symlink_to(entry)


def swap_code(root: Path, texts: Mapping[str, str]) -> bool:
    """Give the functions of imported modules the code of another text.

    The functions stay the same objects, so every reference to one, by any import, runs the mutated
    code. A module that is not imported yet is imported from its text when something asks for it.
    Returns False, with nothing changed, when :func:`can_swap` does.
    """
    swaps = _swaps(root, texts)
    if swaps is None:
        return False
    for function, code in swaps:
        function.__code__ = code
    later = {module_name_of(file): text for file, text in texts.items()}
    later = {name: text for name, text in later.items() if name not in sys.modules}
    if later:
        sys.meta_path.insert(0, _TextFinder(later))
    return True


def can_swap(root: Path, texts: Mapping[str, str]) -> bool:
    """Return whether only functions differ that can be found and close over the same names.

    Forks of this process that call :func:`swap_code` need not compile these texts again.
    """
    return _swaps(root, texts) is not None


def _swaps(root: Path, texts: Mapping[str, str]) -> list[tuple[FunctionType, CodeType]] | None:
    swaps: list[tuple[FunctionType, CodeType]] = []
    for file, text in texts.items():
        module = sys.modules.get(module_name_of(file))
        if module is None:
            _compiled(text, str(root / file))
            continue
        found = _changed_functions(module, root / file, text)
        if found is None:
            return None
        swaps += found
    return swaps


@lru_cache(maxsize=32)
def _compiled(text: str, path: str) -> CodeType:
    return compile(text, path, "exec", dont_inherit=True)


def _changed_functions(
    module: ModuleType, file: Path, text: str
) -> list[tuple[FunctionType, CodeType]] | None:
    """Return the functions of a module whose code or lines differ, with their new code."""
    # Under the path of the module: recorded locations are relative to its root.
    path = module.__file__ or str(file)
    new, old = _compiled(text, path), _compiled(file.read_text(encoding="utf-8"), path)
    before, after = _function_codes(old), _function_codes(new)
    if before.keys() != after.keys() or not is_same_outside_functions(old, new):
        return None
    ours = _functions(vars(module), module.__name__)
    found = []
    for name, codes in after.items():
        if codes == before[name]:
            continue
        is_single = len(codes) == 1 and len(before[name]) == 1
        function = ours.get(name) if is_single else None
        if function is not None and function.__code__.co_freevars == codes[0].co_freevars:
            found.append((function, codes[0]))
        elif not _do_same(before[name], codes):
            return None
    return found


def _do_same(before: Sequence[CodeType], after: Sequence[CodeType]) -> bool:
    """Return whether functions of one name do the same; lines are not compared."""
    return len(before) == len(after) and all(map(is_same_code, before, after))


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


def _function_codes(module: CodeType) -> dict[str, list[CodeType]]:
    """Return the code of every function of a module and of its classes.

    A name has several where a property has a setter, or a branch defines it in another way.
    """
    found: dict[str, list[CodeType]] = {}
    for code in (constant for constant in module.co_consts if isinstance(constant, CodeType)):
        if code.co_flags & inspect.CO_OPTIMIZED:
            found.setdefault(code.co_qualname, []).append(code)
        else:
            for name, inner in _function_codes(code).items():
                found.setdefault(name, []).extend(inner)
    return found
