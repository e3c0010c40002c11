"""Owners of the base that have another name in the head because a class was renamed."""

from collections.abc import Mapping
from dataclasses import dataclass

from traces.diff.index import RecordingIndex
from traces.diff.values import ReferenceMap


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerMap:
    """Translation of owners and buffers of the base into the head's names.

    Only owners that no entry named are translated: they are called after their class.
    """

    owners: Mapping[str, str]
    buffers: Mapping[str, str]

    @classmethod
    def of(cls, base: RecordingIndex, head: RecordingIndex, references: ReferenceMap) -> "OwnerMap":
        """Match owners by their objects, where the base's is gone and the head's is new."""
        old, new = ({one.owner for one in side.trace.tensors} for side in (base, head))
        unnamed = {
            one.object: one.owner
            for one in head.trace.tensors
            if not one.is_named and one.owner not in old
        }
        owners = {
            one.owner: unnamed[partner]
            for one in base.trace.tensors
            if not one.is_named and one.owner not in new
            if (partner := references.in_head(one.object)) in unnamed
        }
        buffers = {
            f"{one.owner}.{one.name}": f"{owners[one.owner]}.{one.name}"
            for one in base.trace.tensors
            if one.owner in owners
        }
        return cls(owners=owners, buffers=buffers)

    def owner(self, name: str) -> str:
        """Return an owner of the base as the head calls it."""
        return self.owners.get(name, name)

    def buffer(self, name: str) -> str:
        """Return a buffer of the base, with its owner, as the head calls it."""
        return self.buffers.get(name, name)


NO_OWNERS = OwnerMap(owners={}, buffers={})
"""The translation of the head's own names."""
