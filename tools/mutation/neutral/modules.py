"""Refactors of whole files: moved, and written in another format."""

import ast
import re
from random import Random

import libcst as cst

from tools.mutation.source.source_tree import SourceTree, SourceUnit

_WIDTH = 4


def move_module(tree: SourceTree, unit: SourceUnit, random: Random) -> dict[str, str] | None:
    """Move a module's content to a new one; the old one gives everything out again."""
    if unit.file.endswith("__init__.py"):
        return None
    taken = {other.file for other in tree.units}
    new = unit.file.removesuffix(".py") + f"_moved_{random.randrange(10**6)}.py"
    names = sorted(_exported_names(unit))
    if not names or new in taken:
        return None
    module = new.removesuffix(".py").replace("/", ".")
    lines = "".join(f"    {name},\n" for name in names)
    future = "from __future__ import annotations\n\n" if "__future__" in names else ""
    old = f'"""Moved."""\n\n{future}from {module} import (\n{lines})\n'
    return {new: unit.source.decode(), unit.file: old}


def reformat(_tree: SourceTree, unit: SourceUnit, _random: Random) -> dict[str, str] | None:
    """Write a file in the format of ``ast.unparse``: other lines, other quotes, no comments."""
    text = ast.unparse(ast.parse(unit.source)) + "\n"
    return None if text == unit.source.decode() else {unit.file: text}


def widen(_tree: SourceTree, unit: SourceUnit, random: Random) -> dict[str, str] | None:
    """Write every argument of a call on a line of its own, as formatters do with long calls."""
    found = [site for site in unit.calls if len(site.node.args) > 1 and site.function is not None]
    if not found:
        return None
    site = random.choice(found)
    starts = [unit.spans[argument].start for argument in site.node.args]
    text = unit.source
    for start in reversed(starts):
        text = text[:start] + b"\n" + b" " * _WIDTH + text[start:]
    return None if _is_broken(text) else {unit.file: text.decode()}


def _exported_names(unit: SourceUnit) -> set[str]:
    names = {name for name in unit.module_names if re.fullmatch(r"[A-Za-z_]\w*", name)}
    for line in unit.module.body:
        if isinstance(line, cst.If | cst.Try | cst.With):
            return set()
    return names - {"annotations"}


def _is_broken(text: bytes) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return True
    return False
