"""What one side can tell: its recordings, played or read, and what it could not play."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tools.inventory import Stock
from tools.playing import Troupe, recorded
from tools.progress import progress
from tools.sides import Side
from tools.standing import Standing, standing
from traces.model import Recording
from traces.scenarios import Scenario

OpenTroupe: TypeAlias = Callable[[Standing], AbstractContextManager[Troupe]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
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


def stood(
    side: Side, *, root: Path, python: Path | None
) -> AbstractContextManager[Standing | None]:
    """Return a block in which a side stands; None for goldens, which are read.

    Raises:
        ToolError: when it is entered; the side cannot be had.
    """
    if side.kind == "golden":
        return nullcontext()
    return standing(side, root=root, python=python)


def read(stock: Stock) -> Testimony:
    """Return what the goldens tell."""
    recordings = {
        name: Recording(trace=golden.trace, sites=None) for name, golden in stock.goldens.items()
    }
    return Testimony(recordings=recordings, unplayable={}, problems=(), builders=())


def played(
    side: Side,
    place: Standing,
    *,
    scenarios: Sequence[Scenario],
    device: str,
    asks_builders: bool,
    open_troupe: OpenTroupe,
) -> Testimony:
    """Play scenarios on a side that stands.

    Args:
        side: for people.
        place: where it stands.
        scenarios: what to play.
        device: as on the command line.
        asks_builders: whether the side is searched for builders as well.
        open_troupe: opens the workers that play a side.

    Raises:
        ToolError: the side cannot be imported.
    """
    with (
        open_troupe(place) as troupe,
        progress(f"playing {side.text}", total=len(scenarios)) as on_played,
    ):
        playing = troupe.play(scenarios, device=device, on_played=on_played)
        builders = troupe.builders() if asks_builders else ()
    return Testimony(
        recordings=recorded(playing),
        unplayable=playing.unplayable,
        problems=playing.problems,
        builders=builders,
    )
