"""Statistics of a campaign: scores, first causes, use of trace fields, survivors."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from tools.mutation.campaign.journal import SCHEMA
from tools.mutation.campaign.tasks import MutantResult
from tools.mutation.release.selection import UnexecutedSites
from tools.mutation.report.survivors import ExplainedSurvivors
from tools.mutation.trace_fields import INTERFACE_FIELDS, SECTIONS, sections_of

VERDICTS = ("killed", "equivalent", "survived", "unreached", "loud", "unjudged")


class OperatorScore(msgspec.Struct, frozen=True, kw_only=True):
    """Verdicts on the mutants of one operator.

    Attributes:
        same_program: survivors of which a row says that no input tells them from the source.
        loud: no scenario that shows them runs to the end: they prove nothing.
        unjudged: they have no cause, and the gate would exit with 2.
        by_section: killed mutants in which that part of the trace differs.
        alone: those in which nothing but that part differs.
    """

    operator: str
    mutants: int
    killed: int
    equivalent: int
    survived: int
    same_program: int
    unreached: int
    loud: int
    unjudged: int
    by_section: dict[str, int]
    alone: dict[str, int]

    @property
    def silent(self) -> int:
        """Mutants that run to the end and are not proven to be equivalent."""
        return self.killed + self.survived

    @property
    def faults(self) -> int:
        """Silent mutants without those that are the same program by their row."""
        return self.silent - self.same_program


class FirstCauseAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Number of kills whose first cause is right.

    Attributes:
        line: it points at a changed line.
        function: it points into a function with a changed line.
        with_parameter: kills of mutants that change a parameter.
        parameter: it names the parameter, of those.
        right: it names the parameter where one is changed, and points at the line where none is.
    """

    kills: int
    line: int
    function: int
    with_parameter: int
    parameter: int
    right: int


class FieldKills(msgspec.Struct, frozen=True, kw_only=True):
    """Kills in which one field of the trace differs, and those in which it alone does."""

    field: str
    kills: int
    alone: int


class Survivor(msgspec.Struct, frozen=True, kw_only=True):
    """A mutant that no scenario tells from the source.

    Attributes:
        state: first scenario that leaves another state; empty when none is known.
        reason: the explanation; empty without one.
        is_same_program: the reason says that no input tells it from the source.
    """

    operator: str
    label: str
    key: str
    reaching: int
    state: str
    reason: str
    is_same_program: bool


class MutationStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """All statistics of a campaign.

    Attributes:
        distinct: number of mutants.
        fields: of the trace, those that kill most alone first.
        candidates: fields that never kill a mutant alone.
        stale: keys of explained survivors that are killed.
        wrong: kills whose first cause is not right, with its headline.
        unjudged: mutants for which the gate would exit with 2, killed or not, and why.
        unexecuted: sites that no scenario executes, by kind; the mutants are among the others.
        notes: one line for each thing that was left out.
    """

    schema: str = SCHEMA
    target: str
    side: str
    distinct: int
    scores: tuple[OperatorScore, ...]
    total: OperatorScore
    first_cause: FirstCauseAccuracy
    fields: tuple[FieldKills, ...]
    candidates: tuple[str, ...]
    survivors: tuple[Survivor, ...]
    stale: tuple[str, ...]
    wrong: tuple[str, ...]
    unjudged: tuple[str, ...]
    unexecuted: tuple[UnexecutedSites, ...] = ()
    notes: tuple[str, ...]

    @property
    def unexplained(self) -> tuple[Survivor, ...]:
        """Survivors without an explanation."""
        return tuple(survivor for survivor in self.survivors if not survivor.reason)


def compute_statistics(
    results: Sequence[MutantResult],
    *,
    target: str,
    side: str,
    explained: ExplainedSurvivors,
    unexecuted: tuple[UnexecutedSites, ...] = (),
    notes: tuple[str, ...],
) -> MutationStatistics:
    """Return the statistics of the results of a campaign."""
    killed = [one for one in results if one.verdict == "killed"]
    fields = _field_kills(killed)
    same = {one.id for one in results if explained.is_same_program(target, one)}
    by_operator: dict[str, list[MutantResult]] = {}
    for one in results:
        by_operator.setdefault(one.operator, []).append(one)
    return MutationStatistics(
        target=target,
        side=side,
        distinct=len(results),
        scores=tuple(_score(name, own, same) for name, own in by_operator.items()),
        total=_score("all", results, same),
        first_cause=_first_cause_accuracy(killed),
        fields=fields,
        candidates=tuple(use.field for use in fields if not use.alone),
        survivors=tuple(
            Survivor(
                operator=one.operator,
                label=one.label,
                key=one.key,
                reaching=one.reaching,
                state=one.proof,
                reason=explained.reason(target, one),
                is_same_program=one.id in same,
            )
            for one in results
            if one.verdict in ("survived", "unreached")
        ),
        stale=tuple(explained.stale(target, results)),
        wrong=tuple(f"{one.label}: {one.headline}" for one in killed if not _is_right(one)),
        unjudged=tuple(
            f"{one.operator} {one.label}: {one.verdict}: {one.problem}"
            for one in results
            if one.problem
        ),
        unexecuted=unexecuted,
        notes=notes,
    )


def _score(operator: str, results: Sequence[MutantResult], same: set[str]) -> OperatorScore:
    verdicts = Counter(one.verdict for one in results)
    parts = [sections_of(_behaviour_fields(one)) for one in results if one.verdict == "killed"]
    return OperatorScore(
        operator=operator,
        mutants=len(results),
        **{verdict: verdicts[verdict] for verdict in VERDICTS},
        same_program=sum(one.verdict == "survived" and one.id in same for one in results),
        by_section={part: sum(part in found for found in parts) for part in SECTIONS},
        alone={part: sum(found == {part} for found in parts) for part in SECTIONS},
    )


def _behaviour_fields(result: MutantResult) -> frozenset[str]:
    return frozenset(result.fields) - INTERFACE_FIELDS


def _field_kills(killed: Sequence[MutantResult]) -> tuple[FieldKills, ...]:
    found = [_behaviour_fields(one) for one in killed]
    kills = Counter(field for fields in found for field in fields)
    alone = Counter(field for fields in found if len(fields) == 1 for field in fields)
    uses = [FieldKills(field=field, kills=kills[field], alone=alone[field]) for field in kills]
    return tuple(sorted(uses, key=lambda use: (-use.alone, -use.kills, use.field)))


def _first_cause_accuracy(killed: Sequence[MutantResult]) -> FirstCauseAccuracy:
    named = [one for one in killed if one.has_parameter]
    return FirstCauseAccuracy(
        kills=len(killed),
        line=sum(one.right_line for one in killed),
        function=sum(one.right_function for one in killed),
        with_parameter=len(named),
        parameter=sum(one.right_parameter for one in named),
        right=sum(_is_right(one) for one in killed),
    )


def _is_right(result: MutantResult) -> bool:
    return result.right_parameter if result.has_parameter else result.right_line
