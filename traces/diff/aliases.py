"""Older names of callees, parameters and buffers, and their newest names.

Both sides of a comparison are brought to the newest names before they are compared, so that a
rename is one cause and hides no other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from traces.schema.model import (
    Argument,
    Call,
    Digest,
    DigestRecord,
    Event,
    Race,
    Recording,
    RoundTrip,
    Sites,
    Trace,
    Transfer,
)
from traces.schema.verdict import Cause, Kind, Level

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

    def applied(self, recording: Recording) -> tuple[Recording, frozenset[tuple[str, str]]]:
        """Return a recording in the newest names, and which of the old names it had."""
        if self == NO_ALIASES:
            return recording, frozenset()
        used: set[tuple[str, str]] = set()
        renamer = _Renamer(aliases=self, used=used)
        trace = renamer.trace(recording.trace)
        sites = None if recording.sites is None else renamer.sites(recording.sites)
        return Recording(trace=trace, sites=sites), frozenset(used)


NO_ALIASES = Aliases()


def alias_causes(
    base: frozenset[tuple[str, str]], head: frozenset[tuple[str, str]]
) -> tuple[Cause, ...]:
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
            tensors=tuple(
                msgspec.structs.replace(
                    tensor,
                    owner=self._owner(tensor.owner),
                    object=self._label(tensor.object),
                    pool=self._label(tensor.pool),
                    name=self._buffer(tensor.name),
                    planes=tuple(self._plane(plane) for plane in tensor.planes),
                    aliases=self._owner(tensor.aliases),
                )
                for tensor in trace.tensors
            ),
            events=tuple(self._event(event) for event in trace.events),
            digests=tuple(self._digest(digest) for digest in trace.digests),
        )

    def _event(self, event: Event) -> Event:
        match event:
            case Transfer():
                return msgspec.structs.replace(event, plane=self._plane(event.plane))
            case Race():
                text, buffer = self._plane(event.text), self._plane(event.buffer)
                return msgspec.structs.replace(event, text=text, buffer=buffer)
            case _:
                return event

    def _digest(self, digest: DigestRecord) -> DigestRecord:
        if isinstance(digest, RoundTrip):
            return msgspec.structs.replace(digest, plane=self._plane(digest.plane))
        if not isinstance(digest, Digest):
            return digest
        return msgspec.structs.replace(digest, owner=self._plane(digest.owner))

    def sites(self, sites: Sites) -> Sites:
        return msgspec.structs.replace(
            sites,
            calls={self._label(label): site for label, site in sites.calls.items()},
            definitions={self._label(name): site for name, site in sites.definitions.items()},
            defaults={
                self._label(callee): {
                    self._parameter(self._label(callee), name): value
                    for name, value in defaults.items()
                }
                for callee, defaults in sites.defaults.items()
            },
        )

    def _call(self, call: Call) -> Call:
        callee = self._label(call.callee)
        return msgspec.structs.replace(
            call,
            call=self._label(call.call),
            parent=self._label(call.parent),
            caller=self._label(call.caller),
            callee=callee,
            arguments=tuple(
                Argument(
                    name=self._parameter(callee, argument.name),
                    value=self._value(argument.value),
                    given=argument.given,
                )
                for argument in call.arguments
            ),
            returns=self._value(call.returns),
        )

    def _value(self, value: Any) -> Any:  # noqa: ANN401 - plain JSON
        if isinstance(value, dict):
            return {
                key: self._label(item) if key == "ref" else self._value(item)
                for key, item in value.items()
            }
        return [self._value(item) for item in value] if isinstance(value, list) else value

    def _label(self, label: str) -> str:
        found = _LABEL.fullmatch(label)
        if found is None or found[1] not in self.aliases.callees:
            return label
        new = self.aliases.callees[found[1]]
        self.used.add((found[1], new))
        return f"{new}{found[2]}"

    def _owner(self, owner: str) -> str:
        found = _OWNER.fullmatch(owner)
        if found is None:
            return owner
        name = self.aliases.callees.get(found[2], found[2])
        return f"{found[1]}.{name}{found[3]}"

    def _buffer(self, name: str) -> str:
        return re.sub(r"\w+", lambda word: self.aliases.buffers.get(word[0], word[0]), name)

    def _plane(self, text: str) -> str:
        def newest(word: re.Match[str]) -> str:
            return self.aliases.buffers.get(word[0], word[0]).rpartition(".")[2]

        return re.sub(r"\w+", newest, text)

    def _parameter(self, callee: str, name: str) -> str:
        known = self.aliases.parameters
        new = known.get(f"{callee}.{name}", known.get(f"*.{name}", name))
        if new != name:
            self.used.add((f"{callee}.{name}", f"{callee}.{new}"))
        return new
