"""The gate's second look: a difference of behaviour is played again on both sides.

It costs a few plays, and only where the gate fails anyway.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tools.console import print_status
from tools.errors import ToolError
from tools.git import is_repository
from tools.sides.parse import Side, parse_side
from tools.sides.prepare import prepare_side
from tools.sides.targets import NATIVE
from tools.workers.pool import WorkerPool
from tools.workers.protocol import ReplayScenario
from tools.workers.results import run_scenarios
from traces.divergence import CallLog, LineLog, locate_divergence
from traces.schema.canonical import parse
from traces.schema.model import Recording
from traces.schema.verdict import Cause, Kind, Level
from traces.targets.common.scenario import Scenario

if TYPE_CHECKING:
    from tools.gate.request import GateRequest
    from tools.gate.side_results import RunnerFactory

EAGER_DEVICE = "cpu"
"""Where our own code is looked at first: nothing but the program itself is logged there."""
MAX_RERUNS = 2
"""Scenarios that are played again."""

_NOT_RERUN_KINDS = frozenset({Kind.SCENARIO_ADDED, Kind.SCENARIO_REMOVED, Kind.RENAMED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineContext:
    """What can be looked at.

    Attributes:
        case: both sides; a golden is looked at by the commit that is checked out, if that still
            plays it.
        recordings: of base and head, by scenario.
    """

    request: "GateRequest"
    recordings: tuple[Mapping[str, Recording], Mapping[str, Recording]]
    open_runner: "RunnerFactory"


@dataclass(slots=True, kw_only=True)
class _SideRunner:
    """One side in a form that :func:`second_look` asks."""

    runner: WorkerPool
    root: Path
    devices: tuple[str, ...]
    scenarios: Mapping[str, Scenario]

    def on(self, device: str) -> "_SideRunner":
        """Return the side on one of its devices."""
        return replace(self, devices=(device,))

    def calls(self, scenario: str) -> CallLog:
        """Play a scenario and log its calls."""
        found = self._replay(scenario, call=None)
        assert isinstance(found, CallLog)
        return found

    def lines(self, scenario: str, *, function: str, number: int) -> LineLog:
        """Play a scenario and log the lines of one call."""
        found = self._replay(scenario, call=(function, number))
        assert isinstance(found, LineLog)
        return found

    def _replay(self, scenario: str, *, call: tuple[str, int] | None) -> CallLog | LineLog:
        task = ReplayScenario(scenario=self.scenarios[scenario], device=self.devices[0], call=call)
        return self.runner.call(task)

    def source(self, file: str) -> str | None:
        """Return the text of a file of the package, None when there is none."""
        path = self.root / file
        return path.read_text(encoding="utf-8") if path.is_file() else None


def refine_causes(
    causes: Sequence[Cause], context: RefineContext
) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    """Return the causes, the first of them put where both sides part first, and notes.

    Where it cannot be looked at, a cause stays as it is and a note says why.
    """
    chosen = dict(_select_causes(causes, context))
    # Releases differ in so much that the first thing that is different is seldom the cause.
    if not chosen or context.request.base.release != context.request.head.release:
        return tuple(causes), ()
    try:
        with _open_both_sides(context, chosen.values()) as (base, head):
            found = [
                _refine_cause(base, head, cause, scenario=chosen[index])
                if index in chosen
                else cause
                for index, cause in enumerate(causes)
            ]
    except ToolError as error:
        return tuple(causes), (f"first causes are as the traces show them: {error}",)
    if context.request.base.kind == "golden" and found != list(causes):
        return tuple(found), ("the first cause was found by playing HEAD, which yields the golden",)
    return tuple(found), ()


def _refine_cause(
    base: "_SideRunner", head: "_SideRunner", cause: Cause, *, scenario: str
) -> Cause:
    """Look eagerly, then on the device itself if that shows nothing."""
    for device in base.devices:
        found = locate_divergence(base.on(device), head.on(device), cause, scenario=scenario)
        if found is not cause:
            return found
    return cause


def _select_causes(causes: Sequence[Cause], context: RefineContext) -> Iterator[tuple[int, str]]:
    """Yield causes to look at, each with the smallest scenario that no earlier cause is in."""
    spoken_for: set[str] = set()
    looks = 0
    for index, cause in enumerate(causes):
        able = [
            name
            for name in cause.scenarios
            if name not in spoken_for and all(name in played for played in context.recordings)
        ]
        spoken_for |= set(cause.scenarios)
        asks = cause.level is Level.BEHAVIOUR and cause.kind not in _NOT_RERUN_KINDS
        if asks and able and looks < MAX_RERUNS:
            looks += 1
            yield index, min(able, key=lambda name: (_scenario_size(context, name), name))


def _scenario_size(context: RefineContext, name: str) -> int:
    trace = context.recordings[1][name].trace
    return len(trace.calls) + len(trace.events)


@contextmanager
def _open_both_sides(
    context: RefineContext, names: Collection[str]
) -> Iterator[tuple[_SideRunner, _SideRunner]]:
    """Yield both sides ready to be played again.

    Raises:
        ToolError: a side cannot be played again.
    """
    with ExitStack() as stack:
        players = []
        for side in (_runnable_base(context), context.request.head):
            place = stack.enter_context(
                prepare_side(side, root=context.request.root, python=context.request.python)
            )
            troupe = stack.enter_context(context.open_runner(place))
            players.append(
                _SideRunner(
                    runner=troupe,
                    root=place.root,
                    devices=_devices(context),
                    scenarios=context.request.scenarios,
                )
            )
        if context.request.base.kind == "golden":
            _require_golden(context, players[0], names)
        print_status("playing again, to see where the sides part first")
        yield players[0], players[1]


def _devices(context: RefineContext) -> tuple[str, ...]:
    is_eager = context.request.target == NATIVE and context.request.device != EAGER_DEVICE
    return (EAGER_DEVICE, context.request.device) if is_eager else (context.request.device,)


def _runnable_base(context: RefineContext) -> Side:
    """Return what stands for the base.

    Raises:
        ToolError: nothing does.
    """
    if context.request.head.kind == "golden":
        raise ToolError("head", "must be playable", expected="code", got="golden")
    if context.request.base.kind != "golden":
        return context.request.base
    if context.request.target != NATIVE or not is_repository(context.request.root):
        raise ToolError("golden", "must have code that plays it", expected="HEAD", got="none")
    return parse_side("HEAD", root=context.request.root, target=context.request.target)


def _require_golden(context: RefineContext, player: _SideRunner, names: Collection[str]) -> None:
    """Refuse a commit whose traces are not the goldens.

    Raises:
        ToolError: it plays something else.
    """
    scenarios = [context.request.scenarios[name] for name in names]
    playing = run_scenarios(
        player.runner, scenarios, device=context.request.device, on_run=lambda _: None
    )
    for name in names:
        played = playing.by_scenario.get(name)
        golden = context.recordings[0][name].trace
        if played is None or parse(played.text, subject=name) != golden:
            rule = "HEAD must still yield the golden to be looked at"
            raise ToolError(name, rule, expected="the golden", got="another trace")
