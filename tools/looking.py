"""The gate's second look: a difference of behaviour is played again on both sides.

It costs a few plays, and only where the gate fails anyway.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tools.errors import ToolError
from tools.git import is_repository
from tools.output import say
from tools.playing import Troupe
from tools.sides import Side, parse_side
from tools.standing import standing
from tools.targets import NATIVE
from traces.canonical import parse
from traces.divergence import CallLog, LineLog, second_look
from traces.model import Recording
from traces.scenarios import Scenario
from traces.verdict import Cause, Kind, Level

if TYPE_CHECKING:
    from tools.gate import Case
    from tools.testimony import OpenTroupe

EAGER = "cpu"
"""Where our own code is looked at first: nothing but the program itself is logged there."""
LOOKS_MAX = 2
"""Scenarios that are played again."""

_NO_PLAY = frozenset({Kind.SCENARIO_ADDED, Kind.SCENARIO_REMOVED, Kind.RENAMED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What can be looked at.

    Attributes:
        case: both sides; a golden is looked at by the commit that is checked out, if that still
            plays it.
        recordings: of base and head, by scenario.
    """

    case: "Case"
    recordings: tuple[Mapping[str, Recording], Mapping[str, Recording]]
    open_troupe: "OpenTroupe"


@dataclass(slots=True, kw_only=True)
class _Player:
    """One side in a form that :func:`second_look` asks."""

    troupe: Troupe
    root: Path
    devices: tuple[str, ...]
    scenarios: Mapping[str, Scenario]

    def on(self, device: str) -> "_Player":
        """Return the side on one of its devices."""
        return replace(self, devices=(device,))

    def calls(self, scenario: str) -> CallLog:
        """Play a scenario and log its calls."""
        found = self.troupe.replay(self.scenarios[scenario], device=self.devices[0], call=None)
        assert isinstance(found, CallLog)
        return found

    def lines(self, scenario: str, *, function: str, number: int) -> LineLog:
        """Play a scenario and log the lines of one call."""
        call = (function, number)
        found = self.troupe.replay(self.scenarios[scenario], device=self.devices[0], call=call)
        assert isinstance(found, LineLog)
        return found

    def source(self, file: str) -> str | None:
        """Return the text of a file of the package, None when there is none."""
        path = self.root / file
        return path.read_text(encoding="utf-8") if path.is_file() else None


def looked_again(
    causes: Sequence[Cause], sight: Sight
) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    """Return the causes, the first of them put where both sides part first, and notes.

    Where it cannot be looked at, a cause stays as it is and a note says why.
    """
    chosen = dict(_chosen(causes, sight))
    # Releases differ in so much that the first thing that is different is seldom the cause.
    if not chosen or sight.case.base.release != sight.case.head.release:
        return tuple(causes), ()
    try:
        with _played_again(sight, chosen.values()) as (base, head):
            found = [
                _looked(base, head, cause, scenario=chosen[index]) if index in chosen else cause
                for index, cause in enumerate(causes)
            ]
    except ToolError as error:
        return tuple(causes), (f"first causes are as the traces show them: {error}",)
    if sight.case.base.kind == "golden" and found != list(causes):
        return tuple(found), ("the first cause was found by playing HEAD, which yields the golden",)
    return tuple(found), ()


def _looked(base: "_Player", head: "_Player", cause: Cause, *, scenario: str) -> Cause:
    """Look eagerly, then on the device itself if that shows nothing."""
    for device in base.devices:
        found = second_look(base.on(device), head.on(device), cause, scenario=scenario)
        if found is not cause:
            return found
    return cause


def _chosen(causes: Sequence[Cause], sight: Sight) -> Iterator[tuple[int, str]]:
    """Yield causes to look at, each with the smallest scenario that no earlier cause is in."""
    spoken_for: set[str] = set()
    looks = 0
    for index, cause in enumerate(causes):
        able = [
            name
            for name in cause.scenarios
            if name not in spoken_for and all(name in played for played in sight.recordings)
        ]
        spoken_for |= set(cause.scenarios)
        asks = cause.level is Level.BEHAVIOUR and cause.kind not in _NO_PLAY
        if asks and able and looks < LOOKS_MAX:
            looks += 1
            yield index, min(able, key=lambda name: (_size(sight, name), name))


def _size(sight: Sight, name: str) -> int:
    trace = sight.recordings[1][name].trace
    return len(trace.calls) + len(trace.events)


@contextmanager
def _played_again(sight: Sight, names: Collection[str]) -> Iterator[tuple[_Player, _Player]]:
    """Yield both sides ready to be played again.

    Raises:
        ToolError: a side cannot be played again.
    """
    with ExitStack() as stack:
        players = []
        for side in (_playable(sight), sight.case.head):
            place = stack.enter_context(
                standing(side, root=sight.case.root, python=sight.case.python)
            )
            troupe = stack.enter_context(sight.open_troupe(place))
            players.append(
                _Player(
                    troupe=troupe,
                    root=place.root,
                    devices=_devices(sight),
                    scenarios=sight.case.scenarios,
                )
            )
        if sight.case.base.kind == "golden":
            _require_golden(sight, players[0], names)
        say("playing again, to see where the sides part first")
        yield players[0], players[1]


def _devices(sight: Sight) -> tuple[str, ...]:
    is_eager = sight.case.target == NATIVE and sight.case.device != EAGER
    return (EAGER, sight.case.device) if is_eager else (sight.case.device,)


def _playable(sight: Sight) -> Side:
    """Return what stands for the base.

    Raises:
        ToolError: nothing does.
    """
    if sight.case.head.kind == "golden":
        raise ToolError("head", "must be playable", expected="code", got="golden")
    if sight.case.base.kind != "golden":
        return sight.case.base
    if sight.case.target != NATIVE or not is_repository(sight.case.root):
        raise ToolError("golden", "must have code that plays it", expected="HEAD", got="none")
    return parse_side("HEAD", root=sight.case.root, target=sight.case.target)


def _require_golden(sight: Sight, player: _Player, names: Collection[str]) -> None:
    """Refuse a commit whose traces are not the goldens.

    Raises:
        ToolError: it plays something else.
    """
    scenarios = [sight.case.scenarios[name] for name in names]
    playing = player.troupe.play(scenarios, device=sight.case.device, on_played=lambda _: None)
    for name in names:
        played = playing.performances.get(name)
        golden = sight.recordings[0][name].trace
        if played is None or parse(played.text, subject=name) != golden:
            rule = "HEAD must still yield the golden to be looked at"
            raise ToolError(name, rule, expected="the golden", got="another trace")
