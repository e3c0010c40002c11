"""Compares two recordings of one scenario, and two sides with many scenarios."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from traces.diff.aliases import NO_ALIASES, Aliases, alias_causes
from traces.diff.attribute.attribution import Attribution
from traces.diff.attribute.cause_index import CauseIndex
from traces.diff.attribute.causes import CauseFinder
from traces.diff.attribute.chains import ArgumentChains
from traces.diff.attribute.scenario_causes import (
    format_causes,
    rename_causes,
    scenario_causes,
    unmatched_scenario,
)
from traces.diff.compare.arguments import ArgumentComparison
from traces.diff.compare.events import EventComparison
from traces.diff.compare.optional_reads import without_unshared_reads
from traces.diff.compare.reordered_calls import ReorderedCalls
from traces.diff.compare.results import ResultComparison
from traces.diff.compare.tensors import TensorComparison
from traces.diff.differences import Difference, DiffLayer, EventFamily
from traces.diff.index import RecordingIndex
from traces.diff.locations import LocationFinder
from traces.diff.merge import merge_causes, upstream_first
from traces.diff.pairing import CallPairing, pair_calls
from traces.diff.renames import renamed_callees, renamed_parameters
from traces.diff.report import CauseWriter
from traces.schema.model import Allocation, Recording, Trace
from traces.schema.verdict import Cause, Kind


def diff(base: Recording | Trace, head: Recording | Trace) -> tuple[Cause, ...]:
    """Return the causes why two traces of one scenario differ, most upstream first.

    The result is empty exactly when the two traces have the same canonical content. Time and
    memory are linear in the number of events.
    """
    old, new = RecordingIndex.of(base), RecordingIndex.of(head)
    if msgspec.json.encode(old.trace) == msgspec.json.encode(new.trace):
        return ()
    return upstream_first(_RecordingComparison.of(old, new).causes())


def compare_sides(
    base: Mapping[str, Recording],
    head: Mapping[str, Recording],
    *,
    aliases: Aliases = NO_ALIASES,
) -> tuple[Cause, ...]:
    """Return the causes why two sides differ, merged over their scenarios.

    A scenario that only one side has is ``scenario_added`` or ``scenario_removed``.

    Args:
        base: recordings by scenario.
        head: recordings by scenario.
        aliases: names of the target that changed from release to release.
    """
    causes: dict[str, tuple[Cause, ...]] = {}
    for name in sorted(base.keys() & head.keys()):
        old, old_names = aliases.applied(base[name])
        new, new_names = aliases.applied(head[name])
        causes[name] = (
            *diff(*without_unshared_reads(old, new)),
            *alias_causes(old_names, new_names),
        )
    for name in sorted(base.keys() ^ head.keys()):
        causes[name] = (unmatched_scenario(name, removed=name in base),)
    return merge_causes(causes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RecordingComparison:
    """The parts of one comparison."""

    base: RecordingIndex
    head: RecordingIndex
    pairing: CallPairing
    parameters: Mapping[str, str]
    chains: ArgumentChains
    events: EventComparison
    locations: LocationFinder
    cause_index: CauseIndex

    @classmethod
    def of(cls, base: RecordingIndex, head: RecordingIndex) -> "_RecordingComparison":
        """Align both sides and compare all arguments."""
        pairing = pair_calls(base, head, renamed_callees(base, head))
        parameters = renamed_parameters(pairing)
        arguments = ArgumentComparison(
            base=base, head=head, references=pairing.references, parameters=parameters
        )
        changes = {pair.head.call: arguments.changes(pair) for pair in pairing.pairs}
        events = EventComparison.of(base, head, pairing.references.renamed)
        return cls(
            base=base,
            head=head,
            pairing=pairing,
            parameters=parameters,
            chains=ArgumentChains(base=base, head=head, pairing=pairing, changes=changes),
            events=events,
            locations=LocationFinder(base=base, head=head, events=events, pairs=pairing.pairs),
            cause_index=CauseIndex(
                base=base, head=head, references=pairing.references, cause_builders=[]
            ),
        )

    def causes(self) -> list[Cause]:
        """Find the causes, then give them all consequences."""
        self.cause_index.cause_builders += scenario_causes(self.base, self.head)
        self.cause_index.cause_builders += rename_causes(
            self.pairing, self.parameters, self.locations
        )
        events = self.events.differences()
        assembly = self._walk(events)
        self._attribute(assembly, events)
        if not self.cause_index.cause_builders:
            self.cause_index.cause_builders += format_causes(self.base, self.head)
        finisher = CauseWriter(
            base=self.base,
            head=self.head,
            chains=self.chains,
            locations=self.locations,
            scenario=self.head.trace.scenario.name,
        )
        return [finisher.cause(draft) for draft in self.cause_index.cause_builders]

    def _walk(self, events: Sequence[Difference]) -> CauseFinder:
        assembly = CauseFinder(
            base=self.base,
            head=self.head,
            pairing=self.pairing,
            chains=self.chains,
            locations=self.locations,
            cause_index=self.cause_index,
            changed_steps=frozenset(self._changed_steps(events)),
        )
        assembly.walk()
        return assembly

    def _attribute(self, assembly: CauseFinder, events: Sequence[Difference]) -> None:
        base, head, pairing = self.base, self.head, self.pairing
        results = ResultComparison(base=base, head=head, pairing=pairing)
        tensors = TensorComparison(base=base, head=head, pairing=pairing).differences()
        moves = ReorderedCalls(base=base, head=head, pairing=pairing)
        reordered, digests = [*moves.reordered()], [*results.digests()]
        attribution = Attribution(base=base, head=head, cause_index=self.cause_index)
        attribution.tensors(_without_truncated(tensors))
        attribution.events(_without_truncated(events))
        late = [found for found in reordered if found.layer is DiffLayer.OPERATIONS]
        attribution.others(
            [*assembly.deferred, *late, *results.returned(), *_without_truncated(digests)]
        )
        cut = [found for found in (*tensors, *events, *digests) if found.truncated]
        attribution.ending([*results.raised(), *results.outcome()], [*assembly.truncated, *cut])
        early = [found for found in reordered if found.layer is DiffLayer.ASSEMBLY]
        attribution.interface([*early, *moves.with_new_caller()])

    def _changed_steps(self, events: Sequence[Difference]) -> Iterator[str]:
        """Yield the steps that come after a transfer that differs, or with another allocation."""
        calls = (*self.head.calls, *self.base.calls)
        steps = list(dict.fromkeys(call.step for call in calls))
        first = len(steps)
        for found in events:
            event = self.events.event(found)
            if found.family is EventFamily.DATA and not found.truncated and event.step in steps:
                decides = found.kind is Kind.TRANSFER_CHANGED and isinstance(event, Allocation)
                first = min(first, steps.index(event.step) + (not decides))
        yield from steps[first:]


def _without_truncated(differences: Sequence[Difference]) -> list[Difference]:
    return [found for found in differences if not found.truncated]
