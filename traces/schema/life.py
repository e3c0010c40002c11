"""Records of the life of a cache: locks of nodes, owners of slots, and counts of evictions."""

from typing import Literal, TypeAlias

from traces.schema.record import Record


class NodeLocks(Record, frozen=True, tag_field="event", tag="locks"):
    """Locks on one node of a cache at one moment of a step; a node without locks has no record.

    Attributes:
        moment: name of the moment: ``backing_up``.
        node: its tokens where it has tokens, else its number in the cache.
        component: part of the node that is locked: ``FULL``, ``SWA``, ``MAMBA``.
        device: locks that keep its device slots.
        host: locks that keep its host slots.
    """

    step: str
    moment: str
    node: str
    component: str
    device: int
    host: int


class PoolBalance(Record, frozen=True, tag_field="event", tag="balance"):
    """Owners of the slots of one pool at one moment of a step, as numbers of slots.

    Attributes:
        moment: name of the moment: ``backing_up``.
        pool: name of the pool, ``KV``.
        total: all of them.
        free: those that the pool would hand out.
        cached: those of the nodes of the cache; None where its nodes cannot be read.
        held: those that the scenario took, as running requests do.
        evictable: number of the cached ones that the cache counts as evictable; None where it keeps
            no such number.
        protected: number of the cached ones that the cache counts as locked; None likewise.
        is_final: whether everything that the scenario began is over: no lock may be left.
    """

    step: str
    moment: str
    pool: str
    side: Literal["device", "host"]
    total: int
    free: int
    cached: int | None
    held: int
    evictable: int | None
    protected: int | None
    is_final: bool

    @property
    def owner(self) -> str:
        """Name of the pool with its side: ``device.KV``."""
        return f"{self.side}.{self.pool}"


class EvictionCount(Record, frozen=True, tag_field="event", tag="eviction"):
    """A number that a cache counts of one eviction, by which its caller knows of the room there is.

    Attributes:
        moment: name of the moment: ``evicting_in_load``.
        name: of the number, as the cache calls it; a number that is 0 has no record.
    """

    step: str
    moment: str
    name: str
    number: int


StateRecord: TypeAlias = NodeLocks | PoolBalance | EvictionCount
