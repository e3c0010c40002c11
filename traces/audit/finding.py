"""Findings of an audit: causes without a second side, merged over scenarios."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from typing_extensions import override

from traces.schema.model import Call, Location, Recording
from traces.schema.verdict import Cause, Consequence, Kind

# Behind every difference of a trace: those layers are 0 to 5, the form of goldens is 6.
FINDING_LAYER = 7

FINDING_ORDER = (
    Kind.DECLARED_NOT_ASSEMBLED,
    Kind.STALE_AFTER_RESTORE,
    Kind.ROW_BYTES_MISMATCH,
    Kind.LAYERS_CHANGED,
    Kind.STORAGE_KEY_COLLISION,
    Kind.READ_BEFORE_READY,
    Kind.BUFFER_INFO_MISMATCH,
    Kind.PAGE_MISMATCH,
    Kind.STATE_LEFT_BEHIND,
    Kind.UNBALANCED,
    Kind.OUTCOME_CHANGED,
    Kind.SIBLING_DISAGREEMENT,
    Kind.ARGUMENT_CHANGED,
    Kind.PARAMETER_BLIND_SPOT,
    Kind.UNCALLED_METHOD,
    Kind.UNCOVERED_BUILDER,
)


def finding_rank(kind: Kind) -> tuple[int, int]:
    """Return the rank of a finding: behind every difference, bytes that are lost first."""
    return FINDING_LAYER, FINDING_ORDER.index(kind)


class FindingKey(NamedTuple):
    """The name of a finding in a baseline: rule and subject, no line and no scenario."""

    kind: Kind
    subject: str

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"

    @classmethod
    def parse(cls, text: str) -> "FindingKey":
        """Return the key that a baseline writes as kind and subject.

        Raises:
            ValueError: the first word is no kind.
        """
        kind, _, subject = text.partition(" ")
        return cls(Kind(kind), subject)


def finding_key(cause: Cause) -> FindingKey:
    """Return the name of a finding in a baseline."""
    return FindingKey(cause.kind, cause.where)


def merge_findings(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    """Return each finding once, with all of its scenarios, the worst first.

    Of equal findings the one of the first scenario gives the values that are shown.
    """
    groups: dict[FindingKey, list[Cause]] = {}
    for cause in causes:
        groups.setdefault(finding_key(cause), []).append(cause)
    return tuple(sorted(map(_merge_group, groups.values()), key=lambda one: (one.rank, one.where)))


def own_location(site: Location | None) -> Location | None:
    """Return a line of the side that was run; None for one of the scenario's own."""
    return None if site is None or site.file.startswith("/") else site


def call_location(recording: Recording, call: Call) -> Location | None:
    """Return the line that makes a call."""
    sites = recording.sites
    return None if sites is None else own_location(sites.calls.get(call.call))


def definition_location(recording: Recording, callee: str) -> Location | None:
    """Return the line where a callee is defined."""
    sites = recording.sites
    return None if sites is None else own_location(sites.definitions.get(callee))


def entry_name(recording: Recording) -> str:
    """Return the entry of a scenario: by its configuration, else the first builder called."""
    named = recording.trace.scenario.config.get("builder")
    if isinstance(named, str):
        return named
    callees = [call.callee for call in recording.trace.calls if call.role == "builder"]
    return callees[0] if callees else recording.trace.scenario.name


def _merge_group(causes: Iterable[Cause]) -> Cause:
    group = sorted(causes, key=lambda cause: cause.scenarios)
    parts: dict[tuple[Kind, str], Consequence] = {}
    for part in (part for cause in group for part in cause.consequences):
        first = parts.get((part.kind, part.where))
        count = part.count + (0 if first is None else first.count)
        parts[part.kind, part.where] = msgspec.structs.replace(first or part, count=count)
    scenarios = tuple(sorted({name for cause in group for name in cause.scenarios}))
    consequences = tuple(parts.values())
    return msgspec.structs.replace(group[0], scenarios=scenarios, consequences=consequences)
