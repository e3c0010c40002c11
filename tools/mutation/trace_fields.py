"""Which fields of two traces differ: what would have to be left out for a mutant to survive."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from traces.schema.model import Call, Record, Trace

SECTIONS = ("calls", "tensors", "events", "digests", "outcome")
"""The parts of a trace."""

INTERFACE_FIELDS = frozenset({"calls.arguments.given", "calls.parent", "calls.arguments.order"})
"""Fields whose difference alone never fails the gate."""


def differing_fields(base: Trace, head: Trace) -> frozenset[str]:
    """Return the dotted fields in which two traces of one scenario differ."""
    return frozenset(
        (
            *_calls(base.calls, head.calls),
            *_keyed(
                "tensors", _by(base.tensors, "owner", "name"), _by(head.tensors, "owner", "name")
            ),
            *_events(base.events, head.events),
            *_keyed("digests", _digests(base), _digests(head)),
            *_differing("outcome", base.outcome, head.outcome),
        )
    )


def sections_of(fields: Iterable[str]) -> frozenset[str]:
    """Return the parts of a trace that some fields belong to."""
    return frozenset(field.partition(".")[0] for field in fields)


def _calls(base: Sequence[Call], head: Sequence[Call]) -> Iterator[str]:
    old, new = _by(base, "call"), _by(head, "call")
    yield from _keyed("calls", old, new, skip=("arguments",))
    for label in old.keys() & new.keys():
        yield from _arguments(old[label], new[label])


def _arguments(base: Record, head: Record) -> Iterator[str]:
    assert isinstance(base, Call)
    assert isinstance(head, Call)
    old = {argument.name: argument for argument in base.arguments}
    new = {argument.name: argument for argument in head.arguments}
    if old.keys() != new.keys():
        yield "calls.arguments.name"
    elif list(old) != list(new):
        yield "calls.arguments.order"
    for name in old.keys() & new.keys():
        yield from _differing("calls.arguments", old[name], new[name])


def _events(base: Sequence[Record], head: Sequence[Record]) -> Iterator[str]:
    """Yield fields by kind of event; then, if nothing else differs, their order."""
    kinds = dict.fromkeys(_kind(event) for event in (*base, *head))
    found = False
    for kind in kinds:
        old = [event for event in base if _kind(event) == kind]
        new = [event for event in head if _kind(event) == kind]
        if len(old) != len(new):
            found = True
            yield f"events.{kind}.number"
            continue
        for one, other in zip(old, new, strict=True):
            for field in _differing(f"events.{kind}", one, other):
                found = True
                yield field
    if not found and list(base) != list(head):
        yield "events.order"


def _kind(event: Record) -> str:
    return str(type(event).__struct_config__.tag)


def _digests(trace: Trace) -> dict[tuple[object, ...], Record]:
    return {
        (_kind(digest), digest.step, getattr(digest, "owner", getattr(digest, "pool", ""))): digest
        for digest in trace.digests
    }


def _by(records: Sequence[Record], *names: str) -> dict[tuple[object, ...], Record]:
    return {tuple(getattr(record, name) for name in names): record for record in records}


def _keyed(
    section: str,
    base: Mapping[tuple[object, ...], Record],
    head: Mapping[tuple[object, ...], Record],
    *,
    skip: tuple[str, ...] = (),
) -> Iterator[str]:
    if base.keys() != head.keys():
        yield f"{section}.number"
    elif list(base) != list(head):
        yield f"{section}.order"
    for key in base.keys() & head.keys():
        yield from _differing(section, base[key], head[key], skip=skip)


def _differing(
    section: str, base: Record, head: Record, *, skip: tuple[str, ...] = ()
) -> Iterator[str]:
    if base == head:
        return
    for name in (field.name for field in msgspec.structs.fields(base)):
        if name not in skip and getattr(base, name) != getattr(head, name):
            yield f"{section}.{name}"
