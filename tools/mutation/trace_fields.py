"""Fields in which two traces differ: a mutant would survive if they were left out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from traces.schema.model import Call, Trace
from traces.schema.record import Record

SECTIONS = ("calls", "tensors", "events", "digests", "outcome")
"""The parts of a trace."""

INTERFACE_FIELDS = frozenset({"calls.arguments.given", "calls.parent", "calls.arguments.order"})
"""Fields whose difference alone never fails the gate."""

_Records = Mapping[Any, Record]
_DIGEST_KEY = (
    *("step", "owner", "pool", "plane", "accessor", "sequence", "phase"),
    *("moment", "node", "component", "side", "holder", "method"),
)


def differing_fields(base: Trace, head: Trace) -> frozenset[str]:
    """Return the dotted fields in which two traces of one scenario differ."""
    return frozenset(
        (
            *_calls(base.calls, head.calls),
            *_keyed("tensors", *(_by(one.tensors, "owner", "name") for one in (base, head))),
            *_events(base.events, head.events),
            *_keyed("digests", *(_by(one.digests, *_DIGEST_KEY) for one in (base, head))),
            *_differing("outcome", base.outcome, head.outcome),
        )
    )


def sections_of(fields: Iterable[str]) -> frozenset[str]:
    """Return the parts of a trace that some fields belong to."""
    return frozenset(field.partition(".")[0] for field in fields)


def _calls(base: Sequence[Call], head: Sequence[Call]) -> Iterator[str]:
    old, new = ({call.call: call for call in calls} for calls in (base, head))
    yield from _keyed("calls", old, new, skip="arguments")
    for label in old.keys() & new.keys():
        arguments = ({one.name: one for one in side[label].arguments} for side in (old, new))
        yield from _keyed("calls.arguments", *arguments, missing="name")


def _events(base: Sequence[Record], head: Sequence[Record]) -> Iterator[str]:
    """Yield fields by kind of event; then, if nothing else differs, their order."""
    found: set[str] = set()
    for kind in dict.fromkeys(map(_kind, (*base, *head))):
        old, new = ([event for event in side if _kind(event) == kind] for side in (base, head))
        if len(old) != len(new):
            found.add(f"events.{kind}.number")
        else:
            for one, other in zip(old, new, strict=True):
                found.update(_differing(f"events.{kind}", one, other))
    yield from found
    if not found and list(base) != list(head):
        yield "events.order"


def _kind(event: Record) -> str:
    return str(type(event).__struct_config__.tag)


def _by(records: Sequence[Record], *names: str) -> dict[object, Record]:
    return {tuple(getattr(record, name, "") for name in names): record for record in records}


def _keyed(
    section: str, base: _Records, head: _Records, *, skip: str = "", missing: str = "number"
) -> Iterator[str]:
    if base.keys() != head.keys():
        yield f"{section}.{missing}"
    elif list(base) != list(head):
        yield f"{section}.order"
    for key in base.keys() & head.keys():
        yield from _differing(section, base[key], head[key], skip=skip)


def _differing(section: str, base: Record, head: Record, *, skip: str = "") -> Iterator[str]:
    if base != head:
        for name in base.__struct_fields__:
            if name != skip and getattr(base, name) != getattr(head, name, None):
                yield f"{section}.{name}"
