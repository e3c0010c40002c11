"""Asks two sides to play a scenario again and puts what is found before an effect of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from traces.divergence.calls import CallLog, CallNode, LineLog, Shown
from traces.divergence.lines import Turn, first_turn
from traces.divergence.sources import Passed, Sources
from traces.divergence.walk import Parting, first_parting
from traces.verdict import Cause, Consequence, Kind, Level, Location

_CALL_KINDS = {
    "removed": Kind.CALL_REMOVED,
    "added": Kind.CALL_ADDED,
    "reordered": Kind.CALL_REORDERED,
}
_OF_EVENTS = frozenset(
    {
        Kind.TRANSFER_ADDED,
        Kind.TRANSFER_REMOVED,
        Kind.TRANSFER_CHANGED,
        Kind.ORDER_EDGE_ADDED,
        Kind.ORDER_EDGE_REMOVED,
    }
)


class Replayer(Protocol):
    """One side that can be played again."""

    def calls(self, scenario: str) -> CallLog:
        """Play a scenario and log its calls."""

    def lines(self, scenario: str, *, function: str, number: int) -> LineLog:
        """Play a scenario and log the lines of one call."""

    def source(self, file: str) -> str | None:
        """Return the text of a file of the package, relative to its root; None for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a second look found, in terms of the head's source.

    Attributes:
        kind: of a cause; None when only the place is new.
        callee: function or class that is called; empty for none.
        parameter: None unless an argument is the fault.
        caller: function around it.
    """

    kind: Kind | None
    callee: str
    parameter: str | None
    before: Any
    after: Any
    caller: str
    location: Location | None


def second_look(base: Replayer, head: Replayer, cause: Cause, *, scenario: str) -> Cause:
    """Return a cause with the place where the sides part first, or as it is when none is found.

    Args:
        base: plays the base.
        head: plays the head.
        cause: a difference of behaviour.
        scenario: in which it shows.
    """
    sources = Sources(base=base.source, head=head.source)
    parting = first_parting(base.calls(scenario), head.calls(scenario), sources=sources)
    if parting is None:
        return cause
    turn = _turn(base, head, parting, scenario=scenario, sources=sources)
    seen = _seen(parting, turn, sources=sources)
    # What lies outside the package, the scenario's own call, is no better place than an effect.
    if seen is None or seen.location is None:
        return cause
    if _is_known(seen, cause):
        is_made_elsewhere = turn is not None and turn.is_changed
        return (
            msgspec.structs.replace(cause, location=seen.location) if is_made_elsewhere else cause
        )
    return _refined(cause, seen)


def _is_known(seen: Seen, cause: Cause) -> bool:
    """Tell whether a cause says the same already."""
    named = (cause.parameter or "").split(".")
    if seen.parameter is not None:
        return seen.parameter in named and (
            seen.callee == cause.callee or seen.callee in cause.path or cause.builder == seen.callee
        )
    return cause.parameter is None and cause.location == seen.location


def _turn(
    base: Replayer, head: Replayer, parting: Parting, *, scenario: str, sources: Sources
) -> Turn | None:
    """Look at the lines of the function around, unless the line of the call says it all."""
    if parting.around is None or parting.what == "parameter":
        return None
    old, new = parting.around
    if not old.file or old.file != new.file or _touched_site(parting, sources) is not None:
        return None
    is_value = parting.what == "argument" and parting.name and parting.head is not None
    if is_value and not sources.is_function_touched(new.file, parting.around_line):
        return None
    logs = (
        base.lines(scenario, function=old.function, number=old.number),
        head.lines(scenario, function=new.function, number=new.number),
    )
    return first_turn(logs[0].stops, logs[1].stops, same_lines=sources.same_lines(old.file))


def _touched_site(parting: Parting, sources: Sources) -> Location | None:
    """Return the line of a call that stands there in one side only, or in another way."""
    for call, in_head in ((parting.head, True), (parting.base, False)):
        if parting.what == "inside" or call is None or not call.site_file:
            continue
        file, line = call.site_file, call.site_line
        if sources.is_touched(file, line, in_head=in_head):
            return Location(file=file, line=line if in_head else sources.carried(file, line))
    return None


def _seen(parting: Parting, turn: Turn | None, *, sources: Sources) -> Seen | None:
    location = _location(parting, turn, sources=sources)
    caller = parting.around[1].function if parting.around else ""
    if parting.what in ("argument", "parameter") and parting.name:
        return _seen_argument(parting, caller=caller, location=location)
    if location is None:
        return None
    passed = None
    if turn is not None and turn.is_changed:
        passed = sources.changed_argument(location.file, location.line)
    if passed is not None:
        return _seen_passed(passed, caller=caller, location=location)
    call = parting.base or parting.head
    is_call = call is not None and parting.what in _CALL_KINDS
    return Seen(
        kind=_CALL_KINDS.get(parting.what),
        callee=_callee(call) if call is not None and is_call else "",
        parameter=None,
        before=None,
        after=None,
        caller=caller,
        location=location,
    )


def _seen_argument(parting: Parting, *, caller: str, location: Location | None) -> Seen:
    call = parting.head or parting.base
    assert call is not None
    kind = Kind.ARGUMENT_CHANGED
    if parting.what == "parameter":
        kind = Kind.PARAMETER_ADDED if parting.before is None else Kind.PARAMETER_REMOVED
    return Seen(
        kind=kind,
        callee=_callee(call),
        parameter=parting.name,
        before=_value(parting.before),
        after=_value(parting.after),
        caller=caller,
        location=location,
    )


def _seen_passed(passed: Passed, *, caller: str, location: Location) -> Seen:
    kind = Kind.ARGUMENT_CHANGED
    if passed.before is None:
        kind = Kind.ARGUMENT_ADDED
    elif passed.after is None:
        kind = Kind.ARGUMENT_DROPPED
    return Seen(
        kind=kind,
        callee=passed.callee,
        parameter=passed.keyword,
        before=passed.before,
        after=passed.after,
        caller=caller,
        location=location,
    )


def _location(parting: Parting, turn: Turn | None, *, sources: Sources) -> Location | None:
    if parting.around is not None and turn is not None:
        file = parting.around[1].file
        is_of_argument = parting.what == "argument" and parting.name
        if not is_of_argument or turn.is_changed:
            line = turn.line if turn.in_head else sources.carried(file, turn.line)
            return Location(file=file, line=line)
    if (touched := _touched_site(parting, sources)) is not None:
        return touched
    if parting.what in ("argument", "parameter", "added") and parting.head is not None:
        return _site(parting.head)
    if parting.what in _CALL_KINDS and parting.base is not None and parting.base.site_file:
        file = parting.base.site_file
        return Location(file=file, line=sources.carried(file, parting.base.site_line))
    return None


def _site(call: CallNode) -> Location | None:
    return Location(file=call.site_file, line=call.site_line) if call.site_file else None


def _callee(call: CallNode) -> str:
    for ending in (".__init__", ".__new__"):
        if call.function.endswith(ending):
            return call.function.removesuffix(ending)
    return call.function


def _value(shown: Shown | None) -> Any:  # noqa: ANN401
    if shown is None:
        return None
    try:
        return json.loads(shown)
    except ValueError:
        return shown


def _refined(cause: Cause, seen: Seen) -> Cause:
    """Put a first parting in the place of a cause, which becomes the first thing it explains."""
    placed = msgspec.structs.replace(
        cause, location=seen.location, message=_message(cause, seen), variants=()
    )
    if seen.kind is None or (seen.parameter is None and cause.kind in _OF_EVENTS):
        return placed
    return msgspec.structs.replace(
        placed,
        kind=seen.kind,
        builder=seen.caller or cause.builder,
        callee=seen.callee or None,
        parameter=seen.parameter,
        before=seen.before,
        after=seen.after,
        where="" if seen.parameter else f"{seen.callee} in {seen.caller}",
        path=tuple(name for name in (seen.caller, seen.callee) if name),
        consequences=(*_effect(cause), *cause.consequences),
    )


def _message(cause: Cause, seen: Seen) -> str:
    what = f"{seen.callee} {seen.parameter or ''}".strip() or "the lines of the function"
    where = f" in {seen.caller}" if seen.caller else ""
    return (
        f"played again, the sides part first{where}: {what}; "
        f"the traces show it as {cause.headline()}"
    )


def _effect(cause: Cause) -> Iterator[Consequence]:
    where = cause.where or f"{cause.callee or ''}.{cause.parameter or ''}".strip(".")
    if not any(one.where == where and one.kind == cause.kind for one in cause.consequences):
        yield Consequence(
            kind=cause.kind,
            where=where,
            before=cause.before,
            after=cause.after,
            level=Level.BEHAVIOUR,
            count=max(1, cause.count),
        )
