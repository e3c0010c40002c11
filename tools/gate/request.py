"""Request and result of a gate, and the verdict that follows from a result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tools.session import Session
from tools.sides.parse import Side
from tools.sides.targets import Selection
from tools.workers.results import group_by_reason
from traces.schema.model import Recording
from traces.schema.verdict import Cause, ScenarioCounts, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRequest:
    """Two sides to compare, and the scenarios to compare them by.

    Attributes:
        session: checkout and target.
        selection: scenarios to run.
        pre_merge: whether the goldens as a set, their declaration and the coverage of builders are
            judged as well.
        strict: whether differences of the interface fail.
        runs_all: whether the head runs every scenario, also those that a kept run stands for.
        attribute_seconds: time to find the hunks of source that make the causes; None for no
            search.
    """

    session: Session
    selection: Selection
    base: Side
    head: Side
    device: str
    pre_merge: bool
    strict: bool
    runs_all: bool = False
    attribute_seconds: float | None = None

    @property
    def folder(self) -> Path:
        """The target's goldens."""
        return self.session.golden_folder

    @property
    def checks_builders(self) -> bool:
        """True if builders that no scenario runs are searched for."""
        return self.pre_merge and self.selection.is_whole

    @property
    def checks_golden_set(self) -> bool:
        """True if the goldens as a set are judged."""
        return self.checks_builders and self.session.has_goldens

    @property
    def is_against_golden(self) -> bool:
        """True if one of the sides is golden."""
        return "golden" in (self.base.kind, self.head.kind)

    @property
    def needs_goldens(self) -> bool:
        """True if the verdict depends on goldens."""
        return self.is_against_golden or (self.pre_merge and self.session.has_goldens)


def golden_request(session: Session, names: list[str] | None, *, device: str) -> GateRequest:
    """Return the strict comparison of the work tree with its goldens.

    Raises:
        ToolError: a scenario is unknown.
    """
    return GateRequest(
        session=session,
        selection=session.select(names),
        base=session.parse_side("golden"),
        head=session.parse_side("worktree"),
        device=device,
        pre_merge=False,
        strict=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """Everything a verdict depends on.

    Attributes:
        head: recordings of the head, by scenario.
        base: recordings of the base; empty where a caller has no use for them.
        base_unplayable: the reason, for scenarios that the base has no parts for.
        head_unplayable: the same of the head.
        unreadable: scenarios whose golden cannot be read: they are not compared with it.
        causes: differences and findings.
        obstacles: one line for each thing that could not be judged.
        faults: one line for each thing that is wrong and has no cause.
        notes: one line for each thing that was not checked, and the reason.
        kept: scenarios whose recording of an earlier run stands for one of the head.
        selection: which scenarios the head has run and why; empty when it has run all. A second
            line names changed functions that none executes, if there are any.
    """

    head: Mapping[str, Recording]
    base: Mapping[str, Recording] = field(default_factory=dict)
    base_unplayable: Mapping[str, str] = field(default_factory=dict)
    head_unplayable: Mapping[str, str] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()
    causes: tuple[Cause, ...]
    obstacles: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    selection: str = ""


def judge_sides(request: GateRequest, result: GateResult) -> Verdict:
    """Return the verdict on the two sides of a request."""
    return build_verdict(
        result,
        target=request.session.target,
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
    """Return the verdict that follows from a result.

    ``base`` and ``head`` go into the verdict as they are, and have a ``side`` at least. When
    ``strict``, differences of the interface fail.
    """
    changed = {name for cause in result.causes for name in cause.scenarios}
    compared = result.head.keys() - result.base_unplayable.keys() - result.unreadable
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
            names=tuple(sorted(compared)),
        ),
        causes=result.causes,
        problems=(*result.obstacles, *result.faults),
        selected=tuple(sorted(result.head.keys() - set(result.kept))),
        kept=tuple(sorted(result.kept)),
        selection=result.selection,
    )


def _describe_side(side: Side, *, unplayable: Mapping[str, str]) -> dict[str, str]:
    reasons = "; ".join(f"{', '.join(names)}: {why}" for why, names in group_by_reason(unplayable))
    return {**side.described, "unplayable": reasons} if reasons else side.described


def _verdict_word(result: GateResult, *, strict: bool) -> Literal["pass", "fail", "error"]:
    if result.obstacles:
        return "error"
    if result.faults or any(cause.fails(strict=strict) for cause in result.causes):
        return "fail"
    return "pass"
