"""Sides of pool classes: a release has dozens, and every argument of a constructor is looked at."""

from typing import Literal, TypeAlias

Side: TypeAlias = Literal["host", "device", ""]


class PoolSides:
    """The classes of host pools and of device pools; each class is looked up once."""

    def __init__(self, *, host: tuple[type, ...], device: tuple[type, ...]) -> None:
        self._host = host
        self._device = device
        self._known: dict[type, Side] = {}

    def side_of(self, kind: type) -> Side:
        """Return the side of a class, host first; empty for a class of no pools."""
        side = self._known.get(kind)
        if side is None:
            side = "device" if issubclass(kind, self._device) else ""
            side = self._known[kind] = "host" if issubclass(kind, self._host) else side
        return side
