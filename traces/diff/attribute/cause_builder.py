"""Causes in the making: a root difference and what was found to follow from it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from traces.diff.compare.arguments import ArgumentChange
from traces.diff.differences import Difference, DiffLayer, make_difference
from traces.diff.values import Value
from traces.schema.model import Location
from traces.schema.verdict import Kind, Level

SIGNATURE_KINDS = (Kind.PARAMETER_ADDED, Kind.PARAMETER_REMOVED)


@dataclass(slots=True, kw_only=True, eq=False)
class CauseBuilder:
    """One cause while consequences are still being added.

    Attributes:
        level: of the worst difference it holds.
        capable: whether it can explain differences of behaviour.
        root: the argument that is the fault; None for another kind of fault.
        members: the differences of the same argument further down.
        found: the other consequences.
        calls: the calls in which it shows, as :func:`marks`.
        count: how often the same fault occurs.
        source: the difference that is the fault, when it is no argument.
    """

    kind: Kind
    level: Level
    can_explain: bool
    rank: tuple[int, int]
    where: str
    before: Value
    after: Value
    builder: str | None = None
    callee: str | None = None
    parameter: str | None = None
    location: Location | None = None
    message: str = ""
    path: tuple[str, ...] = ()
    root: ArgumentChange | None = None
    members: list[ArgumentChange] = field(default_factory=list)
    found: list[Difference] = field(default_factory=list)
    calls: set[str] = field(default_factory=set)
    count: int = 1
    source: Difference | None = None

    def replace_shown(self, change: ArgumentChange) -> None:
        """Show a difference that matters instead of one on the same line that does not."""
        self.root, self.can_explain = change, True
        self.before, self.after = change.before, change.after

    def add_consequences(self, differences: Iterable[Difference]) -> None:
        """Add consequences."""
        for found in differences:
            self.found.append(found)
            self.raise_level(found.level)

    def raise_level(self, level: Level) -> None:
        """Raise the level to that of something the cause explains."""
        if level.rank < self.level.rank:
            self.level = level


def side_labels(*, base_call: str, head_call: str) -> set[str]:
    """Return call labels that cannot be mistaken for labels of the other side."""
    return {f"base {base_call}" if base_call else "", f"head {head_call}" if head_call else ""} - {
        ""
    }


def cause_from_difference(source: Difference) -> CauseBuilder:
    """Make a difference that nothing explains a cause of its own."""
    return CauseBuilder(
        kind=source.kind,
        level=source.level,
        can_explain=source.level is Level.BEHAVIOUR,
        rank=source.rank,
        where=source.where,
        before=source.before,
        after=source.after,
        source=source,
        calls=side_labels(base_call=source.base_call, head_call=source.head_call),
    )


def argument_difference(change: ArgumentChange, *, position: int, layer: DiffLayer) -> Difference:
    """Turn a difference of an argument into a consequence."""
    return make_difference(
        change.kind,
        f"{change.pair.head.callee}.{change.parameter}",
        before=change.before,
        after=change.after,
        layer=layer,
        position=position,
        level=change.level,
        base_call=change.pair.base.call,
        head_call=change.pair.head.call,
    )
