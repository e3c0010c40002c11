"""What a campaign says about the net, as figures."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from tools.mutation.campaign.tasks import MutantResult
from tools.mutation.report.survivors import ExplainedSurvivors
from tools.mutation.trace_fields import INTERFACE_FIELDS, SECTIONS, sections_of

SCHEMA = "goldentrace.mutation/1"
VERDICTS = ("killed", "equivalent", "survived", "unreached", "loud")


class OperatorScore(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the mutants of one operator.

    Attributes:
        loud: no scenario that shows them runs to the end: they prove nothing.
        by_section: mutants in which that part of the trace differs.
        alone: mutants in which nothing but that part differs.
    """

    operator: str
    mutants: int
    killed: int
    equivalent: int
    survived: int
    unreached: int
    loud: int
    by_section: dict[str, int]
    alone: dict[str, int]

    @property
    def silent(self) -> int:
        """Mutants that run to the end and are not proven to be the same program."""
        return self.killed + self.survived


class FirstCauseAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """How often the first cause of a kill is right.

    Attributes:
        kills: number of kills.
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
    """How useful a field of the trace is: mutants it differs in, and those it alone kills."""

    field: str
    kills: int
    alone: int


class Survivor(msgspec.Struct, frozen=True, kw_only=True):
    """A mutant that no scenario tells from the source.

    Attributes:
        reaching: scenarios that execute it.
        state: first scenario that leaves another state; empty when none is known.
        reason: of the ledger; empty when it is not explained.
    """

    operator: str
    label: str
    key: str
    reaching: int
    state: str
    reason: str


class MutationStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        target: whose code.
        side: which of its sides.
        distinct: number of mutants.
        scores: by operator.
        first_cause: whether the first cause can be trusted.
        fields: of the trace, the most useful first.
        candidates: fields that never kill a mutant alone.
        survivors: all of them.
        stale: rows of the ledger whose mutants are killed.
        wrong: kills whose first cause is not right, with what it says.
        notes: one line for each thing that was left out.
    """

    schema: str = SCHEMA
    target: str
    side: str
    distinct: int
    scores: tuple[OperatorScore, ...]
    first_cause: FirstCauseAccuracy
    fields: tuple[FieldKills, ...]
    candidates: tuple[str, ...]
    survivors: tuple[Survivor, ...]
    stale: tuple[str, ...]
    wrong: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def total(self) -> OperatorScore:
        """The sum over all operators."""
        return _sum(self.scores)

    @property
    def unexplained(self) -> tuple[Survivor, ...]:
        """Survivors that the ledger does not explain."""
        return tuple(survivor for survivor in self.survivors if not survivor.reason)


def compute_statistics(
    results: Sequence[MutantResult],
    *,
    target: str,
    side: str,
    explained: ExplainedSurvivors,
    notes: tuple[str, ...],
) -> MutationStatistics:
    """Count."""
    killed = [fate for fate in results if fate.verdict == "killed"]
    fields = _fields(killed)
    survivors = tuple(
        Survivor(
            operator=fate.operator,
            label=fate.label,
            key=fate.key,
            reaching=fate.reaching,
            state=fate.proof,
            reason=explained.reason(target, fate),
        )
        for fate in results
        if fate.verdict in ("survived", "unreached")
    )
    return MutationStatistics(
        target=target,
        side=side,
        distinct=len(results),
        scores=tuple(
            _score(operator, [fate for fate in results if fate.operator == operator])
            for operator in dict.fromkeys(fate.operator for fate in results)
        ),
        first_cause=_first_cause(killed),
        fields=fields,
        candidates=tuple(use.field for use in fields if not use.alone),
        survivors=survivors,
        stale=tuple(explained.stale(target, results)),
        wrong=tuple(
            f"{fate.label}: {fate.headline}" for fate in killed if not _is_cause_right(fate)
        ),
        notes=notes,
    )


def _score(operator: str, results: Sequence[MutantResult]) -> OperatorScore:
    verdicts = Counter(fate.verdict for fate in results)
    parts = [_deciding_sections(fate) for fate in results if fate.verdict == "killed"]
    return OperatorScore(
        operator=operator,
        mutants=len(results),
        **{verdict: verdicts[verdict] for verdict in VERDICTS},
        by_section={part: sum(part in found for found in parts) for part in SECTIONS},
        alone={part: sum(found == {part} for found in parts) for part in SECTIONS},
    )


def _sum(scores: Sequence[OperatorScore]) -> OperatorScore:
    return OperatorScore(
        operator="all",
        mutants=sum(score.mutants for score in scores),
        **{verdict: sum(getattr(score, verdict) for score in scores) for verdict in VERDICTS},
        by_section={part: sum(score.by_section[part] for score in scores) for part in SECTIONS},
        alone={part: sum(score.alone[part] for score in scores) for part in SECTIONS},
    )


def _deciding_fields(result: MutantResult) -> frozenset[str]:
    return frozenset(result.fields) - INTERFACE_FIELDS


def _deciding_sections(result: MutantResult) -> frozenset[str]:
    return sections_of(_deciding_fields(result))


def _fields(killed: Sequence[MutantResult]) -> tuple[FieldKills, ...]:
    kills = Counter(field for fate in killed for field in _deciding_fields(fate))
    alone = Counter(
        field
        for fate in killed
        if len(_deciding_fields(fate)) == 1
        for field in _deciding_fields(fate)
    )
    uses = [FieldKills(field=field, kills=kills[field], alone=alone[field]) for field in kills]
    return tuple(sorted(uses, key=lambda use: (-use.alone, -use.kills, use.field)))


def _first_cause(killed: Sequence[MutantResult]) -> FirstCauseAccuracy:
    named = [fate for fate in killed if _changes_parameter(fate)]
    return FirstCauseAccuracy(
        kills=len(killed),
        line=sum(fate.right_line for fate in killed),
        function=sum(fate.right_function for fate in killed),
        with_parameter=len(named),
        parameter=sum(fate.right_parameter for fate in named),
        right=sum(_is_cause_right(fate) for fate in killed),
    )


def _is_cause_right(result: MutantResult) -> bool:
    return result.right_parameter if _changes_parameter(result) else result.right_line


def _changes_parameter(result: MutantResult) -> bool:
    return result.has_parameter
