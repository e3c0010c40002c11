"""Records of the differences between two traces; a difference may be the cause of others."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from traces.diff.values import CallPair, ReferenceMap, Value, same_value
from traces.schema.model import Location
from traces.schema.verdict import Consequence, Kind, Level

SIGNATURE_KINDS = (Kind.PARAMETER_ADDED, Kind.PARAMETER_REMOVED)
TAKEN_KINDS = (Kind.ARGUMENT_DROPPED, Kind.PARAMETER_REMOVED)
GIVEN_KINDS = (Kind.ARGUMENT_ADDED, Kind.PARAMETER_ADDED)


class DiffLayer(IntEnum):
    """The part of a trace in which a difference shows; a lower layer is upstream of a higher."""

    ASSEMBLY = 0
    TENSORS = 1
    EVENTS = 2
    OPERATIONS = 3
    DIGESTS = 4
    OUTCOME = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArgumentChange:
    """A changed argument of one call.

    Attributes:
        name: as the head spells it; as the base does when the head lacks it.
        parameter: ``name``, dotted down to the one field that differs.
        effective: whether the callee gets another value; false when only *given* or *defaulted*
            differ, or for a parameter that came or went and was never given.
        by_default: whether the callee's default filled in both values: the default differs.
    """

    pair: CallPair
    kind: Kind
    name: str
    parameter: str
    before: Value
    after: Value
    effective: bool = True
    by_default: bool = False

    @property
    def level(self) -> Level:
        """Level of this difference alone: what builders hand to each other is interface."""
        behaves = self.effective and self.pair.head.role != "builder"
        return Level.BEHAVIOUR if behaves else Level.INTERFACE

    @property
    def value_only(self) -> bool:
        """True when the call site looks as before and only the value it passes differs."""
        return self.kind is Kind.ARGUMENT_CHANGED and not self.by_default

    def has_values_of(self, other: "ArgumentChange", references: ReferenceMap) -> bool:
        """Return whether both values are those of another change."""
        both = ((self.before, other.before), (self.after, other.after))
        return all(same_value(mine, its, references) for mine, its in both)


@dataclass(slots=True, kw_only=True, eq=False)
class Difference:
    """One difference; as a cause, with the differences that follow from it.

    Attributes:
        where: exact place, ``wait load.layer3 on default in read``.
        level: of the worst difference among itself and its consequences.
        position: place in its layer, comparable over both sides.
        pattern: the place of the whole series that it belongs to, ``where`` when there is none;
            equal patterns are counted together.
        subject: the place without the step or the caller, ``where`` when it has neither.
        pool: pool name it belongs to, ``KV``; empty for none.
        base_call: label of the call of the base it concerns, or whose object; empty for none.
        truncated: whether it is missing only because the other side ended early.
        argument: the fault, when it is an argument; None for another kind of fault.
        can_explain: whether differences of behaviour may follow from it.
        callee: where it is known without a call.
        parameter: name of the argument, dotted for one field; None for another difference.
        location: where it is known before the report.
        message: of a cause that the report need not complete.
        swapped_with: the parameter that got this one's value and gave it its own.
        count: how often the same difference occurs.
        calls: the calls in which it shows, as :func:`side_labels`.
        members: the changes of the same argument further down.
        consequences: what else follows from it.
    """

    kind: Kind
    where: str
    before: Value
    after: Value
    layer: DiffLayer
    position: int
    level: Level = Level.BEHAVIOUR
    pattern: str = ""
    subject: str = ""
    pool: str = ""
    base_call: str = ""
    head_call: str = ""
    truncated: bool = False
    argument: ArgumentChange | None = None
    can_explain: bool = False
    callee: str | None = None
    parameter: str | None = None
    location: Location | None = None
    message: str = ""
    swapped_with: str = ""
    count: int = 1
    calls: set[str] = field(default_factory=set)
    members: list[ArgumentChange] = field(default_factory=list)
    consequences: list["Difference"] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Fill in what follows from the other fields."""
        self.pattern = self.pattern or self.where
        self.subject = self.subject or self.where
        self.can_explain = self.can_explain or self.level is Level.BEHAVIOUR
        self.calls |= side_labels(self.base_call, self.head_call)

    @classmethod
    def of_argument(cls, change: ArgumentChange, position: int, layer: DiffLayer) -> "Difference":
        """Return the difference that a changed argument is."""
        return cls(
            kind=change.kind,
            where=f"{change.pair.head.callee}.{change.parameter}",
            before=change.before,
            after=change.after,
            layer=layer,
            position=position,
            level=change.level,
            base_call=change.pair.base.call,
            head_call=change.pair.head.call,
            parameter=change.parameter,
        )

    @property
    def rank(self) -> tuple[int, int]:
        """Upstreamness; lower is earlier."""
        return (int(self.layer), self.position)

    def add_consequences(self, differences: Iterable["Difference"]) -> None:
        """Add consequences."""
        added = list(differences)
        self.consequences += added
        self.level = Level.worst((self.level, *(found.level for found in added)))


def side_labels(base: str, head: str) -> set[str]:
    """Return labels that cannot be mistaken for labels of the other side, empty ones left out."""
    labels = (("base", base), ("head", head))
    return {f"{side} {label}" for side, label in labels if label}


def with_step(text: str, step: str) -> str:
    """Add the scenario step, unless it has no name."""
    return f"{text} in {step}" if step else text


def count_consequences(differences: Iterable[Difference]) -> tuple[Consequence, ...]:
    """Count equal patterns together, most upstream first."""
    grouped: dict[tuple[Kind, str], list[Difference]] = {}
    for found in sorted(differences, key=lambda one: one.rank):
        grouped.setdefault((found.kind, found.pattern), []).append(found)
    return tuple(
        Consequence(
            kind=first.kind,
            where=first.where if all(one.where == first.where for one in group) else first.pattern,
            before=first.before,
            after=first.after,
            level=Level.worst(one.level for one in group),
            count=len(group),
        )
        for group in grouped.values()
        for first in group[:1]
    )
