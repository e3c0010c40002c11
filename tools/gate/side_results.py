"""What one side can tell: its recordings, played or read, and what it could not play."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tools.goldens.golden_set import GoldenSet
from tools.progress import progress
from tools.sides.parse import Side
from tools.sides.prepare import PreparedSide, prepare_side
from tools.workers.pool import WorkerPool
from tools.workers.protocol import ListBuilders
from tools.workers.results import parse_recordings, run_scenarios
from traces.schema.model import Recording
from traces.targets.common.scenario import Scenario

RunnerFactory: TypeAlias = Callable[[PreparedSide], AbstractContextManager[WorkerPool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideResults:
    """What one side tells.

    Attributes:
        recordings: by scenario; goldens have no sites.
        unplayable: scenarios that the side has no parts for, with the reason.
        problems: one line for each scenario that was not played to its end.
        builders: the side's stack builders, as far as that was asked.
    """

    recordings: Mapping[str, Recording]
    unplayable: Mapping[str, str]
    problems: tuple[str, ...]
    builders: tuple[str, ...]


def prepare_unless_golden(
    side: Side, *, root: Path, python: Path | None
) -> AbstractContextManager[PreparedSide | None]:
    """Return a block in which a side stands; None for goldens, which are read.

    Raises:
        ToolError: when it is entered; the side cannot be had.
    """
    if side.kind == "golden":
        return nullcontext()
    return prepare_side(side, root=root, python=python)


def load_goldens(golden_set: GoldenSet) -> SideResults:
    """Return what the goldens tell."""
    recordings = {
        name: Recording(trace=golden.trace, sites=None)
        for name, golden in golden_set.goldens.items()
    }
    return SideResults(recordings=recordings, unplayable={}, problems=(), builders=())


def run_side(
    side: Side,
    place: PreparedSide,
    *,
    scenarios: Sequence[Scenario],
    device: str,
    lists_builders: bool,
    open_runner: RunnerFactory,
) -> SideResults:
    """Play scenarios on a side that stands.

    Args:
        side: for people.
        place: where it stands.
        scenarios: what to play.
        device: as on the command line.
        lists_builders: whether the side is searched for builders as well.
        open_runner: opens the workers that play a side.

    Raises:
        ToolError: the side cannot be imported.
    """
    with (
        open_runner(place) as troupe,
        progress(f"playing {side.text}", total=len(scenarios)) as on_played,
    ):
        playing = run_scenarios(troupe, scenarios, device=device, on_run=on_played)
        builders = troupe.call(ListBuilders()) if lists_builders else ()
    return SideResults(
        recordings=parse_recordings(playing),
        unplayable=playing.unplayable,
        problems=playing.problems,
        builders=builders,
    )
