"""Older names of callees, parameters and buffers, and their newest names.

Both sides of a comparison are brought to the newest names before they are compared, so that a
rename is one cause and hides no other.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from traces.schema import model, pools, races
from traces.schema.model import Call, Recording, Sites, Trace
from traces.schema.verdict import Cause, Kind, Level

_R = TypeVar("_R", bound=msgspec.Struct)
_Renames = frozenset[tuple[str, str]]
_LABEL = re.compile(r"([A-Za-z_]\w*)((?:\.\w+)?(?:#\d+)?)")
_OWNER = re.compile(r"(device|host)\.([A-Za-z_]\w*)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aliases:
    """Tables from older names to the newest.

    Attributes:
        callees: functions and classes.
        parameters: ``callee.parameter``, or ``*.parameter`` for any callee, to the new parameter;
            callees by their newest name.
        buffers: attributes of pools; where the newest is reached through another one, its last
            part names the plane of rows.
    """

    callees: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    buffers: Mapping[str, str] = field(default_factory=dict)

    def applied(self, recording: Recording) -> tuple[Recording, _Renames]:
        """Return a recording in the newest names, and which of the old names it had."""
        if self == NO_ALIASES:
            return recording, frozenset()
        renamer = _Renamer(aliases=self, used=set())
        trace = renamer.trace(recording.trace)
        sites = None if recording.sites is None else renamer.sites(recording.sites)
        return Recording(trace=trace, sites=sites), frozenset(renamer.used)


NO_ALIASES = Aliases()


def alias_causes(base: _Renames, head: _Renames) -> tuple[Cause, ...]:
    """Return a cause for every name that one side has only in its older form."""
    return tuple(
        Cause(
            kind=Kind.RENAMED,
            level=Level.INTERFACE,
            before=before,
            after=after,
            where=new,
            message=f"{before} is called {after}",
            rank=(0, 0),
        )
        for old, new in sorted(base ^ head)
        for before, after in [(new, old) if (old, new) in head else (old, new)]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Renamer:
    aliases: Aliases
    used: set[tuple[str, str]]

    def trace(self, trace: Trace) -> Trace:
        return msgspec.structs.replace(
            trace,
            calls=tuple(self._call(call) for call in trace.calls),
            tensors=tuple(map(self._record, trace.tensors)),
            events=tuple(map(self._record, trace.events)),
            digests=tuple(map(self._record, trace.digests)),
            objects={self.label(label): self.label(name) for label, name in trace.objects.items()},
        )

    def _record(self, record: _R) -> _R:
        rules = _NAME_FIELDS.get(type(record), {})
        renamed = {name: rule(self, getattr(record, name)) for name, rule in rules.items()}
        return msgspec.structs.replace(record, **renamed) if renamed else record

    def sites(self, sites: Sites) -> Sites:
        return msgspec.structs.replace(
            sites,
            calls={self.label(label): site for label, site in sites.calls.items()},
            definitions={self.label(name): site for name, site in sites.definitions.items()},
            defaults={
                self.label(callee): {
                    self._parameter(self.label(callee), name): value
                    for name, value in defaults.items()
                }
                for callee, defaults in sites.defaults.items()
            },
        )

    def _call(self, call: Call) -> Call:
        named = self._record(call)
        arguments = tuple(
            msgspec.structs.replace(
                item, name=self._parameter(named.callee, item.name), value=self.value(item.value)
            )
            for item in call.arguments
        )
        return msgspec.structs.replace(named, arguments=arguments)

    def value(self, value: Any) -> Any:  # noqa: ANN401 - plain JSON
        if isinstance(value, dict):
            return {
                key: self.label(item) if key == "ref" else self.value(item)
                for key, item in value.items()
            }
        return [self.value(item) for item in value] if isinstance(value, list) else value

    def label(self, label: str) -> str:
        found = _LABEL.fullmatch(label)
        if found is None or found[1] not in self.aliases.callees:
            return label
        new = self.aliases.callees[found[1]]
        self.used.add((found[1], new))
        return f"{new}{found[2]}"

    def owner(self, owner: str) -> str:
        found = _OWNER.fullmatch(owner)
        if found is None:
            return owner
        name = self.aliases.callees.get(found[2], found[2])
        return f"{found[1]}.{name}{found[3]}"

    def buffer(self, name: str) -> str:
        return re.sub(r"\w+", lambda word: self.aliases.buffers.get(word[0], word[0]), name)

    def plane(self, text: str) -> str:
        newest = self.aliases.buffers
        return re.sub(r"\w+", lambda word: newest.get(word[0], word[0]).rpartition(".")[2], text)

    def planes(self, planes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(self.plane, planes))

    def exported(self, buffers: tuple[pools.ExportedBuffer, ...]) -> tuple[object, ...]:
        return tuple(msgspec.structs.replace(one, plane=self.plane(one.plane)) for one in buffers)

    def views(self, views: tuple[pools.ByteRange, ...]) -> tuple[object, ...]:
        return tuple(msgspec.structs.replace(one, buffer=self.plane(one.buffer)) for one in views)

    def written(self, rows: tuple[pools.WrittenRows, ...]) -> tuple[object, ...]:
        return tuple(msgspec.structs.replace(one, plane=self.plane(one.plane)) for one in rows)

    def _parameter(self, callee: str, name: str) -> str:
        known = self.aliases.parameters
        new = known.get(f"{callee}.{name}", known.get(f"*.{name}", name))
        if new != name:
            self.used.add((f"{callee}.{name}", f"{callee}.{new}"))
        return new


_NAME_FIELDS: Mapping[type, Mapping[str, Callable[[_Renamer, Any], Any]]] = {
    Call: {
        "call": _Renamer.label,
        "parent": _Renamer.label,
        "caller": _Renamer.label,
        "callee": _Renamer.label,
        "returns": _Renamer.value,
    },
    model.TensorRecord: {
        "owner": _Renamer.owner,
        "object": _Renamer.label,
        "pool": _Renamer.label,
        "name": _Renamer.buffer,
        "attribute": _Renamer.buffer,
        "planes": _Renamer.planes,
        "aliases": _Renamer.owner,
    },
    model.Transfer: {"plane": _Renamer.plane},
    races.Race: {"text": _Renamer.plane, "buffer": _Renamer.plane},
    model.RoundTrip: {"plane": _Renamer.plane},
    model.Digest: {"owner": _Renamer.plane},
    pools.PoolAnswer: {"buffers": _Renamer.exported, "views": _Renamer.views},
    pools.PoolAccessor: {"planes": _Renamer.planes},
    pools.PageAccess: {"first": _Renamer.views},
    pools.SlotOperation: {"subject": _Renamer.plane},
    pools.HostCopy: {"planes": _Renamer.planes},
    pools.RowWrite: {"rows": _Renamer.written},
}
"""The fields of records that hold names, with their translation."""
