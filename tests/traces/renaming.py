"""One switch that renames everything which is called something in a recording."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from traces.schema.copies import Copy
from traces.schema.model import (
    HOST,
    Allocation,
    Argument,
    Call,
    Digest,
    EventAwaited,
    EventRecorded,
    Failure,
    Message,
    Outcome,
    Race,
    Reading,
    Recording,
    Release,
    Sites,
    TensorRecord,
    Trace,
    Transfer,
)

_FIELDS: dict[type, tuple[str, ...]] = {
    Argument: ("value",),
    Call: ("call", "parent", "caller", "callee", "arguments", "returns", "raises"),
    Failure: ("type", "message", "subject", "rule", "expected", "got"),
    Outcome: ("failure",),
    TensorRecord: ("owner", "object", "name", "attribute", "aliases"),
    Transfer: ("stream",),
    Copy: ("source", "target", "stream"),
    Allocation: ("owner",),
    Release: ("owner",),
    EventRecorded: ("name", "stream"),
    EventAwaited: ("name", "stream"),
    Message: ("text",),
    Race: ("text",),
    Digest: ("owner",),
    Reading: ("stream",),
}
"""What each record calls by a name: functions, classes, objects, owners, buffers, streams, texts.

Pools, planes, steps and parameters keep their names: rules read them as facts.
"""


class Names:
    """A mapping from every name to a token without any part of it, and back."""

    def __init__(self) -> None:
        self._tokens: dict[str, str] = {}

    def rename(self, name: str) -> str:
        """Return the token of a name; nothing and the host itself keep theirs."""
        if name in ("", HOST):
            return name
        return self._tokens.setdefault(name, f"q{len(self._tokens)}z")

    def restore(self, text: str) -> str:
        """Return a text with all tokens replaced by their names."""
        names = {token: name for name, token in self._tokens.items()}
        return re.sub(r"q\d+z", lambda token: names.get(token[0], token[0]), text)


def renamed_recording(recording: Recording, names: Names) -> Recording:
    """Return a recording in which everything is called by its token."""
    trace, sites = recording.trace, recording.sites
    lists = ("calls", "tensors", "events", "digests")
    changes = {
        name: tuple(_renamed(record, names) for record in getattr(trace, name)) for name in lists
    }
    objects = {names.rename(label): names.rename(kind) for label, kind in trace.objects.items()}
    renamed: Trace = msgspec.structs.replace(
        trace, **changes, outcome=_renamed(trace.outcome, names), objects=objects
    )
    return Recording(trace=renamed, sites=None if sites is None else _sites(sites, names))


def _sites(sites: Sites, names: Names) -> Sites:
    def keys(table: dict[str, Any]) -> dict[str, Any]:
        return {names.rename(name): value for name, value in table.items()}

    return msgspec.structs.replace(
        sites,
        calls=keys(sites.calls),
        definitions=keys(sites.definitions),
        defaults=keys(sites.defaults),
    )


def _renamed(value: Any, names: Names) -> Any:
    if isinstance(value, msgspec.Struct):
        fields = _FIELDS.get(type(value), ())
        changes = {name: _field(name, getattr(value, name), names) for name in fields}
        return msgspec.structs.replace(value, **changes)
    return value


def _field(name: str, value: Any, names: Names) -> Any:
    if name in ("value", "returns"):
        return _with_references(value, names.rename)
    if isinstance(value, str):
        return names.rename(value)
    if isinstance(value, tuple):
        return tuple(_renamed(item, names) for item in value)
    return _renamed(value, names)


def _with_references(value: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"ref"}:
            return {"ref": rename(value["ref"])}
        return {key: _with_references(item, rename) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_references(item, rename) for item in value]
    return value
