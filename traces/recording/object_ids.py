"""Labels of objects and events, and names of the pools that own buffers.

Numbers are given in order of first sight, so two runs of one program give the same names; addresses
and hashes never show.
"""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from traces.schema.labels import name_of_label, object_label
from traces.schema.model import PoolSide

ObjectRef: TypeAlias = Callable[[], object]


class ObjectIds:
    """Labels objects of registered classes: ``MLATokenToKVPoolHost#1``."""

    def __init__(self) -> None:
        self._classes: dict[type, str] = {}
        self._names: dict[type, str | None] = {}
        self._labelled: dict[int, tuple[ObjectRef, str]] = {}
        self._counts: Counter[str] = Counter()

    def register(self, kind: type, name: str) -> None:
        """Let objects of a class and of its subclasses be labelled ``name#ordinal``."""
        self._classes[kind] = name
        self._names.clear()

    def name_of(self, kind: type) -> str | None:
        """Return the name of the nearest registered class in the order of inheritance."""
        if kind not in self._names:
            found = (self._classes[base] for base in kind.__mro__ if base in self._classes)
            self._names[kind] = next(found, None)
        return self._names[kind]

    def known_label(self, thing: object) -> str | None:
        """Return the label of this very object, None if it has none yet."""
        found = self._labelled.get(id(thing))
        return found[1] if found is not None and found[0]() is thing else None

    def label(self, thing: object, name: str) -> str:
        """Return the label of an object, a new ``name#ordinal`` when it is seen first."""
        known = self.known_label(thing)
        if known is not None:
            return known
        self._counts[name] += 1
        label = object_label(name, self._counts[name])
        self._labelled[id(thing)] = (object_ref(thing), label)
        return label


class OwnerNames:
    """Resolves object labels to owners, ``host.KV``, once all names are known.

    The first name of an object counts. A second object under the same name gets ``#2``.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._resolved: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._pools: dict[tuple[str, PoolSide], str] = {}

    def name(self, label: str, *, side: PoolSide, pool: str) -> None:
        """Name an object; a later name of the same object is ignored."""
        self._names.setdefault(label, f"{side}.{pool}")

    def resolve(self, label: str, *, side: PoolSide) -> str:
        """Return the owner name of an object; without a name its class stands for the pool."""
        if label not in self._resolved:
            name = self._names.get(label, f"{side}.{name_of_label(label)}")
            self._counts[name] += 1
            ordinal = self._counts[name]
            self._resolved[label] = name if ordinal == 1 else object_label(name, ordinal)
        return self._resolved[label]

    def is_named(self, label: str) -> bool:
        """Return whether an object has a name; else its class stands for it."""
        return label in self._names

    def pool(self, label: str, *, side: PoolSide) -> str:
        """Return the name of an object's pool: its owner name without the side."""
        found = self._pools.get((label, side))
        if found is None:
            found = self.resolve(label, side=side).removeprefix(f"{side}.")
            self._pools[label, side] = found
        return found


def object_ref(thing: object) -> ObjectRef:
    """Return a reference that gives the object back, None once it is gone.

    An ``id`` is reused once its object is freed, so a label must notice that. Only objects that
    cannot be referred to weakly are kept alive.
    """
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing
