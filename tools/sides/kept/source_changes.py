"""Changes between two texts of one module, by the functions that they lie in.

Equal syntax trees and equal bytecode mean equal code: comments, blank lines and the types of local
variables are no change. A docstring is one: a run may read it.
"""

import __future__

import ast
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from types import CodeType

from tools.bytecode import is_same_code

_FunctionDef = ast.FunctionDef | ast.AsyncFunctionDef
_GENERATOR_FLAGS = 0x20 | 0x80 | 0x200


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleChange:
    """Differences between two texts of one module.

    Attributes:
        is_outside: whether code outside the bodies of functions differs, or something that is read
            from functions without running them: parameters, decorators, whether one is a generator.
        functions: qualified names of the functions of modules and classes whose bodies differ.
        names: names that the functions of only one of the texts use.
    """

    is_outside: bool
    functions: frozenset[str]
    names: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """True if both texts are the same code."""
        return not self.is_outside and not self.functions


EVERYTHING = ModuleChange(is_outside=True, functions=frozenset())


def compare_modules(base: str | None, head: str | None) -> ModuleChange:
    """Return what differs between two texts; everything when one cannot be read or compiled."""
    if base is None or head is None:
        return EVERYTHING
    try:
        one, other = _SplitModule(base), _SplitModule(head)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return EVERYTHING
    if one.skeleton != other.skeleton or one.traits != other.traits:
        return EVERYTHING
    pairs = zip(one.bodies, other.bodies, strict=True)
    changed = {one.name for one, another in pairs if not one.is_same(another)}
    return ModuleChange(
        is_outside=False, functions=frozenset(changed), names=one.names ^ other.names
    )


def changed_functions(base: str | None, head: str | None) -> frozenset[str]:
    """Return the functions of both texts whose bodies differ, whatever else differs.

    None when a text cannot be read or compiled.
    """
    if base is None or head is None:
        return frozenset()
    try:
        one, other = _SplitModule(base), _SplitModule(head)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    before, after = one.bodies_by_name(), other.bodies_by_name()
    return frozenset(
        name
        for name in before.keys() & after.keys()
        if len(before[name]) != len(after[name])
        or not all(map(_Body.is_same, before[name], after[name]))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """The body of one outermost function: its syntax tree as text, and within a bare function."""

    name: str
    text: str
    function: _FunctionDef
    flags: int  # of the compiler: whether annotations are kept as text

    def is_same(self, other: "_Body") -> bool:
        """Return whether two bodies are the same code, wherever their lines are."""
        return self.text == other.text or is_same_code(self.code(), other.code())

    def code(self) -> CodeType:
        """Return the compiled function, without its decorators."""
        module = ast.Module(body=[self.function], type_ignores=[])
        code: CodeType = compile(module, "<function>", "exec", flags=self.flags, dont_inherit=True)
        return code


class _SplitModule:
    """One module, split into the bodies of its outermost functions and the rest.

    Attributes:
        bodies: the body of each outermost function, in order.
        skeleton: the syntax tree without these bodies.
        traits: whether each function is a generator.
        names: names of variables and attributes that the functions use.
    """

    def __init__(self, text: str) -> None:
        code = compile(text, "<module>", "exec", dont_inherit=True)
        tree = ast.parse(text)
        self.bodies: list[_Body] = []
        self._flags = code.co_flags & __future__.annotations.compiler_flag
        self._cut_bodies(tree, prefix="")
        self.skeleton = ast.dump(tree)
        inner = [one for one in _nested(code) if one is not code]
        self.traits = [(one.co_qualname, one.co_flags & _GENERATOR_FLAGS) for one in inner]
        self.names = frozenset(name for one in inner for name in one.co_names)

    def bodies_by_name(self) -> dict[str, list[_Body]]:
        """Return the bodies by name: a property and its setter have the same one."""
        found: dict[str, list[_Body]] = {}
        for body in self.bodies:
            found.setdefault(body.name, []).append(body)
        return found

    def _cut_bodies(self, node: ast.AST, *, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _FunctionDef):
                self.bodies.append(self._body(child, prefix=prefix))
                child.body = []
                # A default value or decorator may hold no function but a lambda: it stays.
            elif isinstance(child, ast.ClassDef):
                self._cut_bodies(child, prefix=f"{prefix}{child.name}.")
            else:
                self._cut_bodies(child, prefix=prefix)

    def _body(self, child: _FunctionDef, *, prefix: str) -> _Body:
        bare = copy(child)
        bare.decorator_list = []
        return _Body(
            name=f"{prefix}{child.name}",
            text=ast.dump(ast.Module(body=child.body, type_ignores=[])),
            function=bare,
            flags=self._flags,
        )


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
