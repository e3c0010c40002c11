"""Backtest of known faults: the gate between good and bad side, and an audit of the bad one."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from tools.releases.survey import behaviour_causes, read_toml
from tools.sides.results import SideResults
from traces.audit import audit
from traces.audit.finding import finding_key
from traces.diff.aliases import Aliases
from traces.schema.verdict import Cause, Kind

CATALOGUE_PATH = Path(__file__).parent / "catalogue" / "sglang.toml"

FaultOutcome: TypeAlias = Literal["caught", "missed", "not playable"]


class ExpectedCause(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pattern of the cause of a fault.

    Attributes:
        kinds: any of them.
        parameter: pattern for the cause's parameter; empty for any cause.
        builder: pattern for the function in which the cause takes effect.
        callee: pattern for the cause's callee.
        where: pattern for what differs, by the cause itself or by one of its consequences.
    """

    kinds: tuple[Kind, ...]
    parameter: str = ""
    builder: str = ""
    callee: str = ""
    where: str = ""

    def matches(self, cause: Cause) -> bool:
        """Return whether a cause is the one, or has it among its consequences."""
        asked = (
            (self.parameter, cause.parameter),
            (self.builder, cause.builder),
            (self.callee, cause.callee),
        )
        if not all(_matches_pattern(pattern, text) for pattern, text in asked):
            return False
        shown = [(cause.kind, cause.where)]
        if self.where:
            shown += [(found.kind, found.where) for found in cause.consequences]
        return any(
            kind in self.kinds and _matches_pattern(self.where, where) for kind, where in shown
        )


class KnownFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault of the catalogue.

    Attributes:
        good: side without the fault; empty while no release is: an audit alone can find it.
        evidence: which sides were run when the fault was catalogued.
        audit: pattern of a finding in the bad side alone; None where no rule can find it.
        scenarios: pattern for the scenarios that show it; the good side must run one to its end.
        outside: the reason why no scenario can show it, for faults outside stacks and transfers.
    """

    id: str
    title: str
    url: str
    bad: str
    evidence: Literal["both", "bad", "none"]
    good: str = ""
    expected: ExpectedCause | None = None
    audit: ExpectedCause | None = None
    scenarios: str = "*"
    outside: str = ""


class FaultCatalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults of one target."""

    target: str
    case: tuple[KnownFault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestResult:
    """Result of one fault.

    Attributes:
        result: of gate and audit together.
        gate: of the gate between the sides alone.
        audit: first finding that the bad side has, the good one has not, and that was expected;
            empty without one.
        is_first: whether the expected cause is the first of those that change behaviour.
        place: number of causes before it.
        causes: number of all.
        shown: headline of the expected cause; without one, the reason.
        location: ``file:line`` of it.
        made_by: places of the hunks of source that make it; empty where that was not tried or not
            found.
        seconds: time to run and compare both sides.
    """

    fault: KnownFault
    result: FaultOutcome
    gate: FaultOutcome
    audit: str
    is_first: bool
    place: int
    causes: int
    shown: str
    location: str
    made_by: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedRun:
    """One side with the findings of an audit."""

    side: SideResults
    findings: tuple[Cause, ...]


RunSide: TypeAlias = Callable[[str], SideResults]
AttributeCauses: TypeAlias = Callable[
    [tuple[KnownFault, SideResults, SideResults], Sequence[Cause]], Sequence[Cause]
]
"""Returns causes with the hunks that make them, from a fault with its good and its bad side."""


def read_catalogue(path: Path) -> FaultCatalogue:
    """Read a catalogue file.

    Raises:
        ToolError: there is no such file, or it is no catalogue.
    """
    return read_toml(path, FaultCatalogue, rule="must be a catalogue", holds="faults")


def run_backtest(
    faults: Sequence[KnownFault],
    *,
    run_side: RunSide,
    aliases: Aliases,
    attribute: AttributeCauses | None = None,
) -> Iterator[BacktestResult]:
    """Yield the result of every fault; each side is run once.

    ``attribute`` finds the hunks that make the expected cause.
    """
    runs: dict[str, AuditedRun] = {}
    for fault in faults:
        for side in filter(None, (fault.good, fault.bad)):
            if side not in runs:
                results = run_side(side)
                findings = audit(results.recordings, recorded={})
                runs[side] = AuditedRun(side=results, findings=findings)
        if fault.good:
            yield evaluate_fault(
                fault,
                good=runs[fault.good],
                bad=runs[fault.bad],
                aliases=aliases,
                attribute=attribute,
            )
        else:
            yield evaluate_unmended(fault, runs[fault.bad])


def evaluate_unmended(fault: KnownFault, bad: AuditedRun) -> BacktestResult:
    """Return the result of a fault that no release is without: what an audit finds."""
    found = next((one for one in bad.findings if fault.audit and fault.audit.matches(one)), None)
    line = None if found is None else found.location
    result: FaultOutcome = "missed" if found is None else "caught"
    return BacktestResult(
        fault=fault,
        result="not playable" if found is None and fault.outside else result,
        gate="not playable",
        audit="" if found is None else found.headline(),
        is_first=False,
        place=-1,
        causes=0,
        shown=fault.outside or "no release is without it",
        location=f"{line.file}:{line.line}" if line else "",
        made_by=(),
        seconds=bad.side.seconds,
    )


def evaluate_fault(
    fault: KnownFault,
    *,
    good: AuditedRun,
    bad: AuditedRun,
    aliases: Aliases,
    attribute: AttributeCauses | None = None,
) -> BacktestResult:
    """Compare the bad side with the good one as its base, and their audits."""
    start = time.perf_counter()
    causes = behaviour_causes(good.side, bad.side, aliases=aliases)
    expected = fault.expected or ExpectedCause(kinds=())
    place = next((i for i, cause in enumerate(causes) if expected.matches(cause)), -1)
    found = causes[place] if place >= 0 else None
    common = good.side.recordings.keys() & bad.side.recordings.keys()
    obstacle = _why_not_runnable(fault, good=good.side, names=common)
    made_by: tuple[str, ...] = ()
    if found is not None and attribute is not None:
        # The expected cause comes first: its scenario and the hunks at its line are tried first.
        others = (cause for cause in causes if cause is not found)
        filed = attribute((fault, good.side, bad.side), (found, *others))
        same = (cause for cause in filed if expected.matches(cause))
        made_by = tuple(hunk.place for cause in same for hunk in cause.made_by)
    seconds = good.side.seconds + bad.side.seconds + time.perf_counter() - start
    gate: FaultOutcome = "caught" if found else "not playable" if obstacle else "missed"
    audited = _matching_finding(fault, good=good, bad=bad)
    return BacktestResult(
        fault=fault,
        result="caught" if audited else gate,
        gate=gate,
        audit=audited,
        is_first=place == 0,
        place=place,
        causes=len(causes),
        shown=found.headline() if found else obstacle,
        location=f"{found.location.file}:{found.location.line}" if found and found.location else "",
        made_by=made_by,
        seconds=seconds,
    )


def _matching_finding(fault: KnownFault, *, good: AuditedRun, bad: AuditedRun) -> str:
    """Return the headline of the expected finding in the bad side alone; empty without one."""
    if fault.audit is None:
        return ""
    also_good = {finding_key(found) for found in good.findings}
    for found in bad.findings:
        if finding_key(found) not in also_good and fault.audit.matches(found):
            return found.headline()
    return ""


def _why_not_runnable(fault: KnownFault, *, good: SideResults, names: Iterable[str]) -> str:
    """Return the reason why no scenario can show a fault; empty when one can."""
    if fault.outside:
        return fault.outside
    failure = "no scenario in common"
    for name in sorted(names):
        if not fnmatchcase(name, fault.scenarios):
            continue
        outcome = good.recordings[name].trace.outcome
        if outcome.ok or outcome.failure is None:
            return ""
        failure = f"{fault.good} ends in {outcome.failure.type}: {outcome.failure.message}"
    return failure


def _matches_pattern(pattern: str, text: str | None) -> bool:
    return not pattern or (text is not None and fnmatchcase(text, pattern))
