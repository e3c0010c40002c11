"""The verdict on a mutant, from its scenarios one by one."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from tools.errors import one_line
from tools.mutation.campaign.tasks import MutantResult
from tools.mutation.mutant import LineRange, Mutant
from tools.mutation.trace_fields import INTERFACE_FIELDS
from traces.schema.verdict import Cause

# Errors that a reviewer sees at once; a mutant that raises one proves nothing about the gate.
_LOUD_ERRORS = ("TypeError", "NameError", "UnboundLocalError", "AttributeError", "ImportError")
_LOUD_AFTER = 7
"""Scenarios that a mutant may end, and none run to the end, before it counts as loud."""
SCENARIOS_AFTER_KILL = 3
"""Scenarios after the first kill that show whether a second field differs."""


class ScenarioOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one scenario of a mutant.

    Attributes:
        new_failure: the error that ended it where the unchanged code has none; else empty.
        causes: the first, if any.
        same_state: whether the stack is left in the state that the unchanged code leaves.
        other_state: whether it is left in another one; neither where states cannot be read.
        raised: why there is no trace at all.
    """

    new_failure: str = ""
    causes: tuple[Cause, ...] = ()
    fields: tuple[str, ...] = ()
    same_state: bool = False
    other_state: bool = False
    raised: str = ""


class MutantRun:
    """Collects the outcomes of scenarios until the verdict on a mutant is certain.

    Args:
        refine: returns a better first cause for the scenario that kills.
        is_gate: whether a scenario that ends with an error kills as well, as it does for ``gate``.
            Then every scenario is run: one without a trace makes the gate exit with 2.
    """

    def __init__(
        self, mutant: Mutant, *, refine: Callable[[str, Cause], Cause], is_gate: bool
    ) -> None:
        self._mutant = mutant
        self._refine = refine
        self._is_gate = is_gate
        self._outcomes: list[tuple[str, ScenarioOutcome]] = []

    def collect(self, outcomes: Iterator[tuple[str, ScenarioOutcome]]) -> MutantResult:
        """Return the verdict."""
        after_kill = 0
        for name, outcome in outcomes:
            after_kill += bool(self._kills)
            self._outcomes.append((name, outcome))
            if self._is_gate:
                continue
            is_alone = len(self._fields - INTERFACE_FIELDS) == 1
            if self._kills and (after_kill >= SCENARIOS_AFTER_KILL or not is_alone):
                break
            if not self._kills and self._is_loud:
                break
        return self._result()

    @property
    def _kills(self) -> list[tuple[str, ScenarioOutcome]]:
        return [(name, outcome) for name, outcome in self._outcomes if self._is_kill(outcome)]

    def _is_kill(self, outcome: ScenarioOutcome) -> bool:
        has_ended = not outcome.raised and (self._is_gate or not outcome.new_failure)
        return has_ended and any(cause.level == "behaviour" for cause in outcome.causes[:1])

    @property
    def _fields(self) -> frozenset[str]:
        return frozenset(field for _, outcome in self._kills for field in outcome.fields)

    @property
    def _errors(self) -> list[str]:
        errors = (outcome.new_failure or outcome.raised for _, outcome in self._outcomes)
        return [error for error in errors if error]

    @property
    def _is_loud(self) -> bool:
        errors = self._errors
        return bool(errors) and (errors[0].startswith(_LOUD_ERRORS) or len(errors) >= _LOUD_AFTER)

    def _verdict_without_kill(self, *, is_proven: bool) -> str:
        if self._errors:
            return "unjudged" if self._is_gate else "loud"
        return "equivalent" if is_proven else "survived"

    def _result(self) -> MutantResult:
        mutant = self._mutant
        quiet = [
            (name, one)
            for name, one in self._outcomes
            if not (one.new_failure or one.raised or self._is_kill(one))
        ]
        is_proven = all(one.same_state for _, one in quiet)
        other_state = next((name for name, one in quiet if one.other_state), "")
        problems = (outcome.raised for _, outcome in self._outcomes if outcome.raised)
        result = MutantResult(
            id=mutant.id,
            operator=mutant.operator,
            key=mutant.key,
            label=mutant.label,
            verdict=self._verdict_without_kill(is_proven=is_proven),
            headline=next(iter(self._errors), ""),
            played=len(self._outcomes),
            proof="state" if is_proven else other_state,
            problem=next(problems, "") if self._is_gate else "",
        )
        return self._with_cause(result) if self._kills else result

    def _with_cause(self, result: MutantResult) -> MutantResult:
        name, first = self._kills[0][0], self._kills[0][1].causes[0]
        look = ""
        try:
            cause = self._refine(name, first)
        except Exception as error:  # noqa: BLE001 - a mutant may not end when it is logged
            cause, look = first, f"failed: {describe_error(error)}"
        return msgspec.structs.replace(
            result,
            verdict="killed",
            look=look or ("" if cause is first else first.headline()),
            proof="",
            cause=str(cause.kind),
            headline=cause.headline(),
            right_line=points_at(self._mutant.changed_ranges, cause),
            right_function=points_at(self._mutant.functions, cause),
            right_parameter=names_parameter(self._mutant, cause),
            has_parameter=bool(self._mutant.parameters),
            fields=tuple(sorted(self._fields)),
            scenario=name,
        )


def unjudged_result(mutant: Mutant, problem: str) -> MutantResult:
    """Return the result of a mutant that could not be put in the place of the code."""
    return MutantResult(
        id=mutant.id,
        operator=mutant.operator,
        key=mutant.key,
        label=mutant.label,
        verdict="unjudged",
        problem=problem,
    )


def points_at(ranges: Iterable[LineRange], cause: Cause) -> bool:
    """Return whether the location of a cause lies in one of some line ranges."""
    line = cause.location
    return line is not None and any(
        line.file == one.file and line.line in one.lines for one in ranges
    )


def names_parameter(mutant: Mutant, cause: Cause) -> bool:
    """Return whether a cause names a parameter that the mutant changed, if it changed one."""
    named = (cause.parameter or "").split(".")
    return not mutant.parameters or any(name in named for name in mutant.parameters)


def describe_error(error: Exception) -> str:
    """Return an exception as one line."""
    return one_line(f"{type(error).__name__}: {error}")
