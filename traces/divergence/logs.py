"""What a deep replay logs; all of it travels between processes."""

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

ValueText: TypeAlias = str
"""A value in JSON, without addresses; a long one is cut and ends with its digest."""


class CallNode(msgspec.Struct, kw_only=True, eq=False):
    """One call of a function of the package.

    Attributes:
        function: qualified name, ``HostKVCache.__init__``.
        file: relative to the root; that of the class for generated code.
        number: how many calls of this function came before it.
        site_file: the nearest line of the package that called it; empty for none.
        inputs: parameters by name, as bound.
        before: attributes of the objects passed, ``self.layer_num``, when it began.
        after: the same when it was over.
        returned: what it gave back.
        is_watched: whether an ordinary trace records it.
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
    children: list["CallNode"]

    def watched(self) -> Iterator["CallNode"]:
        """Yield what an ordinary trace records of it and of what it called, in order."""
        if self.is_watched:
            yield self
        for child in self.children:
            yield from child.watched()


class CallLog(msgspec.Struct, kw_only=True, eq=False):
    """All calls of one replay.

    Attributes:
        threads: calls that nothing of the package made, by thread in order of start.
        callables: names of the functions that were passed or kept somewhere.
    """

    threads: list[list[CallNode]]
    callables: frozenset[str]


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
