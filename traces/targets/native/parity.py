"""What a GPU may leave different in a trace: every such field, in one place, with its reason.

The goldens are to hold for every device, so a field belongs here only when the hardware, and no
code of ours, decides what it says.
"""

from collections.abc import Mapping
from typing import TypeAlias, TypeVar

import msgspec

from traces.schema.canonical import parse, render
from traces.schema.model import Record, Trace

NativeDeclaredDifferences: TypeAlias = Mapping[tuple[type[Record], str], str]
"""Reason by kind of record and name of field."""

DECLARED_DIFFERENCES: NativeDeclaredDifferences = {}
"""Empty as measured: on an H100 every trace has the bytes it has without a GPU."""

_EMPTY: Mapping[type, object] = {bool: False, dict: {}, int: 0, list: [], str: "", tuple: ()}

_Kind = TypeVar("_Kind", bound=Record)


def blank_declared_fields(trace: Trace, *, declared: NativeDeclaredDifferences) -> Trace:
    """Return a trace whose declared fields are all alike: empty, zero or false.

    What a field says is hidden, its type is not: ``None`` or a record where there was text or a
    number is still a difference.
    """
    return _record(trace, declared) if declared else trace


def comparable_text(text: str, *, declared: NativeDeclaredDifferences) -> str:
    """Return the text of a trace as it is compared; without declarations that is every byte.

    Raises:
        TraceFormatError: something is declared, and the text is no trace.
    """
    return render(blank_declared_fields(parse(text), declared=declared)) if declared else text


def _record(record: _Kind, declared: NativeDeclaredDifferences) -> _Kind:
    kind = type(record)
    new = {
        name: _blank(value) if (kind, name) in declared else _value(value, declared)
        for name in kind.__struct_fields__
        for value in (getattr(record, name),)
    }
    return msgspec.structs.replace(record, **new)


def _value(value: object, declared: NativeDeclaredDifferences) -> object:
    if isinstance(value, Record):
        return _record(value, declared)
    if isinstance(value, tuple):
        return tuple(_value(item, declared) for item in value)
    return value


def _blank(value: object) -> object:
    return _EMPTY.get(type(value), value)
