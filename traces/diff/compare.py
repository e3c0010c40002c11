"""Compares two recordings of one scenario, and two sides with many scenarios."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from traces.diff.aliases import NO_ALIASES, Aliases
from traces.diff.aliases import rename_causes as alias_causes
from traces.diff.arguments import ArgumentComparison
from traces.diff.assembly import Assembly
from traces.diff.attribution import Attribution
from traces.diff.chains import Chains
from traces.diff.differences import Difference, Family, Layer
from traces.diff.events import EventComparison
from traces.diff.finish import Finisher
from traces.diff.ledger import Ledger
from traces.diff.merge import merge_causes, upstream_first
from traces.diff.moves import Moves
from traces.diff.pairing import Pairing, pair_calls
from traces.diff.places import Places
from traces.diff.readings import without_lone_readings
from traces.diff.renames import renamed_callees, renamed_parameters
from traces.diff.results import ResultComparison
from traces.diff.side import Side
from traces.diff.special import format_causes, lone_scenario, rename_causes, scenario_causes
from traces.diff.tensors import TensorComparison
from traces.model import Allocation, Recording, Trace
from traces.verdict import Cause, Kind


def diff(base: Recording | Trace, head: Recording | Trace) -> tuple[Cause, ...]:
    """Return the causes why two traces of one scenario differ, most upstream first.

    The result is empty exactly when the two traces have the same canonical content. Time and
    memory are linear in the number of events.
    """
    old, new = Side.of(base), Side.of(head)
    if msgspec.json.encode(old.trace) == msgspec.json.encode(new.trace):
        return ()
    return upstream_first(_Comparison.of(old, new).causes())


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
            *diff(*without_lone_readings(old, new)),
            *alias_causes(old_names, new_names),
        )
    for name in sorted(base.keys() ^ head.keys()):
        causes[name] = (lone_scenario(name, removed=name in base),)
    return merge_causes(causes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """The parts of one comparison."""

    base: Side
    head: Side
    pairing: Pairing
    parameters: Mapping[str, str]
    chains: Chains
    events: EventComparison
    places: Places
    ledger: Ledger

    @classmethod
    def of(cls, base: Side, head: Side) -> "_Comparison":
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
            chains=Chains(base=base, head=head, pairing=pairing, changes=changes),
            events=events,
            places=Places(base=base, head=head, events=events, pairs=pairing.pairs),
            ledger=Ledger(base=base, head=head, references=pairing.references, drafts=[]),
        )

    def causes(self) -> list[Cause]:
        """Find the causes, then give them all consequences."""
        self.ledger.drafts += scenario_causes(self.base, self.head)
        self.ledger.drafts += rename_causes(self.pairing, self.parameters, self.places)
        events = self.events.differences()
        assembly = self._walk(events)
        self._attribute(assembly, events)
        if not self.ledger.drafts:
            self.ledger.drafts += format_causes(self.base, self.head)
        finisher = Finisher(
            base=self.base,
            head=self.head,
            chains=self.chains,
            places=self.places,
            scenario=self.head.trace.scenario.name,
        )
        return [finisher.cause(draft) for draft in self.ledger.drafts]

    def _walk(self, events: Sequence[Difference]) -> Assembly:
        assembly = Assembly(
            base=self.base,
            head=self.head,
            pairing=self.pairing,
            chains=self.chains,
            places=self.places,
            ledger=self.ledger,
            disturbed=frozenset(self._disturbed(events)),
        )
        assembly.walk()
        return assembly

    def _attribute(self, assembly: Assembly, events: Sequence[Difference]) -> None:
        base, head, pairing = self.base, self.head, self.pairing
        results = ResultComparison(base=base, head=head, pairing=pairing)
        tensors = TensorComparison(base=base, head=head, pairing=pairing).differences()
        moves = Moves(base=base, head=head, pairing=pairing)
        reordered, digests = [*moves.reordered()], [*results.digests()]
        attribution = Attribution(base=base, head=head, ledger=self.ledger)
        attribution.tensors(_whole(tensors))
        attribution.events(_whole(events))
        late = [found for found in reordered if found.layer is Layer.OPERATIONS]
        attribution.others([*assembly.later, *late, *results.returned(), *_whole(digests)])
        cut = [found for found in (*tensors, *events, *digests) if found.truncated]
        attribution.ending([*results.raised(), *results.outcome()], [*assembly.truncated, *cut])
        early = [found for found in reordered if found.layer is Layer.ASSEMBLY]
        attribution.interface([*early, *moves.handed_over()])

    def _disturbed(self, events: Sequence[Difference]) -> Iterator[str]:
        """Yield the steps that come after a transfer that differs, or with another allocation."""
        calls = (*self.head.calls, *self.base.calls)
        steps = list(dict.fromkeys(call.step for call in calls))
        first = len(steps)
        for found in events:
            event = self.events.event(found)
            if found.family is Family.DATA and not found.truncated and event.step in steps:
                decides = found.kind is Kind.TRANSFER_CHANGED and isinstance(event, Allocation)
                first = min(first, steps.index(event.step) + (not decides))
        yield from steps[first:]


def _whole(differences: Sequence[Difference]) -> list[Difference]:
    return [found for found in differences if not found.truncated]
