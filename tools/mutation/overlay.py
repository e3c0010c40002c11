"""Puts mutated text in the place of modules: before they are imported, or in those that are."""

import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from tools.errors import ToolError


class _TextLoader(SourceFileLoader):
    """Loads one module from another text; its path, and so every location, stays the same."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)


class Overlay:
    """Finds modules that have another text, and modules that are only text.

    Args:
        root: directory that holds the package.
        texts: by path under the root.
    """

    def __init__(self, root: Path, texts: Mapping[str, str]) -> None:
        self._root = root
        self._texts = {dotted(file): (file, text) for file, text in texts.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Return where a module with another text lies; None for all others."""
        if fullname not in self._texts:
            return None
        file, text = self._texts[fullname]
        loader = _TextLoader(fullname, str(self._root / file), text)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            return spec_from_loader(fullname, loader)
        spec.loader = loader
        return spec


def dotted(file: str) -> str:
    """Return the name of the module that a path under the root is."""
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def swap_in(root: Path, texts: Mapping[str, str]) -> None:
    """Give imported modules another text: their functions keep their identity and get new code.

    Everything that holds a function, by whatever import, has the mutated one from then on.

    Raises:
        ToolError: a function closes over other names than before.
    """
    for file, text in texts.items():
        module = sys.modules.get(dotted(file))
        if module is None:
            continue
        fresh = ModuleType(module.__name__)
        fresh.__file__, fresh.__package__ = module.__file__, module.__package__
        # The code must lie where the module does: the recorder's places are relative to it.
        path = module.__file__ or str(root / file)
        exec(compile(text, path, "exec", dont_inherit=True), fresh.__dict__)  # noqa: S102
        _swap(vars(module), vars(fresh), owner=module.__name__, seen=set())


def _swap(
    old: Mapping[str, object], new: Mapping[str, object], *, owner: str, seen: set[int]
) -> None:
    for name, value in old.items():
        other = new.get(name)
        if isinstance(value, type) and isinstance(other, type) and value.__module__ == owner:
            if id(value) not in seen:
                seen.add(id(value))
                _swap(vars(value), vars(other), owner=owner, seen=seen)
            continue
        function, its = _function(value), _function(other)
        if function is not None and its is not None and function.__module__ == owner:
            _replace(function, its)


def _function(value: object) -> FunctionType | None:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    return value if isinstance(value, FunctionType) else None


def _replace(function: FunctionType, other: FunctionType) -> None:
    if len(function.__code__.co_freevars) != len(other.__code__.co_freevars):
        raise ToolError(
            function.__qualname__,
            "must close over as many names as before",
            expected=function.__code__.co_freevars,
            got=other.__code__.co_freevars,
        )
    function.__code__ = other.__code__
    function.__defaults__ = other.__defaults__
    function.__kwdefaults__ = other.__kwdefaults__
