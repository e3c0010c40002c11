"""The verdict on a change: what differs between two sides, and whether the goldens are in order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.certificate import doubt
from tools.declaration import check_declaration
from tools.errors import ToolError
from tools.goldens import golden_folder, golden_names
from tools.inventory import Stock, coverage, format_causes, read_stock, uncovered_causes
from tools.known import NO_FINDINGS, Findings, findings_of
from tools.looking import Sight, looked_again
from tools.oracle import folded, news_of
from tools.playing import by_reason, unplayable_notes
from tools.severity import fails
from tools.sides import Side
from tools.standing import Standing
from tools.targets import NATIVE, aliases_of, known_target
from tools.testimony import OpenTroupe, Testimony, played, read, stood
from traces.diff import compare_sides
from traces.goldens import orphans
from traces.model import Recording
from traces.scenarios import Scenario
from traces.verdict import Cause, Kind, ScenarioCounts, Verdict

# What round trips and outcomes say is held against the goldens, which may know it.
_OF_ORACLES = frozenset({Kind.STALE_AFTER_RESTORE, Kind.OUTCOME_CHANGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
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
    def to_play(self) -> tuple[Scenario, ...]:
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
    def keeps_goldens(self) -> bool:
        """Whether goldens are part of the target: always for our own code, else once written."""
        return self.target == NATIVE or bool(golden_names(self.folder))

    def verdict_on(self, evidence: "Evidence") -> Verdict:
        """Weigh the evidence of this case."""
        return verdict_on(
            evidence,
            target=self.target,
            base=_described(self.base, unplayable=evidence.base_unplayable),
            head=_described(self.head, unplayable=evidence.head_unplayable),
            strict=self.strict,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
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


def judge(case: Case, *, open_troupe: OpenTroupe) -> tuple[Verdict, tuple[str, ...]]:
    """Play and compare; return the verdict and notes on what was not asked.

    Raises:
        ToolError: the target cannot be imported, a revision not be checked out, git not be asked.
    """
    evidence = collect(case, open_troupe=open_troupe)
    return case.verdict_on(evidence), evidence.notes


def collect(case: Case, *, open_troupe: OpenTroupe) -> Evidence:
    """Play what must be played, read what must be read, and compare.

    Raises:
        ToolError: the target cannot be imported, a revision not be checked out, git not be asked.
    """
    surplus = orphans(case.folder, case.scenarios) if _asks_inventory(case) else ()
    stock = read_stock(case.folder, names=(*case.names, *surplus))
    # Both first: a side that cannot be had is told before the other one is played.
    with (
        stood(case.head, root=case.root, python=case.python) as head_place,
        stood(case.base, root=case.root, python=case.python) as base_place,
    ):
        head = _testimony(case.head, head_place, case=case, stock=stock, open_troupe=open_troupe)
        base = _testimony(case.base, base_place, case=case, stock=stock, open_troupe=open_troupe)
    differences = _differences(case, base=base, head=head, stock=stock, surplus=surplus)
    differences, looks = looked_again(
        differences,
        Sight(
            case=case,
            recordings=(base.recordings, head.recordings),
            open_troupe=open_troupe,
        ),
    )
    unreadable = tuple(stock.problems.values()) if _needs_goldens(case) else ()
    undeclared, notes = _undeclared(case)
    findings = _audited(case, head=head, differences=differences)
    return Evidence(
        head=head.recordings,
        base_unplayable=base.unplayable,
        head_unplayable=head.unplayable,
        causes=(
            *differences,
            *(format_causes(stock, root=case.root) if _needs_goldens(case) else ()),
            *uncovered_causes(_new_builders(base=base, head=head), registry=_reached(case, head)),
            *findings.new,
        ),
        obstacles=(
            *_nothing_to_play(case, base=base, head=head),
            *unreadable,
            *base.problems,
            *head.problems,
        ),
        faults=(
            *_broken_oracles(case, base=base, head=head, causes=differences, stock=stock),
            *undeclared,
            *findings.faults,
        ),
        notes=(
            *notes,
            *looks,
            *unplayable_notes(case.base.text, base.unplayable),
            *unplayable_notes(case.head.text, head.unplayable),
            *_unasked(case, base=base),
            *_uncertified(case, stock=stock),
        ),
    )


def verdict_on(
    evidence: Evidence,
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
    changed = {name for cause in evidence.causes for name in cause.scenarios}
    compared = evidence.head.keys() - evidence.base_unplayable.keys()
    return Verdict(
        verdict=_weighed(evidence, strict=strict),
        target=target,
        base=dict(base),
        head=dict(head),
        scenarios=ScenarioCounts(
            played=len(compared),
            unchanged=len(compared - changed),
            changed=len(changed),
            names_changed=tuple(sorted(changed)),
        ),
        causes=evidence.causes,
        problems=(*evidence.obstacles, *evidence.faults),
    )


def _described(side: Side, *, unplayable: Mapping[str, str]) -> dict[str, str]:
    reasons = "; ".join(f"{', '.join(names)}: {why}" for why, names in by_reason(unplayable))
    return {**side.described, "unplayable": reasons} if reasons else side.described


def _weighed(evidence: Evidence, *, strict: bool) -> Literal["pass", "fail", "error"]:
    if evidence.obstacles:
        return "error"
    if evidence.faults or any(fails(cause, strict=strict) for cause in evidence.causes):
        return "fail"
    return "pass"


def _asks_inventory(case: Case) -> bool:
    return _asks_builders(case) and case.keeps_goldens


def _asks_builders(case: Case) -> bool:
    return case.pre_merge and case.is_whole


def _needs_goldens(case: Case) -> bool:
    by_golden = "golden" in (case.base.kind, case.head.kind)
    return by_golden or (case.pre_merge and case.keeps_goldens)


def _nothing_to_play(case: Case, *, base: Testimony, head: Testimony) -> tuple[str, ...]:
    if any(name not in {**base.unplayable, **head.unplayable} for name in case.names):
        return ()
    return (str(ToolError("scenarios", "must be played", expected="at least one", got=0)),)


def _audited(case: Case, *, head: Testimony, differences: Iterable[Cause]) -> Findings:
    """Audit a head that has nothing else against it: differences say more than what they break."""
    is_whole = head.recordings.keys() == case.scenarios.keys() and case.head.kind != "golden"
    fails_anyway = any(fails(cause, strict=case.strict) for cause in differences)
    if case.target != NATIVE or not _asks_inventory(case) or not is_whole or fails_anyway:
        return NO_FINDINGS
    return findings_of(
        head.recordings,
        root=case.root,
        target=case.target,
        entries=case.builders.values(),
        more=(),
        apart=_OF_ORACLES,
    )


def _new_builders(*, base: Testimony, head: Testimony) -> tuple[str, ...]:
    """Return builders of the head that its base did not have as well, as far as that was asked."""
    return tuple(name for name in head.builders if name not in base.builders)


def _reached(case: Case, testimony: Testimony) -> dict[str, str]:
    """Return what plays a builder: a scenario that is named for it, or one that really called it.

    A package has builders that others call and strategies that are chosen; releases rename them.
    """
    reached = dict(case.builders)
    for name, recording in testimony.recordings.items():
        for call in recording.trace.calls:
            if call.role == "builder":
                reached[f"{name} {call.call}"] = call.callee.partition(".")[0]
    return reached


def _unasked(case: Case, *, base: Testimony) -> tuple[str, ...]:
    if _asks_inventory(case) and case.head.kind == "golden":
        return ("the head is golden: nothing was searched for builders that no scenario plays",)
    uncovered = [
        name
        for name, number in coverage(base.builders, registry=_reached(case, base)).items()
        if not number
    ]
    if uncovered:
        return (f"no scenario plays {', '.join(uncovered)} of {case.base.text}",)
    return ()


def _uncertified(case: Case, *, stock: Stock) -> tuple[str, ...]:
    if not _asks_inventory(case):
        return ()
    contents = {name: golden.content for name, golden in stock.goldens.items()}
    note = doubt(case.folder, contents=contents)
    return (note,) if note else ()


def _testimony(
    side: Side, place: Standing | None, *, case: Case, stock: Stock, open_troupe: OpenTroupe
) -> Testimony:
    if place is None:
        return read(stock)
    return played(
        side,
        place,
        scenarios=case.to_play,
        device=case.device,
        asks_builders=_asks_builders_of(side, case=case),
        open_troupe=open_troupe,
    )


def _asks_builders_of(side: Side, *, case: Case) -> bool:
    """Tell whether to search a side: our own code must cover all, a package what its base lacks."""
    return _asks_builders(case) and (side is case.head or case.target != NATIVE)


def _differences(
    case: Case, *, base: Testimony, head: Testimony, stock: Stock, surplus: tuple[str, ...]
) -> tuple[Cause, ...]:
    """Compare what both sides could tell; a scenario that one could not play is no difference."""
    asked = (*case.names, *surplus)
    lost = _unplayed(case.base, base, case) | _unplayed(case.head, head, case)
    by_golden = "golden" in (case.base.kind, case.head.kind)
    lost |= stock.problems.keys() if by_golden else frozenset()
    causes = compare_sides(
        {name: base.recordings[name] for name in asked if name in base.recordings.keys() - lost},
        {name: head.recordings[name] for name in asked if name in head.recordings.keys() - lost},
        aliases=aliases_of(known_target(case.target)),
    )
    if by_golden or not _asks_inventory(case):
        return causes
    goldens = {name: golden for name, golden in stock.goldens.items() if name in surplus}
    missing = head.recordings.keys() - stock.goldens.keys() - stock.problems.keys()
    return (
        *causes,
        *compare_sides(
            {name: Recording(trace=golden.trace, sites=None) for name, golden in goldens.items()},
            {name: head.recordings[name] for name in case.names if name in missing},
        ),
    )


def _unplayed(side: Side, testimony: Testimony, case: Case) -> frozenset[str]:
    if side.kind == "golden":
        return frozenset()
    return frozenset(case.names) - testimony.recordings.keys()


def _broken_oracles(
    case: Case,
    *,
    base: Testimony,
    head: Testimony,
    causes: Iterable[Cause],
    stock: Stock,
) -> tuple[str, ...]:
    """Return what the head itself says is wrong, unless it is known or the head fails anyway.

    What the base cannot play comes last, and of many such lines only their number.
    """
    failing = [cause for cause in causes if fails(cause, strict=case.strict)]
    visible = {name for cause in failing for name in cause.scenarios}
    known = {name: golden.trace for name, golden in stock.goldens.items()}
    if case.target != NATIVE:
        # A package's own faults are no news where its base has them too.
        known |= {name: recording.trace for name, recording in base.recordings.items()}
    news = news_of(
        {name: head.recordings[name].trace for name in head.recordings if name not in visible},
        known=known,
    )
    compared = [line for name in news if name not in base.unplayable for line in news[name]]
    alone = {name: news[name] for name in news if name in base.unplayable}
    side = (case.target, case.head.text)
    return (*compared, *folded(alone, lacking=case.base.text, side=side))


def _undeclared(case: Case) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not case.pre_merge or not case.keeps_goldens:
        return (), ()
    declaration = check_declaration(case.root, folder=case.folder)
    rule = "a changed golden must be declared in CHANGELOG.md"
    expected = "`- NAME: reason` under Unreleased > Goldens"
    faults = tuple(
        str(ToolError(name, rule, expected=expected, got="none")) for name in declaration.undeclared
    )
    return faults, (declaration.note,) if declaration.note else ()
