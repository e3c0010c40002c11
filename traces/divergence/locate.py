"""Asks two sides to play a scenario again and puts what is found before an effect of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from traces.divergence.call_divergence import Divergence, first_divergence
from traces.divergence.line_divergence import LineDivergence, first_line_divergence
from traces.divergence.logs import CallLog, CallNode, LineLog, ValueText
from traces.divergence.source_comparison import KeywordChange, SourceComparison
from traces.schema.model import Location
from traces.schema.verdict import Cause, Consequence, Kind, Level

_CALL_KINDS = {
    "removed": Kind.CALL_REMOVED,
    "added": Kind.CALL_ADDED,
    "reordered": Kind.CALL_REORDERED,
}
_EVENT_KINDS = frozenset(
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
class DivergenceFinding:
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


def locate_divergence(base: Replayer, head: Replayer, cause: Cause, *, scenario: str) -> Cause:
    """Return a cause with the place where the sides part first, or as it is when none is found.

    Args:
        base: plays the base.
        head: plays the head.
        cause: a difference of behaviour.
        scenario: in which it shows.
    """
    sources = SourceComparison(base=base.source, head=head.source)
    parting = first_divergence(base.calls(scenario), head.calls(scenario), sources=sources)
    if parting is None:
        return cause
    turn = _line_divergence(base, head, parting, scenario=scenario, sources=sources)
    seen = _finding(parting, turn, sources=sources)
    # What lies outside the package, the scenario's own call, is no better place than an effect.
    if seen is None or seen.location is None:
        return cause
    if _is_reported(seen, cause):
        is_made_elsewhere = turn is not None and turn.is_changed
        return (
            msgspec.structs.replace(cause, location=seen.location) if is_made_elsewhere else cause
        )
    return _refine_cause(cause, seen)


def _is_reported(finding: DivergenceFinding, cause: Cause) -> bool:
    """Tell whether a cause says the same already."""
    named = (cause.parameter or "").split(".")
    if finding.parameter is not None:
        return finding.parameter in named and (
            finding.callee == cause.callee
            or finding.callee in cause.path
            or cause.builder == finding.callee
        )
    return cause.parameter is None and cause.location == finding.location


def _line_divergence(
    base: Replayer,
    head: Replayer,
    divergence: Divergence,
    *,
    scenario: str,
    sources: SourceComparison,
) -> LineDivergence | None:
    """Look at the lines of the function around, unless the line of the call says it all."""
    if divergence.enclosing is None or divergence.what == "parameter":
        return None
    old, new = divergence.enclosing
    if not old.file or old.file != new.file or _touched_site(divergence, sources) is not None:
        return None
    is_value = divergence.what == "argument" and divergence.name and divergence.head is not None
    if is_value and not sources.is_function_touched(new.file, divergence.enclosing_line):
        return None
    logs = (
        base.lines(scenario, function=old.function, number=old.number),
        head.lines(scenario, function=new.function, number=new.number),
    )
    return first_line_divergence(
        logs[0].stops, logs[1].stops, same_lines=sources.same_lines(old.file)
    )


def _touched_site(divergence: Divergence, sources: SourceComparison) -> Location | None:
    """Return the line of a call that stands there in one side only, or in another way."""
    for call, in_head in ((divergence.head, True), (divergence.base, False)):
        if divergence.what == "inside" or call is None or not call.site_file:
            continue
        file, line = call.site_file, call.site_line
        if sources.is_touched(file, line, in_head=in_head):
            return Location(file=file, line=line if in_head else sources.line_in_head(file, line))
    return None


def _finding(
    divergence: Divergence, line_divergence: LineDivergence | None, *, sources: SourceComparison
) -> DivergenceFinding | None:
    location = _location(divergence, line_divergence, sources=sources)
    caller = divergence.enclosing[1].function if divergence.enclosing else ""
    if divergence.what in ("argument", "parameter") and divergence.name:
        return _argument_finding(divergence, caller=caller, location=location)
    if location is None:
        return None
    passed = None
    if line_divergence is not None and line_divergence.is_changed:
        passed = sources.changed_argument(location.file, location.line)
    if passed is not None:
        return _keyword_finding(passed, caller=caller, location=location)
    call = divergence.base or divergence.head
    is_call = call is not None and divergence.what in _CALL_KINDS
    return DivergenceFinding(
        kind=_CALL_KINDS.get(divergence.what),
        callee=_callee(call) if call is not None and is_call else "",
        parameter=None,
        before=None,
        after=None,
        caller=caller,
        location=location,
    )


def _argument_finding(
    divergence: Divergence, *, caller: str, location: Location | None
) -> DivergenceFinding:
    call = divergence.head or divergence.base
    assert call is not None
    kind = Kind.ARGUMENT_CHANGED
    if divergence.what == "parameter":
        kind = Kind.PARAMETER_ADDED if divergence.before is None else Kind.PARAMETER_REMOVED
    return DivergenceFinding(
        kind=kind,
        callee=_callee(call),
        parameter=divergence.name,
        before=_value(divergence.before),
        after=_value(divergence.after),
        caller=caller,
        location=location,
    )


def _keyword_finding(
    change: KeywordChange, *, caller: str, location: Location
) -> DivergenceFinding:
    kind = Kind.ARGUMENT_CHANGED
    if change.before is None:
        kind = Kind.ARGUMENT_ADDED
    elif change.after is None:
        kind = Kind.ARGUMENT_DROPPED
    return DivergenceFinding(
        kind=kind,
        callee=change.callee,
        parameter=change.keyword,
        before=change.before,
        after=change.after,
        caller=caller,
        location=location,
    )


def _location(
    divergence: Divergence, line_divergence: LineDivergence | None, *, sources: SourceComparison
) -> Location | None:
    if divergence.enclosing is not None and line_divergence is not None:
        file = divergence.enclosing[1].file
        is_of_argument = divergence.what == "argument" and divergence.name
        if not is_of_argument or line_divergence.is_changed:
            line = (
                line_divergence.line
                if line_divergence.in_head
                else sources.line_in_head(file, line_divergence.line)
            )
            return Location(file=file, line=line)
    if (touched := _touched_site(divergence, sources)) is not None:
        return touched
    if divergence.what in ("argument", "parameter", "added") and divergence.head is not None:
        return _site(divergence.head)
    if divergence.what in _CALL_KINDS and divergence.base is not None and divergence.base.site_file:
        file = divergence.base.site_file
        return Location(file=file, line=sources.line_in_head(file, divergence.base.site_line))
    return None


def _site(call: CallNode) -> Location | None:
    return Location(file=call.site_file, line=call.site_line) if call.site_file else None


def _callee(call: CallNode) -> str:
    for ending in (".__init__", ".__new__"):
        if call.function.endswith(ending):
            return call.function.removesuffix(ending)
    return call.function


def _value(shown: ValueText | None) -> Any:  # noqa: ANN401
    if shown is None:
        return None
    try:
        return json.loads(shown)
    except ValueError:
        return shown


def _refine_cause(cause: Cause, finding: DivergenceFinding) -> Cause:
    """Put a first parting in the place of a cause, which becomes the first thing it explains."""
    placed = msgspec.structs.replace(
        cause, location=finding.location, message=_message(cause, finding), variants=()
    )
    if finding.kind is None or (finding.parameter is None and cause.kind in _EVENT_KINDS):
        return placed
    return msgspec.structs.replace(
        placed,
        kind=finding.kind,
        builder=finding.caller or cause.builder,
        callee=finding.callee or None,
        parameter=finding.parameter,
        before=finding.before,
        after=finding.after,
        where="" if finding.parameter else f"{finding.callee} in {finding.caller}",
        path=tuple(name for name in (finding.caller, finding.callee) if name),
        consequences=(*_effect(cause), *cause.consequences),
    )


def _message(cause: Cause, finding: DivergenceFinding) -> str:
    what = f"{finding.callee} {finding.parameter or ''}".strip() or "the lines of the function"
    where = f" in {finding.caller}" if finding.caller else ""
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
