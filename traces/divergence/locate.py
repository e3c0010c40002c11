"""Move of a cause to the place where two sides, run again, first diverge."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from traces.diff.values import is_mapping
from traces.divergence.call_divergence import Divergence, first_divergence
from traces.divergence.changed_code import ChangedCode, CodeChange
from traces.divergence.line_divergence import LineDivergence, first_line_divergence
from traces.divergence.logs import CallLog, CallNode, CallsRequest, LineLog, LinesRequest
from traces.divergence.source_comparison import KeywordChange, SourceComparison
from traces.schema.model import Location
from traces.schema.verdict import Cause, Consequence, Kind, Level

# With more, the first that is run is no better a place than an effect.
_MOST_PLACES = 3
_EVENT_KINDS = (
    Kind.TRANSFER_ADDED,
    Kind.TRANSFER_REMOVED,
    Kind.TRANSFER_CHANGED,
    Kind.ORDER_EDGE_ADDED,
    Kind.ORDER_EDGE_REMOVED,
)


class Replayer(Protocol):
    """One side on which a scenario can be run again."""

    def calls(self, scenario: str, request: CallsRequest) -> CallLog:
        """Run a scenario and log its calls."""

    def lines(self, scenario: str, request: LinesRequest) -> LineLog:
        """Run a scenario and log the lines of one call."""

    def files(self) -> Iterable[str]:
        """Return the files of the package that may differ from those of the other side."""

    def source(self, file: str) -> str | None:
        """Return the text of a file of the package, relative to its root; None for none."""


def locate_divergence(base: Replayer, head: Replayer, cause: Cause, *, scenario: str) -> Cause:
    """Return a cause with the place where the sides first diverge, or as it is when none is found.

    It is a difference of behaviour, and shows in the scenario.
    """
    found = find_divergence(base, head, cause, scenario=scenario)
    return cause if found is None else found


def find_divergence(base: Replayer, head: Replayer, cause: Cause, *, scenario: str) -> Cause | None:
    """Return a cause with the place where the sides first diverge; None when none is found.

    The cause itself comes back where it already names that place.
    """
    locator = _Locator(base=base, head=head, scenario=scenario)
    changes = ChangedCode(locator.sources, files=(*base.files(), *head.files()))
    requests = (CallsRequest(focus=changes.focus(in_head=in_head)) for in_head in (False, True))
    sides = zip((base, head), requests, strict=True)
    old, new = (side.calls(scenario, request) for side, request in sides)
    found = _compare_logs(locator, (old, new), cause)
    reached = changes.reached(old, new)
    own = _surrounding(cause.location, reached)
    if not reached or (len(reached) > _MOST_PLACES and not own):
        return found
    for one in (found, cause):
        site = None if one is None else one.location
        if one is not None and site and _is_at(site, reached, locator.sources):
            return one
    is_near = found is not None and len(reached) > 1 and _surrounding(found.location, reached)
    # An argument that differs is a fact; a line without one may be where the effect shows.
    if found is not None and found is not cause and found.parameter is not None and is_near:
        return found
    # The change in the function that the cause names, or the first that is run.
    return _moved_to((*own, *reached)[0], cause, reached)


def _moved_to(change: CodeChange, cause: Cause, reached: Sequence[CodeChange]) -> Cause:
    """Return a cause at a change; its message tells which others the scenario executes."""
    others = [f"{one.location.file}:{one.location.line}" for one in reached if one is not change]
    told, left = others[: _MOST_PLACES - 1], others[_MOST_PLACES - 1 :]
    executed = "executes no other change"
    if told:
        more = f" and {len(left)} more" if left else ""
        executed = f"also executes the change at {' and '.join(told)}{more}"
    message = f"{cause.message} The scenario {executed}.".lstrip()
    return msgspec.structs.replace(cause, location=change.location, message=message, variants=())


def _surrounding(place: Location | None, changes: Iterable[CodeChange]) -> list[CodeChange]:
    return [change for change in changes if change.surrounds(place)]


def _is_at(site: Location, changes: Iterable[CodeChange], sources: SourceComparison) -> bool:
    return any(
        site == change.location
        or (site.file == change.location.file and sources.is_statement_at(site, change.lines))
        for change in changes
    )


def _compare_logs(locator: "_Locator", logs: tuple[CallLog, CallLog], cause: Cause) -> Cause | None:
    """Return a cause with the place where two logs first diverge; None when none is found."""
    divergence = first_divergence(*logs, sources=locator.sources)
    if divergence is None:
        return None
    line_divergence = locator.line_divergence(divergence)
    location = locator.location(divergence, line_divergence)
    # What lies outside the package, the scenario's own call, is no better place than an effect.
    if location is None:
        return None
    line_is_changed = line_divergence is not None and line_divergence.is_changed
    found: Divergence | KeywordChange = divergence
    if line_is_changed and not divergence.name:
        found = locator.sources.changed_argument(location.file, location.line) or divergence
    # Runs may diverge by themselves: a line of a function that is the same is no better place than
    # one of a function that is not.
    is_unchanged = found.parameter is None and not locator.is_changed_at(location)
    if is_unchanged and locator.is_changed_at(cause.location):
        return cause
    caller = divergence.enclosing[1].function if divergence.enclosing else ""
    if not _is_reported(found, location, cause):
        return _refine_cause(cause, found, location=location, caller=caller)
    # The statement that fills a mapping is often that of the call that gets it.
    is_edited = line_is_changed or (
        divergence.field is not None and locator.touched_site(divergence) is not None
    )
    return msgspec.structs.replace(cause, location=location) if is_edited else cause


@dataclass(slots=True, kw_only=True)
class _Locator:
    base: Replayer
    head: Replayer
    scenario: str
    sources: SourceComparison = field(init=False)

    def __post_init__(self) -> None:
        self.sources = SourceComparison(base=self.base.source, head=self.head.source)

    def line_divergence(self, divergence: Divergence) -> LineDivergence | None:
        """Compare the lines of the enclosing function, unless the line of the call is enough."""
        if divergence.enclosing is None:
            return None
        old, new = divergence.enclosing
        if not old.file or old.file != new.file or self.touched_site(divergence) is not None:
            return None
        line = divergence.enclosing_line
        if divergence.is_value and not self.sources.is_function_touched(new.file, line):
            return None
        return first_line_divergence(
            self.base.lines(self.scenario, _lines_request(old)).stops,
            self.head.lines(self.scenario, _lines_request(new)).stops,
            same_lines=self.sources.same_lines(old.file),
        )

    def is_changed_at(self, place: Location | None) -> bool:
        """Return whether the function around a line of the head is another one on the base."""
        if place is None or self.sources.head(place.file) is None:
            return False
        return self.sources.is_function_touched(place.file, place.line)

    def location(
        self, divergence: Divergence, line_divergence: LineDivergence | None
    ) -> Location | None:
        """Return the line of the head at which the sides first diverge."""
        base, head = divergence.base, divergence.head
        if divergence.enclosing is not None and line_divergence is not None:
            file, line = divergence.enclosing[1].file, line_divergence.line
            if not divergence.is_value or line_divergence.is_changed:
                site = Location(file=file, line=line)
                return site if line_divergence.in_head else self._in_head(site)
        if (touched := self.touched_site(divergence)) is not None:
            return touched
        if divergence.kind in (Kind.CALL_REMOVED, Kind.CALL_REORDERED):
            return self._in_head(base.site) if base is not None and base.site else None
        return None if head is None or divergence.is_inside else head.site

    def touched_site(self, divergence: Divergence) -> Location | None:
        """Return the line of a call that stands there in one side only, or in another way."""
        for call, in_head in ((divergence.head, True), (divergence.base, False)):
            site = None if call is None or divergence.is_inside else call.site
            if site and self.sources.is_touched(site.file, site.line, in_head=in_head):
                return site if in_head else self._in_head(site)
        return None

    def _in_head(self, site: Location) -> Location:
        return Location(file=site.file, line=self.sources.line_in_head(site.file, site.line))


def _lines_request(call: CallNode) -> LinesRequest:
    return LinesRequest(function=call.function, number=call.number)


def _is_reported(found: Divergence | KeywordChange, location: Location, cause: Cause) -> bool:
    if found.parameter is None:
        # A call without an argument that it needs is not made: the argument says more.
        if cause.parameter is not None:
            return found.callee == cause.callee
        return cause.location == location
    names = (cause.parameter or "").split(".")
    if isinstance(found, Divergence) and found.field is not None and is_mapping(found.argument):
        # A field of a mapping is told as the parameter that it is published as, where it is one.
        return found.parameter.rpartition(".")[2] in names
    return found.parameter in names and found.callee in (cause.callee, cause.builder, *cause.path)


def _refine_cause(
    cause: Cause, found: Divergence | KeywordChange, *, location: Location, caller: str
) -> Cause:
    """Put a divergence in the place of a cause, which becomes the first thing it explains."""
    message = _refined_message(cause, found, location=location, caller=caller)
    placed = msgspec.structs.replace(cause, location=location, message=message, variants=())
    if found.kind is None or (found.parameter is None and cause.kind in _EVENT_KINDS):
        return placed
    return msgspec.structs.replace(
        placed,
        kind=found.kind,
        builder=caller or cause.builder,
        callee=found.callee or None,
        parameter=found.parameter,
        before=found.before,
        after=found.after,
        where="" if found.parameter else f"{found.callee} in {caller}",
        path=tuple(name for name in (caller, found.callee) if name),
        consequences=(*_effect(cause), *cause.consequences),
    )


def _refined_message(
    cause: Cause, found: Divergence | KeywordChange, *, location: Location, caller: str
) -> str:
    if found.parameter:
        what = f"the argument {found.parameter} of {found.callee}"
    else:
        what = f"the call of {found.callee}" if found.callee else "the lines of the function"
    where = f" in {caller}" if caller else ""
    message = f"A second run with all calls logged first differs{where}, at {what}."
    if cause.location is None or cause.location == location:
        return message
    return f"{message} The trace shows it at {cause.location.file}:{cause.location.line}."


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
