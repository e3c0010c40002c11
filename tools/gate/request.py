"""Request and result of a gate, and the verdict that follows from a result."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.gate.severity import fails_gate
from tools.goldens.files import golden_folder, golden_names
from tools.sides.parse import Side
from tools.sides.targets import NATIVE
from tools.workers.results import group_by_reason
from traces.schema.model import Recording
from traces.schema.verdict import Cause, ScenarioCounts, Verdict
from traces.targets.common.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRequest:
    """What is to be judged.

    Attributes:
        root: the checkout that is judged.
        python: interpreter of source trees of a package; None for our own.
        names: scenarios to play, in registry order.
        is_whole: whether every scenario is played because none was named.
        scenarios: every scenario there is, by name.
        pre_merge: whether the goldens as a set, their declaration and the coverage of builders are
            judged as well.
        strict: whether differences of the interface fail.
    """

    root: Path
    target: str
    base: Side
    head: Side
    python: Path | None
    device: str
    names: tuple[str, ...]
    is_whole: bool
    scenarios: Mapping[str, Scenario]
    pre_merge: bool
    strict: bool

    @property
    def selected_scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios to play."""
        return tuple(self.scenarios[name] for name in self.names)

    @property
    def builders(self) -> dict[str, str]:
        """Builder of every scenario there is, by scenario name."""
        return {name: scenario.builder for name, scenario in self.scenarios.items()}

    @property
    def folder(self) -> Path:
        """The target's goldens."""
        return golden_folder(self.root, target=self.target)

    @property
    def has_goldens(self) -> bool:
        """Whether goldens are part of the target: always for our own code, else once written."""
        return self.target == NATIVE or bool(golden_names(self.folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What a judgement rests on.

    Attributes:
        head: recordings of the head, by scenario.
        base_unplayable: why, for scenarios that the base has no way to play.
        head_unplayable: the same of the head.
        causes: differences and findings.
        obstacles: one line for each thing that could not be judged.
        faults: one line for each thing that is wrong and has no cause.
        notes: one line for each thing that was not asked, and why.
    """

    head: Mapping[str, Recording]
    base_unplayable: Mapping[str, str]
    head_unplayable: Mapping[str, str]
    causes: tuple[Cause, ...]
    obstacles: tuple[str, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def judge_sides(request: GateRequest, result: GateResult) -> Verdict:
    """Return the verdict on the two sides of a request."""
    return build_verdict(
        result,
        target=request.target,
        base=_describe_side(request.base, unplayable=result.base_unplayable),
        head=_describe_side(request.head, unplayable=result.head_unplayable),
        strict=request.strict,
    )


def build_verdict(
    result: GateResult,
    *,
    target: str,
    base: Mapping[str, str],
    head: Mapping[str, str],
    strict: bool,
) -> Verdict:
    """Weigh the evidence.

    ``base`` and ``head`` go into the verdict as they are, and have a ``side`` at least. When
    ``strict``, differences of the interface fail.
    """
    changed = {name for cause in result.causes for name in cause.scenarios}
    compared = result.head.keys() - result.base_unplayable.keys()
    return Verdict(
        verdict=_verdict_word(result, strict=strict),
        target=target,
        base=dict(base),
        head=dict(head),
        scenarios=ScenarioCounts(
            played=len(compared),
            unchanged=len(compared - changed),
            changed=len(changed),
            names_changed=tuple(sorted(changed)),
        ),
        causes=result.causes,
        problems=(*result.obstacles, *result.faults),
    )


def _describe_side(side: Side, *, unplayable: Mapping[str, str]) -> dict[str, str]:
    reasons = "; ".join(f"{', '.join(names)}: {why}" for why, names in group_by_reason(unplayable))
    return {**side.described, "unplayable": reasons} if reasons else side.described


def _verdict_word(result: GateResult, *, strict: bool) -> Literal["pass", "fail", "error"]:
    if result.obstacles:
        return "error"
    if result.faults or any(fails_gate(cause, strict=strict) for cause in result.causes):
        return "fail"
    return "pass"
