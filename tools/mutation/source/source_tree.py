"""Source files read with LibCST: calls, statements and functions with their position and scopes."""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import libcst as cst
from libcst.metadata import (
    BaseAssignment,
    ByteSpanPositionProvider,
    ClassScope,
    CodeSpan,
    MetadataWrapper,
    Scope,
    ScopeProvider,
)

from tools.errors import ToolError
from tools.mutation.source.bindings import edges, is_message
from tools.mutation.source.edits import SourceEdit, remove_item, replace_range

_Node = TypeVar("_Node", bound=cst.CSTNode)
_NodeT_co = TypeVar("_NodeT_co", bound=cst.CSTNode, covariant=True)
Definition: TypeAlias = cst.ClassDef | cst.FunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpan:
    """A position in a file: bytes from ``start`` to ``end``, lines from ``first`` to ``last``."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScopedNode(Generic[_NodeT_co]):
    """A node with the functions and classes around it.

    Attributes:
        around: outermost first; a definition is the last of its own.
        statement: span of the simple statement or of the header that the node belongs to.
        is_message: whether the node only words an error or a log record.
    """

    node: _NodeT_co
    around: tuple[Definition, ...]
    statement: SourceSpan
    is_message: bool

    @property
    def scopes(self) -> tuple[str, ...]:
        """Names of the functions and classes around the node, outermost first."""
        return tuple(one.name.value for one in self.around)

    @property
    def function(self) -> cst.FunctionDef | None:
        """The innermost function; None at the top of a module or class."""
        inner = [one for one in self.around if isinstance(one, cst.FunctionDef)]
        return inner[-1] if inner else None

    @property
    def qualname(self) -> str:
        """Dotted name of the function, or ``module``."""
        return ".".join(self.scopes) or "module"


@dataclass(slots=False, eq=False)
class SourceUnit:
    """One source file.

    Attributes:
        file: path under the root, posix.
        source: its bytes.
    """

    file: str
    source: bytes
    _wrapper: MetadataWrapper = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._wrapper = MetadataWrapper(cst.parse_module(self.source), unsafe_skip_copy=True)

    @property
    def module(self) -> cst.Module:
        """The tree; all sites refer to its nodes."""
        return self._wrapper.module

    @cached_property
    def nodes(self) -> tuple[cst.CSTNode, ...]:
        """All nodes in order of the source."""
        return (self.module, *self._parents)

    @cached_property
    def calls(self) -> Sequence[ScopedNode[cst.Call]]:
        """Every call."""
        return [self.site(node) for node in self.nodes if isinstance(node, cst.Call)]

    @cached_property
    def functions(self) -> Sequence[ScopedNode[cst.FunctionDef]]:
        """Every function."""
        return [self.site(node) for node in self.nodes if isinstance(node, cst.FunctionDef)]

    @cached_property
    def statements(self) -> Sequence[ScopedNode[cst.SimpleStatementLine]]:
        """Every line with one small statement."""
        lines = [node for node in self.nodes if isinstance(node, cst.SimpleStatementLine)]
        return [self.site(line) for line in lines if len(line.body) == 1]

    @cached_property
    def module_names(self) -> frozenset[str]:
        """The names that the module binds outside of functions and classes."""
        scope = self._scopes[self.module]
        assert scope is not None
        return frozenset(one.name for one in scope.assignments)

    def span(self, node: cst.CSTNode) -> SourceSpan:
        """Return the position of a node; the parentheses around an expression lie outside."""
        extent = self._bytes[node]
        start, end = extent.start, extent.start + extent.length
        return SourceSpan(start=start, end=end, first=self._line_at(start), last=self._line_at(end))

    def text(self, node: cst.CSTNode) -> str:
        """Return the text of a node."""
        span = self.span(node)
        return self.source[span.start : span.end].decode()

    def line(self, node: cst.CSTNode) -> str:
        """Return the text of a node on one line."""
        return " ".join(self.text(node).split())

    def replace(self, node: cst.CSTNode, text: str) -> SourceEdit:
        """Return the edit that puts a text in the place of a node."""
        span = self.span(node)
        return replace_range(self.source, span.start, span.end, text)

    def remove(self, node: cst.CSTNode) -> SourceEdit:
        """Return the edit that removes an item of a list."""
        span = self.span(node)
        return remove_item(self.source, span.start, span.end)

    def site(self, node: _Node) -> ScopedNode[_Node]:
        """Return a node with what is around it."""
        own = self.span(node)
        chain: list[cst.CSTNode] = [node]
        while chain[-1] in self._parents:
            chain.append(self._parents[chain[-1]])
        lines = [one for one in chain if isinstance(one, cst.SimpleStatementLine)]
        around = [one for one in chain if isinstance(one, cst.ClassDef | cst.FunctionDef)]
        inner = next((one for one in around if isinstance(one, cst.FunctionDef)), None)
        statement = own
        if lines:
            statement = self.span(lines[0])
        elif inner is not None:
            header = self._header(inner)
            statement = header if inner is node or header.end >= own.end else own
        is_words, scopes = any(map(is_message, lines)), tuple(reversed(around))
        return ScopedNode(node=node, around=scopes, statement=statement, is_message=is_words)

    def next_line(self, line: cst.SimpleStatementLine) -> cst.SimpleStatementLine | None:
        """Return the statement that follows in the same block, if it is a simple one."""
        block = self._parents[line]
        body = list(getattr(block, "body", ()))
        after = body[body.index(line) + 1 :][:1]
        return after[0] if after and isinstance(after[0], cst.SimpleStatementLine) else None

    def line_of(self, node: cst.CSTNode) -> cst.SimpleStatementLine | None:
        """Return the simple statement that a node lies in; None for a header."""
        while node in self._parents:
            if isinstance(node, cst.SimpleStatementLine):
                return node
            node = self._parents[node]
        return None

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return the node around a node; None for the module."""
        return self._parents.get(node)

    def local_names(self, node: cst.CSTNode) -> frozenset[str]:
        """Return the names that are bound in the functions around a node."""
        scope, found = self._scopes[node], set[str]()
        while scope is not None and scope is not scope.globals:
            if not isinstance(scope, ClassScope):
                found |= {one.name for one in scope.assignments}
            scope = scope.parent
        return frozenset(found)

    def assignments(self, inside: cst.CSTNode) -> dict[str, list[BaseAssignment]]:
        """Return the assignments of the scope that a node lies in, by name."""
        scope = self._scopes[inside]
        assert scope is not None
        found: dict[str, list[BaseAssignment]] = {}
        for one in scope.assignments:
            found.setdefault(one.name, []).append(one)
        return found

    # Providers of LibCST for parents and lines visit all nodes once more each, which takes longer.
    @cached_property
    def _parents(self) -> dict[cst.CSTNode, cst.CSTNode]:
        """The node around each node, in order of the source."""
        return {child: node for node, child in edges(self.module)}

    @cached_property
    def _bytes(self) -> Mapping[cst.CSTNode, CodeSpan]:
        return self._wrapper.resolve(ByteSpanPositionProvider)

    @cached_property
    def _line_ends(self) -> list[int]:
        return [found.start() for found in re.finditer(b"\n", self.source)]

    def _line_at(self, offset: int) -> int:
        return bisect_left(self._line_ends, offset) + 1

    @cached_property
    def _scopes(self) -> "dict[cst.CSTNode, Scope | None]":
        return dict(self._wrapper.resolve(ScopeProvider))

    def _header(self, function: cst.FunctionDef) -> SourceSpan:
        first = self.span(function.name).first
        return replace(self.span(function), end=self._bytes[function.body].start, first=first)


def read_unit(root: Path, file: str) -> SourceUnit:
    """Read one file.

    Raises:
        ToolError: it is no source that can be parsed.
    """
    try:
        return SourceUnit(file, (root / file).read_bytes())
    except (OSError, cst.ParserSyntaxError) as error:
        raise ToolError(file, "must be readable", expected="Python source", got=error) from error
