"""Further runs of scenarios in the gate: which hunks make a cause, where both sides first diverge.

They cost a few runs, and only where the gate fails anyway. Both sides are still open then, with one
warm worker each.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

from tools.console import print_status
from tools.errors import ToolError
from tools.gate.request import GateRequest
from tools.git import is_repository
from tools.hunks.attribution import HunkSides, attribute_to_hunks, choose_scenarios
from tools.sides.open import OpenSide
from tools.sides.targets import NATIVE, TARGETS
from tools.workers.protocol import ReplayScenario, RunResult, RunScenario
from traces.divergence.locate import find_divergence
from traces.divergence.logs import (
    CallLog,
    CallsRequest,
    LineLog,
    LinesRequest,
    LogRequest,
)
from traces.schema.canonical import parse_rendered
from traces.schema.model import Recording, Trace
from traces.schema.verdict import Cause, Kind, Level
from traces.targets.common.scenario import Scenario

EAGER_DEVICE = "cpu"
"""First device for our own code: nothing but the program itself is logged there."""
MAX_RERUNS = 2
"""Causes whose scenario is run again."""

_NOT_RERUN_KINDS = frozenset({Kind.SCENARIO_ADDED, Kind.SCENARIO_REMOVED, Kind.RENAMED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineContext:
    """Both sides, to run scenarios again.

    Attributes:
        base: None for a golden; the commit that is checked out stands for it, if that still yields
            the golden.
        head: None for a golden, which cannot be run.
        recordings: of base and head, by scenario.
    """

    request: GateRequest
    base: OpenSide | None
    head: OpenSide | None
    recordings: tuple[Mapping[str, Recording], Mapping[str, Recording]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReplayedSide:
    """One side as :func:`~traces.divergence.locate.locate_divergence` uses it, on one device."""

    opened: OpenSide
    package: str
    device: str
    last_step: str
    scenarios: Mapping[str, Scenario]

    def calls(self, scenario: str, request: CallsRequest) -> CallLog:
        """Run a scenario and log its calls."""
        found = self._replay(scenario, request)
        assert isinstance(found, CallLog)
        return found

    def lines(self, scenario: str, request: LinesRequest) -> LineLog:
        """Run a scenario and log the lines of one call."""
        found = self._replay(scenario, request)
        assert isinstance(found, LineLog)
        return found

    def files(self) -> Iterator[str]:
        """Yield the files of the package."""
        for path in (self.opened.root / self.package).rglob("*.py"):
            yield path.relative_to(self.opened.root).as_posix()

    def source(self, file: str) -> str | None:
        """Return the text of a file of the package, None when there is none."""
        path = self.opened.root / file
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def _replay(self, scenario: str, request: LogRequest) -> CallLog | LineLog:
        again = ReplayScenario(
            scenario=self.scenarios[scenario],
            device=self.device,
            request=request,
            last_step=self.last_step,
        )
        return self.opened.call(again)


def refine_causes(
    causes: Sequence[Cause], context: RefineContext
) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    """Return the causes, the first of them where both sides first diverge, and notes.

    Where the request asks for it, each has the hunks of source that make it. A cause whose scenario
    cannot be run again stays as it is, and a note gives the reason.
    """
    attributed, notes = _attribute_causes(causes, context)
    found, more = _locate_causes(attributed, context)
    return found, (*notes, *more)


def _attribute_causes(
    causes: Sequence[Cause], context: RefineContext
) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    """Return the causes with their hunks, where the request asks for that, and notes."""
    request = context.request
    names = choose_scenarios(causes, context.recordings)
    if request.attribute_seconds is None or not names:
        return tuple(causes), ()
    try:
        head = _require_code(context.head)
        with _open_base(context, names) as base:
            sides = HunkSides(
                target=request.session.target,
                base=base.pool.launcher,
                head=head.pool.launcher,
                recordings=context.recordings,
                scenarios=request.selection.known,
                device=request.device,
                seconds=request.attribute_seconds,
                limit_seconds=head.pool.limit_seconds,
            )
            return attribute_to_hunks(causes, sides)
    except ToolError as error:
        return tuple(causes), (f"causes were not attributed to hunks: {error}",)


def _locate_causes(
    causes: Sequence[Cause], context: RefineContext
) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    """Return the causes, the first of them where both sides first diverge, and notes."""
    request = context.request
    chosen = dict(_select_causes(causes, context))
    # Releases differ in so much that the first thing that is different is seldom the cause.
    if not chosen or request.base.release != request.head.release:
        return tuple(causes), ()
    try:
        head = _require_code(context.head)
        with _open_base(context, chosen.values()) as base:
            print_status("running again, to find where the sides first diverge")
            found = [
                _refine_cause((base, head), cause, scenario=chosen[index], context=context)
                if index in chosen
                else cause
                for index, cause in enumerate(causes)
            ]
    except ToolError as error:
        return tuple(causes), (f"first causes are as the traces show them: {error}",)
    is_moved = request.base.kind == "golden" and found != list(causes)
    note = "the first cause was found by running HEAD, which yields the golden"
    return tuple(found), (note,) if is_moved else ()


def _refine_cause(
    sides: tuple[OpenSide, OpenSide], cause: Cause, *, scenario: str, context: RefineContext
) -> Cause:
    """Run on the eager device first, then on the request's own if that shows nothing.

    What the traces tell apart was different at the end of the first step that they record in
    different ways: the rest of the scenario is run only where so much shows nothing.
    """
    request = context.request
    is_eager = request.session.target == NATIVE and request.device != EAGER_DEVICE
    devices = (EAGER_DEVICE, request.device) if is_eager else (request.device,)
    traces = (recordings[scenario].trace for recordings in context.recordings)
    for last_step, device in product(dict.fromkeys((_first_other_step(*traces), "")), devices):
        base, head = (
            _ReplayedSide(
                opened=side,
                package=TARGETS[request.session.target].package,
                device=device,
                last_step=last_step,
                scenarios=request.selection.known,
            )
            for side in sides
        )
        found = find_divergence(base, head, cause, scenario=scenario)
        if found is not None:
            return found if _is_in_hunks(found) else cause
    return cause


def _first_other_step(base: Trace, head: Trace) -> str:
    """Return the first step that two traces record in different ways; empty for none."""
    records = (*base.calls, *base.events, *base.digests), (*head.calls, *head.events, *head.digests)
    steps = dict.fromkeys(record.step for record in (*head.calls, *base.calls))
    for step in steps:
        one, other = ([record for record in all_ if record.step == step] for all_ in records)
        if one != other:
            return step
    return ""


def _is_in_hunks(cause: Cause) -> bool:
    """Return whether a cause lies in the hunks that make it; another divergence came before it."""
    site = cause.location
    return not cause.made_by or any(
        site is not None and site.file == hunk.file and hunk.is_at(site.line)
        for hunk in cause.made_by
    )


def _select_causes(causes: Sequence[Cause], context: RefineContext) -> Iterator[tuple[int, str]]:
    """Yield causes to refine, each with the smallest scenario that no earlier cause is in."""
    taken: set[str] = set()
    rerun_num = 0
    for index, cause in enumerate(causes):
        able = set(cause.scenarios).intersection(*context.recordings) - taken
        taken |= set(cause.scenarios)
        is_refinable = cause.level is Level.BEHAVIOUR and cause.kind not in _NOT_RERUN_KINDS
        if is_refinable and able and rerun_num < MAX_RERUNS:
            rerun_num += 1
            yield index, min(able, key=lambda name: (scenario_size(context, name), name))


def scenario_size(context: RefineContext, name: str) -> int:
    """Return the number of calls and events of a scenario on the head."""
    trace = context.recordings[1][name].trace
    return len(trace.calls) + len(trace.events)


@contextmanager
def _open_base(context: RefineContext, names: Collection[str]) -> Iterator[OpenSide]:
    """Yield the base, or the commit that stands for a golden."""
    if context.base is not None:
        yield context.base
        return
    session = context.request.session
    if session.target != NATIVE or not is_repository(session.root):
        raise ToolError("golden", "must have code that yields it", expected="HEAD", got="none")
    with session.open_side(session.parse_side("HEAD")) as base:
        _require_golden(context, base, names)
        yield base


def _require_code(side: OpenSide | None) -> OpenSide:
    if side is None:
        raise ToolError("head", "must be code to run again", expected="code", got="golden")
    return side


def _require_golden(context: RefineContext, base: OpenSide, names: Collection[str]) -> None:
    """Raise an error for a commit whose traces are not the goldens.

    One hash seed is enough: whether the head is deterministic is known already.
    """
    request = context.request
    for name in names:
        scenario = request.selection.known[name]
        result = base.call(RunScenario(scenario=scenario, device=request.device))
        if (
            not isinstance(result, RunResult)
            or parse_rendered(result.text, subject=name) != context.recordings[0][name].trace
        ):
            rule = "HEAD must still yield the golden to be run again"
            raise ToolError(name, rule, expected="the golden", got="another trace")
