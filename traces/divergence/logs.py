"""Logs of a scenario that is run again; they travel between processes."""

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from traces.schema.model import Location

ValueText: TypeAlias = str
"""A value in JSON, without addresses; a long one is cut and ends with its digest."""


Focus: TypeAlias = tuple[tuple[str, tuple[tuple[int, int], ...]], ...]
"""First and last lines of functions, by file relative to the root."""


class CallsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A log of all calls.

    Attributes:
        focus: functions whose calls, and all calls within these, are logged with their values;
            all calls are where it is None.
    """

    focus: Focus | None


class LinesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A log of the lines of one call.

    Attributes:
        number: how many calls of the function came before it.
    """

    function: str
    number: int


LogRequest: TypeAlias = CallsRequest | LinesRequest


class CallNode(msgspec.Struct, kw_only=True, eq=False):
    """One call of a function of the package.

    Attributes:
        function: qualified name, ``HostKVCache.__init__``.
        file: relative to the root; that of the class for generated code.
        number: how many calls of this function came before it.
        site_file: file of the nearest line of the package that called it; empty for none.
        inputs: parameters by name, as bound.
        before: attributes of the objects passed, ``self.layer_num``, when it began.
        after: the same when it was over.
        returned: its result; a text that is no JSON when an exception left it.
        is_watched: whether an ordinary trace records it.
        is_changed: whether the function is in the focus of the log.
        by_changed: whether a function in the focus called it.
        has_values: whether it was logged with its inputs, the state before and after, and its
            result: it is in the focus, or within a call that is.
        children: calls it made, in order.
    """

    function: str
    file: str
    number: int
    site_file: str
    site_line: int
    inputs: dict[str, ValueText]
    before: dict[str, ValueText]
    after: dict[str, ValueText]
    returned: ValueText
    is_watched: bool
    is_changed: bool
    by_changed: bool
    has_values: bool
    children: list["CallNode"]

    @property
    def site(self) -> Location | None:
        """Nearest line of the package that called it."""
        return Location(file=self.site_file, line=self.site_line) if self.site_file else None

    @property
    def callee(self) -> str:
        """Function that is called; of a constructor its class."""
        return self.function.removesuffix(".__init__").removesuffix(".__new__")

    def watched(self) -> Iterator["CallNode"]:
        """Yield it and the calls in it, as far as an ordinary trace records them, in order."""
        if self.is_watched:
            yield self
        for child in self.children:
            yield from child.watched()


class CallLog(msgspec.Struct, kw_only=True, eq=False):
    """All calls of one replay.

    Attributes:
        threads: outermost calls of the package, by thread in order of start.
        callables: names of the functions that were passed or kept somewhere.
        executed: number of each function of the package that was called, in the order in which
            they were called first, by first line and by file relative to the root. Generators and
            lambdas are among them. A file that is imported has an entry.
    """

    threads: list[list[CallNode]]
    callables: frozenset[str]
    executed: dict[str, dict[int, int]]


class LineStop(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The moment before a line is executed.

    Attributes:
        values: locals, and attributes of objects among them, ``self.layer_num``.
    """

    line: int
    values: dict[str, ValueText]


class LineLog(msgspec.Struct, kw_only=True, eq=False):
    """The lines executed in one call of one function, in order."""

    stops: list[LineStop]
