"""Marks in the functions of a package: each notes, when it is called, that it is reached.

Modules are compiled with one more statement in each outermost function. That costs a run a few
percent; the interpreter's profiler makes it half as long again.

The module imports the standard library alone: it is used before a worker imports its target.
"""

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

from tools.workers.compiled_modules import compile_modules

# Compiled modules are kept under this name: marks of another form need another one.
_MARK = "__goldentrace_reached__"
_SEPARATOR = ":"


class FunctionMarks:
    """The functions of the modules below a folder that are called from now on.

    Modules that are imported later are concerned. A function within another one is not noted: its
    outermost function has been called before it.

    Args:
        folder: directory of a package.
    """

    def __init__(self, folder: Path) -> None:
        self._reached: set[str] = set()
        self._files: dict[str, set[str]] = {}
        setattr(builtins, _MARK, self._reached.add)
        compile_modules(folder, kind=_MARK, transformed=_marked, on_load=self._note_module)

    def clear(self) -> None:
        """Forget what was reached."""
        self._reached.clear()

    def found(self) -> Iterator[tuple[str, str]]:
        """Yield path and qualified name of each function; an empty name is the module itself.

        Modules with the same content are not told apart.
        """
        for label in list(self._reached):
            content, _, name = label.partition(_SEPARATOR)
            for file in self._files[content]:
                yield file, name

    def has(self, file: str) -> bool:
        """Return whether the functions of a module are marked."""
        return any(file in files for files in self._files.values())

    def _note_module(self, content: str, file: str) -> None:
        self._files.setdefault(content, set()).add(file)
        self._reached.add(content + _SEPARATOR)


def _marked(source: bytes, content: str) -> ast.Module:
    """Return the syntax tree of a module whose content has a name, with marks."""
    tree = ast.parse(source)
    for name, function in _outermost_functions(tree, prefix=""):
        at = 1 if ast.get_docstring(function, clean=False) is not None else 0
        place = function.body[min(at, len(function.body) - 1)]
        call = ast.Call(
            ast.Name(_MARK, ast.Load()), [ast.Constant(content + _SEPARATOR + name)], []
        )
        mark = ast.copy_location(ast.Expr(call), place)
        mark.end_lineno, mark.end_col_offset = place.lineno, place.col_offset
        function.body.insert(at, ast.fix_missing_locations(mark))
    return tree


def _outermost_functions(
    node: ast.AST, *, prefix: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{child.name}", child
        elif isinstance(child, ast.ClassDef):
            yield from _outermost_functions(child, prefix=f"{prefix}{child.name}.")
        else:
            yield from _outermost_functions(child, prefix=prefix)
