"""The differences found between two traces, before it is known which explains which."""

from dataclasses import dataclass
from enum import IntEnum

from traces.diff.values import Value
from traces.schema.verdict import Consequence, Kind, Level


class DiffLayer(IntEnum):
    """Where a difference shows; a lower layer is upstream of a higher one."""

    ASSEMBLY = 0
    TENSORS = 1
    EVENTS = 2
    OPERATIONS = 3
    DIGESTS = 4
    OUTCOME = 5


class EventFamily(IntEnum):
    """What kind of event differs; the first of a hunk is its primary difference."""

    DATA = 0
    ORDER = 1
    MESSAGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference.

    Attributes:
        where: exact place, ``wait load.layer3 on default in read``.
        pattern: the place with its running numbers starred; equal patterns are counted together.
        position: place in its layer, comparable over both sides.
        pool: pool name it belongs to, ``KV``; empty for none.
        base_call: label of the call of the base it concerns, or whose object; empty for none.
        head_call: as ``base_call``, in the head.
        base_index: place in the events of the base; None for no event or absent.
        head_index: place in the events of the head, or where it would be.
        family: of an event.
        edge: name of the device event that is recorded or awaited; empty for other events.
        hunk: number of the hunk of events it belongs to.
        truncated: whether it is missing only because the other side ended early.
    """

    kind: Kind
    level: Level
    where: str
    pattern: str
    before: Value
    after: Value
    layer: DiffLayer
    position: int
    pool: str
    base_call: str
    head_call: str
    base_index: int | None
    head_index: int | None
    family: EventFamily
    edge: str
    hunk: int
    truncated: bool

    @property
    def rank(self) -> tuple[int, int]:
        """Upstreamness; lower is earlier."""
        return (int(self.layer), self.position)


def make_difference(
    kind: Kind,
    where: str,
    *,
    before: Value,
    after: Value,
    layer: DiffLayer,
    position: int,
    level: Level = Level.BEHAVIOUR,
    pattern: str = "",
    pool: str = "",
    base_call: str = "",
    head_call: str = "",
    truncated: bool = False,
) -> Difference:
    """Make a difference that is no event."""
    return Difference(
        kind=kind,
        level=level,
        where=where,
        pattern=pattern or where,
        before=before,
        after=after,
        layer=layer,
        position=position,
        pool=pool,
        base_call=base_call,
        head_call=head_call,
        base_index=None,
        head_index=None,
        family=EventFamily.DATA,
        edge="",
        hunk=0,
        truncated=truncated,
    )


def with_step(text: str, step: str) -> str:
    """Add the scenario step, unless it has no name."""
    return f"{text} in {step}" if step else text


def count_consequences(differences: list[Difference]) -> tuple[Consequence, ...]:
    """Count equal patterns together, most upstream first."""
    grouped: dict[tuple[Kind, str], list[Difference]] = {}
    for found in sorted(differences, key=lambda one: one.rank):
        grouped.setdefault((found.kind, found.pattern), []).append(found)
    return tuple(_consequence(group) for group in grouped.values())


def _consequence(group: list[Difference]) -> Consequence:
    first = group[0]
    alone = all(one.where == first.where for one in group)
    return Consequence(
        kind=first.kind,
        where=first.where if alone else first.pattern,
        before=first.before,
        after=first.after,
        level=min((one.level for one in group), key=lambda level: level.rank),
        count=len(group),
    )
