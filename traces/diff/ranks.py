"""Comparison of the ranks of one run: members of a group take part in the same collectives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest

from typing_extensions import override

from traces.schema.collectives import Collective
from traces.schema.model import Outcome, Recording

_Place = tuple[str, str, str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankDivergence:
    """Two ranks that did not do the same, with what each did.

    Attributes:
        ranks: their global ranks.
        group: role of the process group they share; empty where only their outcomes differ.
        number: which collective of the group differs, from 0.
        first: that of the first rank; None when it has fewer.
        second: that of the second rank; None when it has fewer.
        outcomes: how the scenario ended on each.
        recordings: everything that was recorded on each.
    """

    ranks: tuple[int, int]
    group: str
    number: int
    first: Collective | None
    second: Collective | None
    outcomes: tuple[Outcome, Outcome]
    recordings: tuple[Recording, Recording]

    @override
    def __str__(self) -> str:
        """Return one line: *subject: rule; expected X, got Y*."""
        first, second = self.ranks
        if not self.group:
            subject, rule = f"ranks {first} and {second}", "a scenario must end the same"
            left, right = map(_ending, self.outcomes)
            return f"{subject}: {rule}; expected {left}, got {right}"
        subject = f"ranks {first} and {second} of group {self.group}"
        rule = f"collective {self.number} must be the same"
        return f"{subject}: {rule}; expected {_shown(self.first)}, got {_shown(self.second)}"


def rank_divergences(recordings: Sequence[Recording]) -> tuple[RankDivergence, ...]:
    """Return where the ranks of one run diverge, by rank; at most one a pair of ranks."""
    return tuple(
        divergence
        for first, second in combinations(range(len(recordings)), 2)
        if (divergence := _divergence(recordings, first, second)) is not None
    )


def _divergence(recordings: Sequence[Recording], first: int, second: int) -> RankDivergence | None:
    pair = recordings[first], recordings[second]
    outcomes = pair[0].trace.outcome, pair[1].trace.outcome
    for group, (left, right) in _shared_groups(pair, (first, second)):
        for number, (one, other) in enumerate(zip_longest(left, right)):
            if one is None or other is None or _key(one) != _key(other):
                return RankDivergence(
                    ranks=(first, second),
                    group=group,
                    number=number,
                    first=one,
                    second=other,
                    outcomes=outcomes,
                    recordings=pair,
                )
    if outcomes[0] == outcomes[1]:
        return None
    return RankDivergence(
        ranks=(first, second),
        group="",
        number=0,
        first=None,
        second=None,
        outcomes=outcomes,
        recordings=pair,
    )


def _shared_groups(
    pair: tuple[Recording, Recording], ranks: tuple[int, int]
) -> Iterator[tuple[str, tuple[list[Collective], list[Collective]]]]:
    """Yield the groups that have both ranks, with the collectives of each in order."""
    events = [
        [one for one in recording.trace.events if isinstance(one, Collective)] for recording in pair
    ]
    places = dict.fromkeys((one.group, one.ranks) for side in events for one in side)
    for group, members in places:
        if set(ranks) <= set(members):
            left, right = (
                [one for one in side if (one.group, one.ranks) == (group, members)]
                for side in events
            )
            yield group, (left, right)


def _key(event: Collective) -> _Place:
    return event.operation, event.reduction, event.dtype, event.shape


def _shown(event: Collective | None) -> str:
    if event is None:
        return "none"
    shape = "x".join(map(str, event.shape))
    return " ".join(filter(None, (event.operation, event.reduction, event.dtype, f"[{shape}]")))


def _ending(outcome: Outcome) -> str:
    if outcome.ok or outcome.failure is None:
        return "ok"
    return f"{outcome.failure.type} in step {outcome.failed_step}: {outcome.failure.message}"
