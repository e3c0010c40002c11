"""The result of a comparison, ``goldentrace.verdict/1``: causes and their consequences."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import msgspec

from traces.schema.model import Location
from traces.schema.record import Record

SCHEMA = "goldentrace.verdict/1"

_MAX_SHOWN_CHARACTERS = 60


class Kind(StrEnum):
    """The closed list of kinds of causes and consequences."""

    ARGUMENT_DROPPED = "argument_dropped"
    ARGUMENT_ADDED = "argument_added"
    ARGUMENT_CHANGED = "argument_changed"
    PARAMETER_REMOVED = "parameter_removed"
    PARAMETER_ADDED = "parameter_added"
    CALL_ADDED = "call_added"
    CALL_REMOVED = "call_removed"
    CALL_REORDERED = "call_reordered"
    SHAPE_CHANGED = "shape_changed"
    DTYPE_CHANGED = "dtype_changed"
    STRIDE_CHANGED = "stride_changed"
    BYTES_CHANGED = "bytes_changed"
    LAYERS_CHANGED = "layers_changed"
    POOL_ADDED = "pool_added"
    POOL_REMOVED = "pool_removed"
    TRANSFER_ADDED = "transfer_added"
    TRANSFER_REMOVED = "transfer_removed"
    TRANSFER_CHANGED = "transfer_changed"
    ORDER_EDGE_ADDED = "order_edge_added"
    ORDER_EDGE_REMOVED = "order_edge_removed"
    COLLECTIVE_CHANGED = "collective_changed"
    STORAGE_KEY_CHANGED = "storage_key_changed"
    DIGEST_CHANGED = "digest_changed"
    LOCKS_CHANGED = "locks_changed"
    BALANCE_CHANGED = "balance_changed"
    OUTCOME_CHANGED = "outcome_changed"
    SCENARIO_ADDED = "scenario_added"
    SCENARIO_REMOVED = "scenario_removed"
    RENAMED = "renamed"
    FORMAT_CHANGED = "format_changed"
    STALE_AFTER_RESTORE = "stale_after_restore"
    SIBLING_DISAGREEMENT = "sibling_disagreement"
    DECLARED_NOT_ASSEMBLED = "declared_not_assembled"
    ROW_BYTES_MISMATCH = "row_bytes_mismatch"
    PARAMETER_BLIND_SPOT = "parameter_blind_spot"
    UNCALLED_METHOD = "uncalled_method"
    READ_BEFORE_READY = "read_before_ready"
    BUFFER_INFO_MISMATCH = "buffer_info_mismatch"
    PAGE_MISMATCH = "page_mismatch"
    STATE_LEFT_BEHIND = "state_left_behind"
    UNBALANCED = "unbalanced"
    UNCOVERED_BUILDER = "uncovered_builder"
    STORAGE_KEY_COLLISION = "storage_key_collision"


ADDED_KINDS = frozenset(
    (
        Kind.ARGUMENT_ADDED,
        Kind.PARAMETER_ADDED,
        Kind.CALL_ADDED,
        Kind.POOL_ADDED,
        Kind.TRANSFER_ADDED,
        Kind.ORDER_EDGE_ADDED,
        Kind.SCENARIO_ADDED,
    )
)
REMOVED_KINDS = frozenset(
    (
        Kind.ARGUMENT_DROPPED,
        Kind.PARAMETER_REMOVED,
        Kind.CALL_REMOVED,
        Kind.POOL_REMOVED,
        Kind.TRANSFER_REMOVED,
        Kind.ORDER_EDGE_REMOVED,
        Kind.SCENARIO_REMOVED,
    )
)


class Level(StrEnum):
    """The severity of a difference; the first is the worst."""

    BEHAVIOUR = "behaviour"
    INTERFACE = "interface"
    FORMAT = "format"

    @property
    def rank(self) -> int:
        """Position in the order of severity, 0 for the worst."""
        return list(Level).index(self)

    @classmethod
    def worst(cls, levels: Iterable["Level"]) -> "Level":
        """Return the worst of some levels."""
        return min(levels, key=lambda level: level.rank)


Confidence: TypeAlias = Literal["", "certain", "likely", "possible"]


class Consequence(Record, frozen=True):
    """One difference that a cause explains.

    Attributes:
        where: ``host.KV.kv_buffer``, ``backup KV.kv layer * in write``, ``outcome``; a star stands
            for the numbers in which ``count`` differences of the same kind differ.
        before: on the base side, of the first of them; None for absent.
        after: on the head side, of the first of them; None for absent.
        level: its own level; a cause is as bad as its worst consequence.
        count: exact number of differences, over all scenarios of the cause.
    """

    kind: Kind
    where: str
    before: Any
    after: Any
    level: Level
    count: int


class Variant(Record, frozen=True):
    """The values of one cause in those scenarios where they are the same."""

    before: Any
    after: Any
    scenarios: tuple[str, ...]


class SourceHunk(Record, frozen=True, kw_only=True):
    """Neighbouring lines of a file that differ between the sources of both sides.

    Attributes:
        base_line: first line in the base; of an insertion the line that follows it there.
        head_line: the same in the head.
        before: lines of the base; empty for an insertion.
        after: lines of the head; empty for a deletion.
    """

    file: str
    base_line: int
    head_line: int
    before: tuple[str, ...]
    after: tuple[str, ...]

    def is_at(self, line: int) -> bool:
        """Return whether a line of the head is one of the hunk, or beside lines that are gone."""
        last = self.head_line + len(self.after)
        return self.head_line - (not self.after) <= line < last + (not self.after)

    @property
    def place(self) -> str:
        """Lines of the head, ``file:12-14``; where it has none the line that follows."""
        last = self.head_line + len(self.after) - 1
        end = f"-{last}" if last > self.head_line else ""
        return f"{self.file}:{self.head_line}{end}"


class Cause(Record, frozen=True, kw_only=True):
    """One root difference: the line to look at, and the consequences.

    Attributes:
        builder: stack builder, attach function or calling function in which it takes effect; None
            when no builder is involved.
        callee: final consumer, ``MLATokenToKVPoolHost``; None when only events or content differ.
        parameter: name at the place of the fault, dotted for one field of an object that is
            passed by value; None unless an argument is the fault.
        before: value on the base side; None for absent.
        after: value on the head side; None for absent.
        location: line in the head, or in the base when the head has none; None when neither side
            has sites.
        scenarios: names, sorted.
        consequences: most upstream first.
        where: what differs, when no parameter names it: ``wait load.layer3 on default in read``.
        subject: the same without the step or the caller: ``wait load.layer3 on default``; empty
            where that is ``where``.
        path: callees from the place of the fault down to the final consumer.
        variants: empty unless ``before`` or ``after`` depend on the scenario; the first is the
            one shown.
        count: how often the same root difference occurs in one scenario (the highest number).
        message: one sentence for a reader.
        evidence: of a finding, one line that a reviewer can check; empty for a difference.
        confidence: of a finding, by the rule of ``traces/audit/judgement.py``; empty likewise.
        rank: upstreamness, lower is earlier: layer (0 assembly, 1 tensors, 2 events,
            3 operations, 4 digests, 5 outcome), then position.
        made_by: hunks of source without which the head does not have it; empty where that was not
            tried or not found.
        source: lines of both sides at the location: those that differ in its statement, or its own
            line on both sides where none does; None where neither side can be read.
        effect: one sentence about rows of the head that fit no longer; empty where all fit, or
            where those of the base do not fit either.
    """

    kind: Kind
    level: Level = Level.BEHAVIOUR
    builder: str | None = None
    callee: str | None = None
    parameter: str | None = None
    before: Any = None
    after: Any = None
    location: Location | None = None
    scenarios: tuple[str, ...] = ()
    consequences: tuple[Consequence, ...] = ()
    where: str
    subject: str = ""
    path: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    count: int = 1
    message: str
    evidence: str = ""
    confidence: Confidence = ""
    rank: tuple[int, int]
    made_by: tuple[SourceHunk, ...] = ()
    source: SourceHunk | None = None
    effect: str = ""

    def as_consequence(self) -> Consequence:
        """Return the difference as one that another cause explains."""
        return Consequence(
            kind=self.kind,
            where=self.where,
            before=self.before,
            after=self.after,
            level=self.level,
            count=self.count,
        )

    def fails(self, *, strict: bool) -> bool:
        """Return whether it makes a verdict ``fail``; interface changes only when ``strict``."""
        return strict or self.level is not Level.INTERFACE

    def headline(self) -> str:
        """Return one line: kind, what, old and new value, place, number of scenarios."""
        place = f"in {self._place()}" if self._place() else ""
        number = f"{len(self.scenarios)} scenario{'s' if len(self.scenarios) != 1 else ''}"
        start = f"{self.kind}: {self.parameter or self.where}{self._change()}"
        return ", ".join(filter(None, (start, place, number)))

    def _change(self) -> str:
        before = _shorten(self.before, absent=self.kind in ADDED_KINDS)
        after = _shorten(self.after, absent=self.kind in REMOVED_KINDS)
        equal = type(self.before) is type(self.after) and self.before == self.after
        if equal and self.kind is not Kind.ARGUMENT_CHANGED:
            return "" if self.after is None else f" still {after}"
        return f" {before} -> {after}"

    def _place(self) -> str:
        names = dict.fromkeys(filter(None, (self.builder, self.callee)))
        line = "" if self.location is None else f"({self.location.file}:{self.location.line})"
        return " ".join(filter(None, (" -> ".join(names), line)))


class ScenarioCounts(Record, frozen=True):
    """Numbers of scenarios that were run, the names of those that differ, and all names."""

    played: int
    unchanged: int
    changed: int
    names_changed: tuple[str, ...]
    names: tuple[str, ...] = ()


class Verdict(Record, frozen=True):
    """The whole result of a comparison.

    Attributes:
        verdict: ``error`` when the comparison could not be made.
        base: ``{"side": "golden", ...}``; further keys describe the side.
        head: as ``base``.
        causes: most upstream first.
        problems: one line each: reasons for ``error``, and what else is wrong.
        selected: scenarios that were run on the head for this verdict, sorted.
        kept: scenarios that no change can reach: an earlier run stands for them, sorted.
        selection: which were run and why, in one sentence; empty when nothing was kept or known. A
            second line names changed functions that no scenario executes on the base, if any.
    """

    verdict: Literal["pass", "fail", "error"]
    target: str
    base: dict[str, str]
    head: dict[str, str]
    scenarios: ScenarioCounts
    causes: tuple[Cause, ...]
    problems: tuple[str, ...]
    selected: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    selection: str = ""
    schema: str = SCHEMA

    def to_json(self) -> str:
        """Return the verdict as JSON text, indented, ``schema`` first, with a final newline."""
        fields = {"schema": self.schema, **msgspec.structs.asdict(self)}
        return msgspec.json.format(msgspec.json.encode(fields), indent=2).decode() + "\n"


def _shorten(value: Any, *, absent: bool) -> str:  # noqa: ANN401 - any encoded value
    if value is None:
        return "nothing" if absent else "None"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else text[: _MAX_SHOWN_CHARACTERS - 3] + "..."
