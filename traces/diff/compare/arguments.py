"""Comparison of the bound arguments of one call on both sides."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from traces.diff.differences import ArgumentChange
from traces.diff.index import RecordingIndex, argument_values
from traces.diff.pairing import CallPairing
from traces.diff.values import CallPair, FieldChange, Value, field_changes, same_value
from traces.schema.model import Argument, Call, Unbound
from traces.schema.verdict import Kind


def argument_changes(
    pair: CallPair, *, pairing: CallPairing, parameters: Mapping[str, str]
) -> list[ArgumentChange]:
    """Return the differences of the arguments of one call, in signature order.

    Parameters of the base have their new name in the head.
    """
    call = _CallComparison(
        pair=pair,
        pairing=pairing,
        base_error=_unbound(pair.base, pairing.base, partner=pair.head),
        head_error=_unbound(pair.head, pairing.head, partner=pair.base),
    )
    new = {argument.name: argument for argument in pair.head.arguments}
    old = {}
    for name, argument in {one.name: one for one in pair.base.arguments}.items():
        renamed = parameters.get(name, name)
        old[renamed if name not in new and renamed in new else name] = argument
    names = [*new, *(name for name in old if name not in new)]
    order = {name: index for index, name in enumerate(old)}
    names.sort(key=lambda name: order.get(name, len(order)))
    found = [
        change for name in names for change in call.changes(name, old.get(name), new.get(name))
    ]
    return found + list(call.newly_required())


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallComparison:
    """Comparison of the arguments of one call; its bind errors are None when it bound."""

    pair: CallPair
    pairing: CallPairing
    base_error: Unbound | None
    head_error: Unbound | None

    def changes(
        self, name: str, old: Argument | None, new: Argument | None
    ) -> Iterator[ArgumentChange]:
        """Yield the differences of one argument, None for a side that lacks it."""
        if old is not None and new is not None:
            yield from self._both(name, old, new)
        elif (found := old or new) is not None:
            yield from self._one_sided(name, found, in_head=old is None)

    def newly_required(self) -> Iterator[ArgumentChange]:
        """Yield parameters that the head's callee requires and that were never given."""
        pair = self.pair
        known = {argument.name for argument in (*pair.base.arguments, *pair.head.arguments)}
        for name in () if self.head_error is None else self.head_error.missing:
            if name not in known and pair.base.raises != pair.head.raises:
                yield self._made(Kind.PARAMETER_ADDED, name, None, None)

    def _both(self, name: str, old: Argument, new: Argument) -> Iterator[ArgumentChange]:
        references = self.pairing.references
        error = self.head_error
        if self.base_error is None and error is not None and name == error.unexpected:
            yield self._made(Kind.PARAMETER_REMOVED, name, old.value, None)
        elif old.given == new.given:
            by_default = not old.given
            for one in field_changes(name, old.value, new.value, references):
                yield self._field(name, one, by_default=by_default)
        else:
            kind = Kind.ARGUMENT_DROPPED if old.given else Kind.ARGUMENT_ADDED
            effective = not same_value(old.value, new.value, references)
            yield self._made(kind, name, old.value, new.value, effective=effective)

    def _field(self, name: str, found: FieldChange, *, by_default: bool) -> ArgumentChange:
        """Return the change of an argument, or of a field of it."""
        kind = Kind.ARGUMENT_CHANGED
        if not (found.has_before and found.has_after):
            kind = Kind.ARGUMENT_DROPPED if found.has_before else Kind.ARGUMENT_ADDED
        return ArgumentChange(
            pair=self.pair,
            kind=kind,
            name=name,
            parameter=found.name,
            before=found.before,
            after=found.after,
            by_default=by_default,
        )

    def _one_sided(self, name: str, found: Argument, *, in_head: bool) -> Iterator[ArgumentChange]:
        call = self.pair.head if in_head else self.pair.base
        if (self.base_error if in_head else self.head_error) is not None and not found.given:
            return
        before, after = (None, found.value) if in_head else (found.value, None)
        if self.base_error is not None or self.head_error is not None or _is_extra(name):
            kind = Kind.ARGUMENT_ADDED if in_head else Kind.ARGUMENT_DROPPED
            yield self._made(kind, name, before, after)
            return
        kind = Kind.PARAMETER_ADDED if in_head else Kind.PARAMETER_REMOVED
        side = self.pairing.side(in_head=in_head)
        effective = found.given and not side.is_default(call.callee, name, found.value)
        yield self._made(kind, name, before, after, effective=effective)

    def _made(
        self, kind: Kind, name: str, before: Value, after: Value, *, effective: bool = True
    ) -> ArgumentChange:
        return ArgumentChange(
            pair=self.pair,
            kind=kind,
            name=name,
            parameter=name,
            before=before,
            after=after,
            effective=effective,
        )


def _unbound(call: Call, side: RecordingIndex, *, partner: Call) -> Unbound | None:
    """Return which arguments of a call did not fit; None when it bound, whatever happened inside.

    Of the constructors that one object runs through, only the first is recorded: what another one
    lacks counts for it, if the other side has it.
    """
    if call.unbound is not None or call.raises is None or call.role != "constructor":
        return call.unbound
    error = call.raises.unbound
    is_raw = all(argument.given for argument in call.arguments)
    if error is None or not is_raw or side.children.get(call.call):
        return None
    names, bound = argument_values(call).keys(), argument_values(partner).keys()
    lacking = set(error.missing) & (bound - names)
    return error if lacking or error.unexpected in names else None


def _is_extra(name: str) -> bool:
    """Return whether a name is none of the signature: ``kwargs.key``, ``args[0]``."""
    return "." in name or "[" in name
