"""Rows of planes and layers, on both sides of a transfer."""

from dataclasses import dataclass, field
from typing import Any
from weakref import ref

from assembler.names import Direction
from assembler.transfer.rows import RowMap
from assembler.transfer.windows import RowWindow


class LayerRows:
    """Rows of one plane in one layer, in the host pool and in the device pool.

    Attributes:
        plane: the plane's name.
        layer: layer index in the pool, 0 first.
        row_map: which rows a slot means.
        host: rows of the host pool.
        device: rows of the device pool.
        subject: pool, plane and layer, for errors.
    """

    __slots__ = ("_owner", "device", "host", "layer", "plane", "row_map", "subject")

    def __init__(
        self,
        *,
        owner: object,
        plane: str,
        layer: int,
        row_map: RowMap,
        host: RowWindow,
        device: RowWindow,
    ) -> None:
        self._owner = ref(owner)
        self.plane = plane
        self.layer = layer
        self.row_map = row_map
        self.host = host
        self.device = device
        self.subject = f"{type(owner).__name__} {plane} layer {layer}"

    @property
    def owner(self) -> object:
        """The host pool; its class names the transfer. It is not kept alive."""
        return self._owner()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class RowSet:
    """Rows of several planes and layers of a host pool, which move with the same slots.

    Attributes:
        rows: in the order in which they are moved; at least one.
        plans: what backends keep about the set, by backend and direction.
    """

    rows: tuple[LayerRows, ...]
    plans: dict[tuple[object, Direction], Any] = field(default_factory=dict, repr=False)
