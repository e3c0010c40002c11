"""Causes in the making: a root difference and what was found to follow from it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from traces.diff.arguments import ArgumentChange
from traces.diff.differences import Difference, Layer, difference
from traces.diff.values import Value
from traces.verdict import Kind, Level, Location

SIGNATURE_KINDS = (Kind.PARAMETER_ADDED, Kind.PARAMETER_REMOVED)


@dataclass(slots=True, kw_only=True, eq=False)
class Draft:
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
    capable: bool
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

    def promote(self, change: ArgumentChange) -> None:
        """Show a difference that matters instead of one on the same line that does not."""
        self.root, self.capable = change, True
        self.before, self.after = change.before, change.after

    def explain(self, differences: Iterable[Difference]) -> None:
        """Add consequences."""
        for found in differences:
            self.found.append(found)
            self.worsen(found.level)

    def worsen(self, level: Level) -> None:
        """Raise the level to that of something the cause explains."""
        if level.rank < self.level.rank:
            self.level = level


def marks(*, base_call: str, head_call: str) -> set[str]:
    """Return call labels that cannot be mistaken for labels of the other side."""
    return {f"base {base_call}" if base_call else "", f"head {head_call}" if head_call else ""} - {
        ""
    }


def draft_of(source: Difference) -> Draft:
    """Make a difference that nothing explains a cause of its own."""
    return Draft(
        kind=source.kind,
        level=source.level,
        capable=source.level is Level.BEHAVIOUR,
        rank=source.rank,
        where=source.where,
        before=source.before,
        after=source.after,
        source=source,
        calls=marks(base_call=source.base_call, head_call=source.head_call),
    )


def as_difference(change: ArgumentChange, *, position: int, layer: Layer) -> Difference:
    """Turn a difference of an argument into a consequence."""
    return difference(
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
