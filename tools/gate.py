"""The verdict on a change: what differs between two sides, and whether the goldens are in order."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.certificate import doubt
from tools.declaration import check_declaration
from tools.errors import ToolError
from tools.goldens import golden_folder
from tools.inventory import Stock, format_causes, read_stock, uncovered_causes
from tools.oracle import complaints
from tools.playing import Playing, Troupe
from tools.progress import progress
from tools.severity import fails
from tools.sides import Side, played_root
from traces.canonical import parse, parse_sites
from traces.diff import compare_sides
from traces.goldens import orphans
from traces.model import Recording
from traces.scenarios import Scenario
from traces.verdict import Cause, ScenarioCounts, Verdict

OpenTroupe = Callable[[Path], AbstractContextManager[Troupe]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be judged.

    Attributes:
        root: the checkout that is judged.
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

    def verdict_on(self, evidence: "Evidence") -> Verdict:
        """Weigh the evidence of this case."""
        return verdict_on(
            evidence,
            target=self.target,
            base=self.base.described,
            head=self.head.described,
            strict=self.strict,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a judgement rests on.

    Attributes:
        head: recordings of the head, by scenario.
        causes: differences and findings.
        obstacles: one line for each thing that could not be judged.
        faults: one line for each thing that is wrong and has no cause.
        notes: one line for each thing that was not asked, and why.
    """

    head: Mapping[str, Recording]
    causes: tuple[Cause, ...]
    obstacles: tuple[str, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Testimony:
    recordings: Mapping[str, Recording]
    problems: tuple[str, ...]
    builders: tuple[str, ...]


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
    head = _testimony(case.head, case=case, stock=stock, open_troupe=open_troupe)
    base = _testimony(case.base, case=case, stock=stock, open_troupe=open_troupe)
    differences = _differences(case, base=base, head=head, stock=stock, surplus=surplus)
    unreadable = tuple(stock.problems.values()) if _needs_goldens(case) else ()
    undeclared, notes = _undeclared(case)
    return Evidence(
        head=head.recordings,
        causes=(
            *differences,
            *(format_causes(stock, root=case.root) if _needs_goldens(case) else ()),
            *uncovered_causes(head.builders, registry=case.builders),
        ),
        obstacles=(*_nothing_to_play(case), *unreadable, *base.problems, *head.problems),
        faults=(*_broken_oracles(case, head.recordings, differences, stock=stock), *undeclared),
        notes=(*notes, *_unasked(case), *_uncertified(case, stock=stock)),
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
    return Verdict(
        verdict=_weighed(evidence, strict=strict),
        target=target,
        base=dict(base),
        head=dict(head),
        scenarios=ScenarioCounts(
            played=len(evidence.head),
            unchanged=len(evidence.head.keys() - changed),
            changed=len(changed),
            names_changed=tuple(sorted(changed)),
        ),
        causes=evidence.causes,
        problems=(*evidence.obstacles, *evidence.faults),
    )


def _weighed(evidence: Evidence, *, strict: bool) -> Literal["pass", "fail", "error"]:
    if evidence.obstacles:
        return "error"
    if evidence.faults or any(fails(cause, strict=strict) for cause in evidence.causes):
        return "fail"
    return "pass"


def _asks_inventory(case: Case) -> bool:
    return case.pre_merge and case.is_whole


def _needs_goldens(case: Case) -> bool:
    return case.pre_merge or "golden" in (case.base.kind, case.head.kind)


def _nothing_to_play(case: Case) -> tuple[str, ...]:
    if case.names:
        return ()
    return (str(ToolError("scenarios", "must be played", expected="at least one", got=0)),)


def _unasked(case: Case) -> tuple[str, ...]:
    if _asks_inventory(case) and case.head.kind == "golden":
        return ("the head is golden: nothing was searched for builders that no scenario plays",)
    return ()


def _uncertified(case: Case, *, stock: Stock) -> tuple[str, ...]:
    if not _asks_inventory(case):
        return ()
    contents = {name: golden.content for name, golden in stock.goldens.items()}
    note = doubt(case.folder, contents=contents)
    return (note,) if note else ()


def _testimony(side: Side, *, case: Case, stock: Stock, open_troupe: OpenTroupe) -> _Testimony:
    if side.kind == "golden":
        recordings = {
            name: Recording(trace=golden.trace, sites=None)
            for name, golden in stock.goldens.items()
        }
        return _Testimony(recordings=recordings, problems=(), builders=())
    with (
        played_root(side, root=case.root) as root,
        open_troupe(root) as troupe,
        progress(f"playing {side.text}", total=len(case.names)) as on_played,
    ):
        playing = troupe.play(case.to_play, device=case.device, on_played=on_played)
        builders = troupe.builders() if side is case.head and _asks_inventory(case) else ()
    return _Testimony(recordings=recorded(playing), problems=playing.problems, builders=builders)


def recorded(playing: Playing) -> dict[str, Recording]:
    """Return what was played as recordings."""
    return {
        name: Recording(
            trace=parse(performance.text, subject=name),
            sites=parse_sites(performance.sites, subject=name) if performance.sites else None,
        )
        for name, performance in playing.performances.items()
    }


def _differences(
    case: Case, *, base: _Testimony, head: _Testimony, stock: Stock, surplus: tuple[str, ...]
) -> tuple[Cause, ...]:
    """Compare what both sides could tell; a scenario that one could not play is no difference."""
    asked = (*case.names, *surplus)
    lost = _unplayed(case.base, base, case) | _unplayed(case.head, head, case)
    by_golden = "golden" in (case.base.kind, case.head.kind)
    lost |= stock.problems.keys() if by_golden else frozenset()
    causes = compare_sides(
        {name: base.recordings[name] for name in asked if name in base.recordings.keys() - lost},
        {name: head.recordings[name] for name in asked if name in head.recordings.keys() - lost},
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


def _unplayed(side: Side, testimony: _Testimony, case: Case) -> frozenset[str]:
    if side.kind == "golden":
        return frozenset()
    return frozenset(case.names) - testimony.recordings.keys()


def _broken_oracles(
    case: Case, head: Mapping[str, Recording], causes: Iterable[Cause], *, stock: Stock
) -> tuple[str, ...]:
    """Return what the head itself says is wrong, unless its golden says it or it fails anyway."""
    failing = [cause for cause in causes if fails(cause, strict=case.strict)]
    visible = {name for cause in failing for name in cause.scenarios}
    faults: list[str] = []
    for name, recording in head.items():
        golden = stock.goldens.get(name)
        known = complaints(golden.trace) if golden is not None else ()
        if name not in visible:
            faults += [line for line in complaints(recording.trace) if line not in known]
    return tuple(faults)


def _undeclared(case: Case) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not case.pre_merge:
        return (), ()
    declaration = check_declaration(case.root, folder=case.folder)
    rule = "a changed golden must be declared in CHANGELOG.md"
    expected = "`- NAME: reason` under Unreleased > Goldens"
    faults = tuple(
        str(ToolError(name, rule, expected=expected, got="none")) for name in declaration.undeclared
    )
    return faults, (declaration.note,) if declaration.note else ()
