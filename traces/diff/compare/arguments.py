"""Compares the bound arguments of one call on both sides."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from traces.diff.compare.bind_errors import BindError, call_bind_error
from traces.diff.index import RecordingIndex
from traces.diff.values import CallPair, ReferenceMap, Value, dotted_fields, same_value
from traces.schema.model import Argument, Call
from traces.schema.verdict import Kind, Level

_POSITION = re.compile(r"args\[(\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArgumentChange:
    """One argument of one call that is not what it was.

    Attributes:
        name: as the head spells it; as the base does when the head lacks it.
        parameter: ``name``, dotted down to the one field that differs.
        before: None for absent.
        after: None for absent.
        effective: whether the callee sees another value; false when only *given* or *defaulted*
            differ, or a parameter came or went that nobody gave.
        by_default: whether the callee's default filled in both values: the default differs.
    """

    pair: CallPair
    kind: Kind
    name: str
    parameter: str
    before: Value
    after: Value
    effective: bool
    by_default: bool

    @property
    def level(self) -> Level:
        """Level of this difference alone: what builders hand to each other is interface."""
        seen = self.effective and self.pair.head.role != "builder"
        return Level.BEHAVIOUR if seen else Level.INTERFACE

    @property
    def value_only(self) -> bool:
        """Whether the call site looks as before and only the value it passes differs."""
        return self.kind is Kind.ARGUMENT_CHANGED and not self.by_default


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentComparison:
    """Compares calls of two sides.

    Attributes:
        parameters: parameter of the base to its new name in the head.
    """

    base: RecordingIndex
    head: RecordingIndex
    references: ReferenceMap
    parameters: Mapping[str, str]

    def changes(self, pair: CallPair) -> list[ArgumentChange]:
        """Return the differences of the arguments of one call, in signature order."""
        old = self._named(pair.base, pair.head, self.base)
        new = self._named(pair.head, pair.base, self.head)
        old = {self._new_name(name, new): argument for name, argument in old.items()}
        names = [*new, *(name for name in old if name not in new)]
        order = {name: index for index, name in enumerate(old)}
        names.sort(key=lambda name: order.get(name, len(order)))
        changes = [self._change(pair, name, old.get(name), new.get(name)) for name in names]
        return [change for change in changes if change] + list(self._newly_required(pair))

    def _new_name(self, name: str, new: Mapping[str, Argument]) -> str:
        renamed = self.parameters.get(name, name)
        return renamed if name not in new and renamed in new else name

    def _named(self, call: Call, partner: Call, side: RecordingIndex) -> dict[str, Argument]:
        """Return arguments by name; positions of a call that did not bind by the partner's."""
        names = [argument.name for argument in partner.arguments]
        named: dict[str, Argument] = {}
        for argument in call.arguments:
            position = (
                _POSITION.fullmatch(argument.name)
                if call_bind_error(call, side, partner=partner)
                else None
            )
            known = position is not None and int(position[1]) < len(names)
            named[names[int(position[1])] if position and known else argument.name] = argument
        return named

    def _change(
        self, pair: CallPair, name: str, old: Argument | None, new: Argument | None
    ) -> ArgumentChange | None:
        if old is not None and new is not None:
            return self._both(pair, name, old, new)
        if old is not None:
            return self._only_base(pair, name, old)
        return self._only_head(pair, name, new) if new is not None else None

    def _both(
        self, pair: CallPair, name: str, old: Argument, new: Argument
    ) -> ArgumentChange | None:
        equal = same_value(old.value, new.value, self.references)
        if self._is_unexpected_keyword(pair, name):
            return _made(pair, Kind.PARAMETER_REMOVED, name, old.value, None)
        if equal and old.given == new.given:
            return None
        kind = Kind.ARGUMENT_CHANGED
        if old.given != new.given:
            kind = Kind.ARGUMENT_DROPPED if old.given else Kind.ARGUMENT_ADDED
        return ArgumentChange(
            pair=pair,
            kind=kind,
            name=name,
            **_narrowed(name, old.value, new.value, self.references),
            effective=not equal,
            by_default=not old.given and not new.given,
        )

    def _is_unexpected_keyword(self, pair: CallPair, name: str) -> bool:
        """Tell whether the callee of the head no longer takes a keyword that is still given."""
        old, new = self._bind_errors(pair)
        return old is None and new is not None and name == new.unexpected

    def _bind_errors(self, pair: CallPair) -> tuple[BindError | None, BindError | None]:
        return (
            call_bind_error(pair.base, self.base, partner=pair.head),
            call_bind_error(pair.head, self.head, partner=pair.base),
        )

    def _only_base(self, pair: CallPair, name: str, old: Argument) -> ArgumentChange | None:
        refused, refusal = self._bind_errors(pair)
        if refusal is not None:
            return _made(pair, Kind.ARGUMENT_DROPPED, name, old.value, None) if old.given else None
        if _is_extra(name) or refused is not None:
            return _made(pair, Kind.ARGUMENT_DROPPED, name, old.value, None)
        effective = old.given and not self.base.is_default(pair.base.callee, name, old.value)
        return _made(pair, Kind.PARAMETER_REMOVED, name, old.value, None, effective=effective)

    def _only_head(self, pair: CallPair, name: str, new: Argument) -> ArgumentChange | None:
        refused, refusal = self._bind_errors(pair)
        if refused is not None:
            return _made(pair, Kind.ARGUMENT_ADDED, name, None, new.value) if new.given else None
        if _is_extra(name) or refusal is not None:
            return _made(pair, Kind.ARGUMENT_ADDED, name, None, new.value)
        effective = new.given and not self.head.is_default(pair.head.callee, name, new.value)
        return _made(pair, Kind.PARAMETER_ADDED, name, None, new.value, effective=effective)

    def _newly_required(self, pair: CallPair) -> Iterator[ArgumentChange]:
        """Yield parameters that the head's callee requires and that nobody ever gave."""
        _, refusal = self._bind_errors(pair)
        known = {argument.name for argument in (*pair.base.arguments, *pair.head.arguments)}
        for name in () if refusal is None else refusal.missing:
            if name not in known and pair.base.raises != pair.head.raises:
                yield _made(pair, Kind.PARAMETER_ADDED, name, None, None)


def _made(
    pair: CallPair, kind: Kind, name: str, before: Value, after: Value, *, effective: bool = True
) -> ArgumentChange:
    return ArgumentChange(
        pair=pair,
        kind=kind,
        name=name,
        parameter=name,
        before=before,
        after=after,
        effective=effective,
        by_default=False,
    )


def _narrowed(name: str, before: Value, after: Value, references: ReferenceMap) -> dict[str, Value]:
    """Descend into objects passed by value while exactly one field differs."""
    old, new = dict(dotted_fields(name, before)), dict(dotted_fields(name, after))
    if old.keys() == new.keys() and len(old) > 1:
        differing = [key for key in old if not same_value(old[key], new[key], references)]
        leaves = [key for key in differing if not any(k.startswith(f"{key}.") for k in differing)]
        if len(leaves) == 1:
            return {"parameter": leaves[0], "before": old[leaves[0]], "after": new[leaves[0]]}
    return {"parameter": name, "before": before, "after": after}


def _is_extra(name: str) -> bool:
    """Tell ``kwargs.key`` and ``args[0]`` from a parameter of the signature."""
    return "." in name or "[" in name
