"""Comparison of the buffers of the pools.

A buffer's layout, its pinning and the buffer whose storage it shares count as ``stride_changed``
with a dotted place: the contract has no kinds of their own for them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from traces.diff.differences import Difference, DiffLayer
from traces.diff.index import RecordingIndex
from traces.diff.pairing import CallPairing
from traces.diff.values import NO_OWNERS, OwnerMap, Value
from traces.schema.model import TensorRecord
from traces.schema.verdict import Kind

_Key = tuple[str, str]
"""Owner and name; owner and attribute for a whole list."""


class _IndexedTensor(NamedTuple):
    """A record with its place in the list of its side."""

    position: int
    record: TensorRecord


class _Place(NamedTuple):
    """A place, and the same with the numbers of lists starred."""

    where: str
    pattern: str

    @classmethod
    def plain(cls, where: str) -> "_Place":
        """Return a place in no list."""
        return cls(where, where)


def tensor_differences(pairing: CallPairing) -> list[Difference]:
    """Return all differences of all buffers, in order."""
    comparison = _TensorComparison(
        pairing=pairing,
        old=_keyed(pairing.base, pairing.owners),
        new=_keyed(pairing.head, NO_OWNERS),
    )
    found = (*comparison.owners(), *comparison.lists(), *comparison.buffers(), *comparison.fields())
    return sorted(found, key=lambda one: one.rank)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TensorComparison:
    pairing: CallPairing
    old: Mapping[_Key, _IndexedTensor]
    new: Mapping[_Key, _IndexedTensor]

    def owners(self) -> Iterator[Difference]:
        """Yield owners that lost or got all their buffers, an owner that was renamed once."""
        old, new = _by_owner(self.old), _by_owner(self.new)
        gone = sorted(old.keys() - new.keys())
        followers = {self.pairing.references.in_head(old[one][0].record.object) for one in gone}
        for owner in gone:
            yield self._pool(Kind.POOL_REMOVED, owner, old[owner])
        for owner in sorted(new.keys() - old.keys()):
            if new[owner][0].record.object not in followers:
                yield self._pool(Kind.POOL_ADDED, owner, new[owner])

    def _pool(self, kind: Kind, owner: str, buffers: Sequence[_IndexedTensor]) -> Difference:
        # Pools get their names when all is assembled: where one side failed, names may differ.
        failed = self.pairing.base.failed or self.pairing.head.failed
        size = sum(found.record.bytes for found in buffers)
        place = _Place.plain(owner)
        described, first = {"buffers": len(buffers), "bytes": size}, buffers[0]
        if kind is Kind.POOL_REMOVED:
            return self._made(kind, place, (first, None), (described, None), truncated=failed)
        return self._made(kind, place, (None, first), (None, described), truncated=failed)

    def _shared_owners(self) -> set[str]:
        return {owner for owner, _ in self.old} & {owner for owner, _ in self.new}

    def lists(self) -> Iterator[Difference]:
        """Yield lists of buffers, one a layer, that are longer or shorter than before."""
        before, after = _list_lengths(self.old), _list_lengths(self.new)
        shared = self._shared_owners()
        for key in sorted({*before, *after}):
            if key[0] in shared and before[key] != after[key]:
                first = _first_of_list(self.old, key), _first_of_list(self.new, key)
                lengths = before[key], after[key]
                place = _Place.plain(_list_place(key))
                yield self._made(Kind.LAYERS_CHANGED, place, first, lengths)

    def buffers(self) -> Iterator[Difference]:
        """Yield single buffers that only one side has, of owners that both sides have."""
        shared = self._shared_owners()
        for owner, name in dict.fromkeys((*self.old, *self.new)):
            both = self.old.get((owner, name)), self.new.get((owner, name))
            known = both[0] or both[1]
            is_alone = known is not None and not known.record.index
            if None in both and owner in shared and is_alone:
                shapes = tuple(found and list(found.record.shape) for found in both)
                place = _Place.plain(f"{owner}.{name}")
                yield self._made(Kind.SHAPE_CHANGED, place, both, shapes)

    def fields(self) -> Iterator[Difference]:
        """Yield what differs of buffers that both sides have."""
        layers = self._layer_numbers()
        for key in (key for key in self.old if key in self.new):
            both = self.old[key], self.new[key]
            before, after = both[0].record, both[1].record
            place = ".".join(key)
            starred = _list_place(_list_key(key, both[0])) if before.index else place
            kind = Kind.LAYERS_CHANGED if _layer_axis(before, after, layers) else Kind.SHAPE_CHANGED
            aliases = self.pairing.owners.buffer(before.aliases)
            for changed, part, values in (
                (kind, "", (list(before.shape), list(after.shape))),
                (Kind.DTYPE_CHANGED, "", (before.dtype, after.dtype)),
                (Kind.STRIDE_CHANGED, "", (list(before.stride), list(after.stride))),
                (Kind.BYTES_CHANGED, "", (before.bytes, after.bytes)),
                (Kind.STRIDE_CHANGED, ".layout", (before.layout, after.layout)),
                (Kind.STRIDE_CHANGED, ".pinned", (before.pinned, after.pinned)),
                (Kind.STRIDE_CHANGED, ".aliases", (aliases, after.aliases)),
            ):
                if values[0] != values[1]:
                    where = _Place(f"{place}{part}", f"{starred}{part}")
                    yield self._made(changed, where, both, values)

    def _made(
        self,
        kind: Kind,
        place: _Place,
        tensors: tuple[_IndexedTensor | None, _IndexedTensor | None],
        values: tuple[Value, ...],
        *,
        truncated: bool = False,
    ) -> Difference:
        base, head = self.pairing.base, self.pairing.head
        old, new = tensors
        known = old or new
        assert known is not None
        return Difference(
            kind=kind,
            where=place.where,
            before=values[0],
            after=values[1],
            layer=DiffLayer.TENSORS,
            position=known.position,
            pattern=place.pattern,
            pool=known.record.pool,
            base_call=_maker(base, old),
            head_call=_maker(head, new),
            truncated=truncated or (new is None and head.failed) or (old is None and base.failed),
        )

    def _layer_numbers(self) -> set[tuple[int, int]]:
        """Return the numbers of layers that changed, before and after."""
        before, after = _list_lengths(self.old), _list_lengths(self.new)
        numbers = {(before[key], after[key]) for key in before if key in after}
        for key in self.old.keys() & self.new.keys():
            numbers.add((self.old[key].record.layer_num, self.new[key].record.layer_num))
        return {(one, other) for one, other in numbers if one != other}


def _keyed(side: RecordingIndex, owners: OwnerMap) -> dict[_Key, _IndexedTensor]:
    return {
        (owners.owner(tensor.owner), tensor.name): _IndexedTensor(index, tensor)
        for index, tensor in enumerate(side.trace.tensors)
    }


def _by_owner(keyed: Mapping[_Key, _IndexedTensor]) -> dict[str, list[_IndexedTensor]]:
    owners: dict[str, list[_IndexedTensor]] = {}
    for (owner, _), found in keyed.items():
        owners.setdefault(owner, []).append(found)
    return owners


def _maker(side: RecordingIndex, found: _IndexedTensor | None) -> str:
    """Return the label of the call that made a buffer's object; empty for an unknown one."""
    maker = None if found is None else side.makers.get(found.record.object)
    return "" if maker is None else maker.call


def _first_of_list(keyed: Mapping[_Key, _IndexedTensor], of: _Key) -> _IndexedTensor | None:
    return next((found for key, found in keyed.items() if _list_key(key, found) == of), None)


def _list_lengths(keyed: Mapping[_Key, _IndexedTensor]) -> Counter[_Key]:
    return Counter(_list_key(key, found) for key, found in keyed.items() if found.record.index)


def _list_key(key: _Key, found: _IndexedTensor) -> _Key:
    return key[0], found.record.attribute


def _list_place(key: _Key) -> str:
    return f"{key[0]}.{key[1]}[*]"


def _layer_axis(before: TensorRecord, after: TensorRecord, layers: set[tuple[int, int]]) -> bool:
    """Return whether exactly one axis differs, by a number of layers."""
    if len(before.shape) != len(after.shape):
        return False
    axes = zip(before.shape, after.shape, strict=True)
    differing = [axis for axis in axes if axis[0] != axis[1]]
    return len(differing) == 1 and differing[0] in layers
