"""Source files read with LibCST: calls, statements and functions, each with its place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypedDict

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider
from typing_extensions import override

from tools.errors import ToolError
from tools.mutation.source.bindings import is_message, names_bound_at_top, simple_name


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpan:
    """Where a node stands: bytes from ``start`` to ``end``, lines from ``first`` to ``last``."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScopedNode:
    """A node inside functions and classes.

    Attributes:
        scopes: names of classes and functions around it, outermost first.
        classes: those of them that are classes.
        function: the innermost function; None at the top of a module or class.
        statement: the simple statement or the header it belongs to.
        only_words: whether it only words an error or a message.
    """

    scopes: tuple[str, ...]
    classes: tuple[str, ...]
    function: cst.FunctionDef | None
    statement: SourceSpan
    only_words: bool

    @property
    def qualname(self) -> str:
        """Dotted name of the function, or ``module``."""
        return ".".join(self.scopes) or "module"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScopedCall(ScopedNode):
    """A call."""

    node: cst.Call


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScopedDisplay(ScopedNode):
    """A list, tuple or dictionary written out."""

    node: cst.List | cst.Tuple | cst.Dict


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScopedFunction(ScopedNode):
    """A function; its own name is the last of ``scopes``, ``owner`` the class it is defined in."""

    node: cst.FunctionDef
    owner: cst.ClassDef | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScopedStatement(ScopedNode):
    """A line with one small statement; ``after`` is the next one in the same block, if simple."""

    node: cst.SimpleStatementLine
    after: cst.SimpleStatementLine | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceUnit:
    """One source file.

    Attributes:
        file: path under the root, posix.
        source: its bytes.
        module: its tree; sites refer to nodes of it.
    """

    file: str
    source: bytes
    module: cst.Module
    spans: Mapping[cst.CSTNode, SourceSpan]
    calls: Sequence[ScopedCall]
    displays: Sequence[ScopedDisplay]
    functions: Sequence[ScopedFunction]
    statements: Sequence[ScopedStatement]
    classes: Sequence[cst.ClassDef]
    module_names: frozenset[str]

    def text(self, node: cst.CSTNode) -> str:
        """Return the text of a node on one line."""
        span = self.spans[node]
        return " ".join(self.source[span.start : span.end].decode().split())


def read_unit(root: Path, file: str) -> SourceUnit:
    """Read one file.

    Raises:
        ToolError: it is no source that can be parsed.
    """
    try:
        return parse_unit((root / file).read_bytes(), file=file)
    except (OSError, cst.ParserSyntaxError) as error:
        raise ToolError(file, "must be readable", expected="Python source", got=error) from error


def parse_unit(source: bytes, *, file: str) -> SourceUnit:
    """Read source text."""
    wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    collector = _NodeCollector()
    wrapper.visit(collector)
    module_names = frozenset(names_bound_at_top(wrapper.module))
    return SourceUnit(
        file=file,
        source=source,
        module=wrapper.module,
        spans=collector.spans,
        calls=collector.calls,
        displays=collector.displays,
        functions=collector.functions,
        statements=collector.statements,
        classes=collector.classes,
        module_names=module_names,
    )


class _NodeContext(TypedDict):
    scopes: tuple[str, ...]
    classes: tuple[str, ...]
    function: cst.FunctionDef | None
    statement: SourceSpan
    only_words: bool


class _NodeCollector(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider, ByteSpanPositionProvider)

    def __init__(self) -> None:
        super().__init__()
        self.spans: dict[cst.CSTNode, SourceSpan] = {}
        self.calls: list[ScopedCall] = []
        self.displays: list[ScopedDisplay] = []
        self.functions: list[ScopedFunction] = []
        self.statements: list[ScopedStatement] = []
        self.classes: list[cst.ClassDef] = []
        self._scopes: list[cst.ClassDef | cst.FunctionDef] = []
        self._statements: list[SourceSpan] = []
        self._message_depth = 0
        self._next: dict[cst.CSTNode, cst.SimpleStatementLine | None] = {}

    @override
    def on_visit(self, node: cst.CSTNode) -> bool:
        position = self.get_metadata(PositionProvider, node, None)
        extent = self.get_metadata(ByteSpanPositionProvider, node, None)
        if position is not None and extent is not None:
            self.spans[node] = SourceSpan(
                start=extent.start,
                end=extent.start + extent.length,
                first=position.start.line,
                last=position.end.line,
            )
        return bool(super().on_visit(node))

    def _context(self, *, statement: SourceSpan, only_words: bool) -> _NodeContext:
        """Return what every site of this moment has."""
        functions = [scope for scope in self._scopes if isinstance(scope, cst.FunctionDef)]
        classes = [scope for scope in self._scopes if isinstance(scope, cst.ClassDef)]
        return {
            "scopes": tuple(scope.name.value for scope in self._scopes),
            "classes": tuple(scope.name.value for scope in classes),
            "function": functions[-1] if functions else None,
            "statement": statement,
            "only_words": only_words,
        }

    def _expression_context(self, node: cst.CSTNode) -> _NodeContext:
        """Return what the site of an expression has."""
        return self._context(statement=self._statement_of(node), only_words=self._message_depth > 0)

    @override
    def visit_Module(self, node: cst.Module) -> None:
        self._link_statements(node.body)

    @override
    def visit_IndentedBlock(self, node: cst.IndentedBlock) -> None:
        self._link_statements(node.body)

    def _link_statements(self, body: Sequence[cst.BaseStatement]) -> None:
        for statement, after in zip(body, [*body[1:], None], strict=True):
            self._next[statement] = after if isinstance(after, cst.SimpleStatementLine) else None

    @override
    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self.classes.append(node)
        self._scopes.append(node)

    @override
    def leave_ClassDef(self, original_node: cst.ClassDef) -> None:
        self._scopes.pop()

    @override
    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        owner = self._scopes[-1] if self._scopes else None
        self._scopes.append(node)
        span = self.spans[node]
        header = SourceSpan(
            start=span.start,
            end=self.get_metadata(ByteSpanPositionProvider, node.body).start,
            first=self.get_metadata(PositionProvider, node.name).start.line,
            last=span.last,
        )
        self._statements.append(header)
        self.functions.append(
            ScopedFunction(
                **self._context(statement=header, only_words=False),
                node=node,
                owner=owner if isinstance(owner, cst.ClassDef) else None,
            )
        )

    @override
    def leave_FunctionDef(self, original_node: cst.FunctionDef) -> None:
        self._scopes.pop()
        self._statements.pop()

    @override
    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        self._statements.append(self.spans[node])
        self._message_depth += is_message(node)
        if len(node.body) == 1:
            self.statements.append(
                ScopedStatement(
                    **self._context(statement=self.spans[node], only_words=self._message_depth > 0),
                    node=node,
                    after=self._next.get(node),
                )
            )

    @override
    def leave_SimpleStatementLine(self, original_node: cst.SimpleStatementLine) -> None:
        self._statements.pop()
        self._message_depth -= is_message(original_node)

    @override
    def visit_Call(self, node: cst.Call) -> None:
        self.calls.append(ScopedCall(**self._expression_context(node), node=node))

    @override
    def visit_List(self, node: cst.List) -> None:
        self._display(node)

    @override
    def visit_Tuple(self, node: cst.Tuple) -> None:
        self._display(node)

    @override
    def visit_Dict(self, node: cst.Dict) -> None:
        self._display(node)

    def _display(self, node: cst.List | cst.Tuple | cst.Dict) -> None:
        self.displays.append(ScopedDisplay(**self._expression_context(node), node=node))

    def _statement_of(self, node: cst.CSTNode) -> SourceSpan:
        """Return the simple statement around a node, or the node itself in a header."""
        own = self.spans[node]
        if self._statements and self._statements[-1].end >= own.end:
            return self._statements[-1]
        return own


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureParameter:
    """One parameter of a signature; ``annotation`` and ``default`` are texts, empty for none.

    Attributes:
        takes_position: whether it may be passed by position.
        may_lose_name: whether a call is surely bound as the source says: dataclasses are not.
    """

    name: str
    annotation: str
    default: str
    allows_positional: bool
    is_order_certain: bool = True


@dataclass(slots=False)
class SourceTree:
    """All units of a campaign, and the signatures of what they define."""

    units: Sequence[SourceUnit]
    _found: dict[str, tuple[SignatureParameter, ...] | None] = field(default_factory=dict)

    @cached_property
    def _functions(self) -> dict[str, list[tuple[SourceUnit, ScopedFunction]]]:
        found: dict[str, list[tuple[SourceUnit, ScopedFunction]]] = {}
        for unit in self.units:
            for site in unit.functions:
                found.setdefault(site.node.name.value, []).append((unit, site))
        return found

    @cached_property
    def _classes(self) -> dict[str, list[tuple[SourceUnit, cst.ClassDef]]]:
        found: dict[str, list[tuple[SourceUnit, cst.ClassDef]]] = {}
        for unit in self.units:
            for node in unit.classes:
                found.setdefault(node.name.value, []).append((unit, node))
        return found

    def signature(self, callee: str) -> tuple[SignatureParameter, ...] | None:
        """Return the parameters of a callee by its simple name; None for unknown or ambiguous."""
        if callee not in self._found:
            self._found[callee] = self._signature(callee)
        return self._found[callee]

    def _signature(self, callee: str) -> tuple[SignatureParameter, ...] | None:
        if callee in self._classes:
            return self._constructor(callee, seen=frozenset())
        functions = self._functions.get(callee, [])
        signatures = {_parameters(unit, site.node) for unit, site in functions}
        return signatures.pop() if len(signatures) == 1 else None

    def _constructor(
        self, name: str, *, seen: frozenset[str]
    ) -> tuple[SignatureParameter, ...] | None:
        if name in seen or len(self._classes.get(name, [])) != 1:
            return None
        [(unit, node)] = self._classes[name]
        for statement in node.body.body:
            if isinstance(statement, cst.FunctionDef) and statement.name.value == "__init__":
                return _parameters(unit, statement)
        if any("dataclass" in unit.text(decorator.decorator) for decorator in node.decorators):
            return tuple(_dataclass_parameters(unit, node))
        for base in node.bases:
            found = self._constructor(simple_name(base.value), seen=seen | {name})
            if found is not None:
                return found
        return None


def _parameters(unit: SourceUnit, node: cst.FunctionDef) -> tuple[SignatureParameter, ...]:
    positional = [*node.params.posonly_params, *node.params.params]
    if positional and positional[0].name.value in ("self", "cls"):
        positional = positional[1:]
    keywords = list(node.params.kwonly_params)
    return tuple(
        SignatureParameter(
            name=parameter.name.value,
            annotation=""
            if parameter.annotation is None
            else unit.text(parameter.annotation.annotation),
            default="" if parameter.default is None else unit.text(parameter.default),
            allows_positional=parameter in positional,
        )
        for parameter in (*positional, *keywords)
    )


def _dataclass_parameters(unit: SourceUnit, node: cst.ClassDef) -> list[SignatureParameter]:
    return [
        SignatureParameter(
            name=name,
            annotation=unit.text(annotation),
            default="" if value is None else unit.text(value),
            allows_positional=True,
            is_order_certain=False,
        )
        for line in node.body.body
        if isinstance(line, cst.SimpleStatementLine)
        for small in line.body
        if isinstance(small, cst.AnnAssign)
        for name, annotation, value in [
            (simple_name(small.target), small.annotation.annotation, small.value)
        ]
    ]
