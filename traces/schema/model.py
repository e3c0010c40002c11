"""The schema of a trace, ``goldentrace.trace/2``: closed, frozen, validated when read.

A trace holds what a stack builder *did*, in the field's words. It holds no address, time, path,
host name, version or hash order. Source locations are kept apart, in :class:`Sites`: they move with
every edit and are needed only to point at a line.

Names of streams, events and buffers and the texts of messages are labels: they are compared and
shown. What a rule needs to know stands in a field of its own.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from traces.schema.collectives import Collective
from traces.schema.copies import Copy
from traces.schema.device_waits import DeviceAwaited
from traces.schema.life import StateRecord
from traces.schema.pools import PoolRecord
from traces.schema.races import Race
from traces.schema.record import Record, Slots
from traces.schema.storage_records import StorageAccess, StorageMatch

SCHEMA = "goldentrace.trace/2"

HOST = "host"
"""Stream of what the host itself waits for."""

Role: TypeAlias = Literal["builder", "constructor", "operation"]
Part: TypeAlias = Literal[
    "", "stack", "attach", "pool", "entry", "group", "controller", "cache", "callback"
]
PoolSide: TypeAlias = Literal["device", "host"]
Direction: TypeAlias = Literal["backup", "load"]


class Argument(Record, frozen=True):
    """One bound argument. ``given`` is false when the callee's default filled it in."""

    name: str
    value: Any
    given: bool


class Unbound(Record, frozen=True):
    """Arguments that do not fit the signature of the function they were passed to.

    Attributes:
        function: qualified name of the function; empty where Python leaves it out.
        missing: required parameters that were not given.
        unexpected: a keyword that the function does not have; empty for none.
    """

    function: str
    missing: tuple[str, ...]
    unexpected: str


class Failure(Record, frozen=True):
    """An exception that left a call.

    Attributes:
        type: name of its type.
        message: its text, for people.
        subject: what broke a rule; empty where the exception does not say, as the next three.
        rule: the rule.
        expected: what the rule asks for.
        got: what there was.
        unbound: of a TypeError about arguments; None for any other exception.
    """

    type: str
    message: str
    subject: str = ""
    rule: str = ""
    expected: str = ""
    got: str = ""
    unbound: Unbound | None = None


class Call(Record, frozen=True):
    """One call of a recorded callable.

    Attributes:
        call: label, unique in the trace: ``callee#ordinal``.
        parent: label of the recorded call it was made from; empty at the top.
        caller: callee of that call; empty at the top.
        step: scenario step during which it happened.
        role: ``builder`` (build_*, attach_* and functions between them), ``constructor``
            (pools, entries, group, controller) or ``operation`` (controller, cache, group).
        part: what a builder makes (``stack``; ``attach`` for a function that attaches one), or
            the kind of object that a constructor makes or an operation belongs to; empty for
            functions between builders and for other objects.
        callee: qualified name without module: ``build_kv_only_stack``,
            ``MLATokenToKVPoolHost``, ``HybridCacheController.write``.
        arguments: in signature order; ``self`` only where code is watched by name.
        returns: encoded result; for a constructor, a reference to the new object.
        raises: the exception that left the call, if any.
        unbound: which arguments do not fit the callee's signature; None when all do.
    """

    call: str
    parent: str
    caller: str
    step: str
    role: Role
    part: Part
    callee: str
    arguments: tuple[Argument, ...]
    returns: Any
    raises: Failure | None
    unbound: Unbound | None = None


class TensorRecord(Record, frozen=True):
    """One buffer of one pool.

    Attributes:
        owner: ``device.KV``, ``host.INDEXER``, ``device.SWAKVPool`` for a pool without an entry.
        is_named: whether an entry or a controller named the owner; else its class stands for it.
        side: of the owner.
        pool: whose rows it holds: ``INDEXER`` for index pages that lie in the KV pool.
        object: label of the owning object: ``MLATokenToKVPoolHost#1``.
        name: attribute path in the owner: ``kv_buffer``, ``k_buffer[3]``.
        attribute: the path without the places in lists: ``k_buffer``, shared by a whole list.
        index: the places in lists, outermost first; empty for a buffer that is in no list.
        planes: kinds of its rows, as in transfers and round trips: one, or several of equal width
            (``k`` and ``v``); none where no slot numbers rows.
        layer: index in the pool of the layer whose rows it holds; None for all layers.
        layer_num: number of layers whose rows it holds; 0 where that is not known.
        row_bytes: bytes of one row of one plane and layer; 0 without a plane.
        slots_per_row: slots that share a row, a page of index keys; 0 without a plane.
        stride: in elements, as in torch.
        layout: the pool's host layout, empty for device buffers.
        bytes: size in bytes.
        aliases: ``owner.name`` of the first recorded tensor with the same storage, or empty.
    """

    owner: str
    is_named: bool
    side: PoolSide
    pool: str
    object: str
    name: str
    attribute: str
    index: tuple[int, ...]
    planes: tuple[str, ...]
    layer: int | None
    layer_num: int
    row_bytes: int
    slots_per_row: int
    shape: tuple[int, ...]
    dtype: str
    stride: tuple[int, ...]
    layout: str
    bytes: int
    pinned: bool
    aliases: str


class Transfer(Record, frozen=True, tag_field="event", tag="transfer"):
    """Bytes of one plane of one layer moved between a device pool and a host pool.

    Attributes:
        pool: the host pool.
        device_pool: whose rows they are on the device; another one than ``pool`` for a draft that
            is packed into the target's host pool.
        layer: index in the pool.
        rows: rows of the device buffer that the slots mean.
        row_bytes: bytes moved of each.
        bytes: all of them.
    """

    step: str
    direction: Direction
    pool: str
    device_pool: str
    plane: str
    layer: int
    device_slots: Slots
    host_slots: Slots
    rows: int
    row_bytes: int
    bytes: int
    backend: str
    stream: str


class Allocation(Record, frozen=True, tag_field="event", tag="alloc"):
    """Slots handed out; ``slots`` is None when the pool was too full.

    ``pool`` is the pool name of ``owner``.
    """

    step: str
    owner: str
    pool: str
    need: int
    slots: Slots | None


class Release(Record, frozen=True, tag_field="event", tag="free"):
    """Slots given back; ``pool`` is the pool name of ``owner``."""

    step: str
    owner: str
    pool: str
    slots: Slots


class EventRecorded(Record, frozen=True, tag_field="event", tag="record"):
    """A device event was recorded on a stream: the tail of a happens-before edge.

    Attributes:
        layer: index of the layer whose load was launched last on the stream, since its previous
            event; None for none.
    """

    step: str
    name: str
    stream: str
    layer: int | None


class EventAwaited(Record, frozen=True, tag_field="event", tag="wait"):
    """A stream (or :data:`HOST`) waits for a device event: the head of a happens-before edge."""

    step: str
    name: str
    stream: str


class Message(Record, frozen=True, tag_field="event", tag="message"):
    """A warning or error that the traced code logged or warned."""

    step: str
    level: Literal["warning", "error"]
    text: str


Event: TypeAlias = (
    Transfer
    | Collective
    | Copy
    | Allocation
    | Release
    | StorageAccess
    | EventRecorded
    | EventAwaited
    | DeviceAwaited
    | Message
    | Race
    | StateRecord
)


class Digest(Record, frozen=True, tag_field="digest", tag="content"):
    """Content of buffers of one pool after a step, as the head of a SHA-256 (16 hex digits).

    Attributes:
        owner: ``device.KV``; ``device.KV.kv_buffer`` for one kind of row.
        pool: pool name, ``KV``.
    """

    step: str
    owner: str
    pool: str
    sha256: str


class RoundTrip(Record, frozen=True, tag_field="digest", tag="round_trip"):
    """Comparison of rows after a backup, a poisoned device and a load into other slots.

    Attributes:
        pool: pool name, ``KV``.
        plane: kind of rows compared; empty for all of the pool.
        equal: whether every loaded row has the bytes that were written.
        wrong_slots: loaded slots whose bytes differ.
        foreign_slots: slots outside the destination whose bytes changed.
    """

    step: str
    pool: str
    plane: str
    equal: bool
    wrong_slots: Slots
    foreign_slots: Slots

    @property
    def rows(self) -> str:
        """The rows compared, for people: ``KV``, ``KV.kv``."""
        return f"{self.pool}.{self.plane}" if self.plane else self.pool


class Reading(Record, frozen=True, tag_field="digest", tag="reading"):
    """Rows that an accessor handed out behind a load, read while the load was on its way.

    Attributes:
        pool: pool name, ``KV``.
        accessor: method of the pool: ``get_key_buffer``.
        stream: stream of its own, on which it was called and the rows were read.
        waited: whether that stream waited for any event.
        equal: whether the rows read have the bytes that were written.
    """

    step: str
    pool: str
    accessor: str
    stream: str
    waited: bool
    equal: bool


class TreeMatch(Record, frozen=True, tag_field="digest", tag="tree_match"):
    """The tokens of a sequence that a tree found.

    Attributes:
        sequence: which one: ``first``.
        phase: the step after which it was looked for: ``inserted``, ``evicted``, ``loaded``.
        found: whether every token was found where it must be.
        missing: positions of the tokens that were not.
        elsewhere: positions of the tokens that were found on the other side.
    """

    step: str
    sequence: str
    phase: str
    found: bool
    missing: Slots
    elsewhere: Slots


DigestRecord: TypeAlias = Digest | RoundTrip | Reading | TreeMatch | StorageMatch | PoolRecord
StepRecord: TypeAlias = DigestRecord | StateRecord


class Outcome(Record, frozen=True):
    """The end of a scenario."""

    ok: bool
    failed_step: str
    failure: Failure | None


class ScenarioRecord(Record, frozen=True):
    """Name and target-independent configuration of the scenario."""

    name: str
    config: dict[str, Any]


class Trace(Record, frozen=True):
    """The canonical record of one scenario.

    Attributes:
        objects: label of every object that a record refers to, with the name of its class, in
            order of first sight.
    """

    schema: str
    scenario: ScenarioRecord
    calls: tuple[Call, ...]
    tensors: tuple[TensorRecord, ...]
    events: tuple[Event, ...]
    digests: tuple[DigestRecord, ...]
    outcome: Outcome
    objects: dict[str, str] = msgspec.field(default_factory=dict)


class Location(Record, frozen=True):
    """A line of source; ``file`` is relative to the root of the side it belongs to."""

    file: str
    line: int


class Sites(Record, frozen=True):
    """Source lines of the records of a trace; never part of a golden, never compared.

    Attributes:
        calls: call label to the line that made the call.
        definitions: callee name to the line where it is defined.
        events: one place an event, in the order of ``Trace.events``; None for an unknown one.
        failure: innermost line of the target that the exception which ended the scenario went
            through; None when none did.
        defaults: callee name to its parameters' plain defaults: what leaving them out means.
    """

    calls: dict[str, Location]
    definitions: dict[str, Location]
    events: tuple[Location | None, ...]
    failure: Location | None = None
    defaults: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


class Recording(Record, frozen=True):
    """A trace with the places it came from; ``sites`` is None for a golden."""

    trace: Trace
    sites: Sites | None
