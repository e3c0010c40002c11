"""Move of a cause to the place where two sides, run again, first diverge."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from traces.divergence.call_divergence import Divergence, first_divergence
from traces.divergence.line_divergence import LineDivergence, first_line_divergence
from traces.divergence.logs import CallLog, LineLog, ValueText
from traces.divergence.source_comparison import SourceComparison
from traces.schema.model import Location
from traces.schema.verdict import Cause, Consequence, Kind, Level

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
    """One side on which a scenario can be run again."""

    def calls(self, scenario: str) -> CallLog:
        """Run a scenario and log its calls."""

    def lines(self, scenario: str, *, function: str, number: int) -> LineLog:
        """Run a scenario and log the lines of one call."""

    def source(self, file: str) -> str | None:
        """Return the text of a file of the package, relative to its root; None for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergenceFinding:
    """The first divergence in terms of the head's source.

    Attributes:
        caller: function around it.
        kind: of a cause; None when only the place is new.
        callee: function or class that is called; empty for none.
        parameter: None unless an argument is the fault.
    """

    caller: str
    location: Location
    kind: Kind | None
    callee: str
    parameter: str | None
    before: Any
    after: Any


def locate_divergence(base: Replayer, head: Replayer, cause: Cause, *, scenario: str) -> Cause:
    """Return a cause with the place where the sides first diverge, or as it is when none is found.

    Args:
        base: runs the base.
        head: runs the head.
        cause: a difference of behaviour.
        scenario: in which it shows.
    """
    locator = _Locator(base=base, head=head, scenario=scenario)
    divergence = first_divergence(
        base.calls(scenario), head.calls(scenario), sources=locator.sources
    )
    if divergence is None:
        return cause
    line_divergence = locator.line_divergence(divergence)
    location = locator.location(divergence, line_divergence)
    # What lies outside the package, the scenario's own call, is no better place than an effect.
    if location is None:
        return cause
    finding = locator.finding(divergence, line_divergence, location)
    if not _is_reported(finding, cause):
        return _refine_cause(cause, finding)
    is_made_elsewhere = line_divergence is not None and line_divergence.is_changed
    return msgspec.structs.replace(cause, location=finding.location) if is_made_elsewhere else cause


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
        if divergence.enclosing is None or divergence.what == "parameter":
            return None
        old, new = divergence.enclosing
        if not old.file or old.file != new.file or self._touched_site(divergence) is not None:
            return None
        is_value = divergence.what == "argument" and divergence.name
        if is_value and not self.sources.is_function_touched(new.file, divergence.enclosing_line):
            return None
        return first_line_divergence(
            self.base.lines(self.scenario, function=old.function, number=old.number).stops,
            self.head.lines(self.scenario, function=new.function, number=new.number).stops,
            same_lines=self.sources.same_lines(old.file),
        )

    def finding(
        self, divergence: Divergence, line_divergence: LineDivergence | None, location: Location
    ) -> DivergenceFinding:
        """Return the cause that a divergence is: a keyword of the changed line, if that differs."""
        caller = divergence.enclosing[1].function if divergence.enclosing else ""
        if not divergence.name and line_divergence is not None and line_divergence.is_changed:
            change = self.sources.changed_argument(location.file, location.line)
            if change is not None:
                return DivergenceFinding(
                    caller=caller,
                    location=location,
                    kind=change.kind,
                    callee=change.callee,
                    parameter=change.keyword,
                    before=change.before,
                    after=change.after,
                )
        calls = divergence.base, divergence.head
        call = (calls[1] or calls[0]) if divergence.name else (calls[0] or calls[1])
        return DivergenceFinding(
            caller=caller,
            location=location,
            kind=divergence.kind,
            callee=call.callee if call is not None and divergence.kind else "",
            parameter=divergence.name or None,
            before=_parsed(divergence.before),
            after=_parsed(divergence.after),
        )

    def location(
        self, divergence: Divergence, line_divergence: LineDivergence | None
    ) -> Location | None:
        """Return the line of the head at which the sides first diverge."""
        base, head = divergence.base, divergence.head
        if divergence.enclosing is not None and line_divergence is not None:
            file, line = divergence.enclosing[1].file, line_divergence.line
            is_value = divergence.what == "argument" and divergence.name
            if not is_value or line_divergence.is_changed:
                in_head = line_divergence.in_head
                return Location(
                    file=file, line=line if in_head else self.sources.line_in_head(file, line)
                )
        if (touched := self._touched_site(divergence)) is not None:
            return touched
        if divergence.what in ("argument", "parameter", "added") and head is not None:
            return head.site
        if divergence.what in ("removed", "reordered") and base is not None and base.site:
            return self._in_head(base.site)
        return None

    def _touched_site(self, divergence: Divergence) -> Location | None:
        """Return the line of a call that stands there in one side only, or in another way."""
        for call, in_head in ((divergence.head, True), (divergence.base, False)):
            site = None if call is None or divergence.what == "inside" else call.site
            if site and self.sources.is_touched(site.file, site.line, in_head=in_head):
                return site if in_head else self._in_head(site)
        return None

    def _in_head(self, site: Location) -> Location:
        return Location(file=site.file, line=self.sources.line_in_head(site.file, site.line))


def _is_reported(finding: DivergenceFinding, cause: Cause) -> bool:
    """Return whether a cause already names the finding."""
    if finding.parameter is None:
        return cause.parameter is None and cause.location == finding.location
    callees = (cause.callee, cause.builder, *cause.path)
    return finding.parameter in (cause.parameter or "").split(".") and finding.callee in callees


def _parsed(text: ValueText | None) -> Any:  # noqa: ANN401
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _refine_cause(cause: Cause, finding: DivergenceFinding) -> Cause:
    """Put a divergence in the place of a cause, which becomes the first thing it explains."""
    what = f"{finding.callee} {finding.parameter or ''}".strip() or "the lines of the function"
    where = f" in {finding.caller}" if finding.caller else ""
    placed = msgspec.structs.replace(
        cause,
        location=finding.location,
        message=(
            f"run again, the sides first diverge{where}: {what}; "
            f"the traces show it as {cause.headline()}"
        ),
        variants=(),
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
