"""Changes between two texts of one module, by the functions that they lie in.

Equal syntax trees mean equal code: comments, line ends and blank lines are no change.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

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
    changed = {name for (name, body), (_, another) in pairs if body != another}
    return ModuleChange(
        is_outside=False, functions=frozenset(changed), names=one.names ^ other.names
    )


class _SplitModule:
    """One module, split into the bodies of its outermost functions and the rest.

    Attributes:
        bodies: name and syntax tree of each outermost function's body, in order.
        skeleton: the syntax tree without these bodies.
        traits: whether each function is a generator.
        names: names of variables and attributes that the functions use.
    """

    def __init__(self, text: str) -> None:
        code = compile(text, "<module>", "exec", dont_inherit=True)
        tree = ast.parse(text)
        self.bodies: list[tuple[str, str]] = []
        self._cut_bodies(tree, prefix="")
        self.skeleton = ast.dump(tree)
        inner = [one for one in _nested(code) if one is not code]
        self.traits = [(one.co_qualname, one.co_flags & _GENERATOR_FLAGS) for one in inner]
        self.names = frozenset(name for one in inner for name in one.co_names)

    def _cut_bodies(self, node: ast.AST, *, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _FunctionDef):
                body = ast.dump(ast.Module(body=child.body, type_ignores=[]))
                self.bodies.append((f"{prefix}{child.name}", body))
                child.body = []
                # A default value or decorator may hold no function but a lambda: it stays.
            elif isinstance(child, ast.ClassDef):
                self._cut_bodies(child, prefix=f"{prefix}{child.name}.")
            else:
                self._cut_bodies(child, prefix=prefix)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
