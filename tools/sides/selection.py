"""Selection of a target's scenarios by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from tools.errors import ToolError
from traces.targets.common.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Some of a target's scenarios.

    Attributes:
        known: every scenario of the target, by name, in registry order.
        names: those selected, in the same order.
        is_whole: whether all are selected because none was named.
    """

    known: Mapping[str, Scenario]
    names: tuple[str, ...]
    is_whole: bool

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The selected scenarios."""
        return tuple(self.known[name] for name in self.names)


def select_scenarios(names: Sequence[str] | None, *, known: Mapping[str, Scenario]) -> Selection:
    """Return the named scenarios; all of them when none is named.

    Raises:
        ToolError: a name is unknown; the nearest known one is suggested.
    """
    wanted = frozenset(names or ())
    for name in names or ():
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)
            expected = f"{near[0]} or another of `goldentrace list`" if near else "none"
            raise ToolError("scenario", "must be known", expected=expected, got=name)
    selected = tuple(name for name in known if not wanted or name in wanted)
    return Selection(known=known, names=selected, is_whole=not wanted)
