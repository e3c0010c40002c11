"""Compares the buffers of the pools.

A buffer's layout, its pinning and what it shares storage with are its placement in memory: they
count as ``stride_changed`` with a dotted place, the contract having no kind of their own for them.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from traces.diff.differences import Difference, DiffLayer, make_difference
from traces.diff.index import RecordingIndex, argument_values
from traces.diff.pairing import CallPairing
from traces.diff.values import Value
from traces.schema.model import TensorRecord
from traces.schema.verdict import Kind

_INDEX = re.compile(r"\[\d+\]")
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _IndexedTensor:
    """A record with its place in the list of its side."""

    record: TensorRecord
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorComparison:
    """Compares the tensors of two sides."""

    base: RecordingIndex
    head: RecordingIndex
    pairing: CallPairing

    def differences(self) -> list[Difference]:
        """Return all differences of all buffers."""
        old, new = self._keyed(self.base), self._keyed(self.head, translate=False)
        layers = self._layer_numbers(old, new)
        found = [
            *self._owners(old, new),
            *self._lists(old, new),
            *self._buffers(old, new),
            *chain.from_iterable(
                self._fields(old[key], new[key], layers) for key in old if key in new
            ),
        ]
        return sorted(found, key=lambda one: one.rank)

    def _keyed(self, side: RecordingIndex, *, translate: bool = True) -> dict[_Key, _IndexedTensor]:
        return {
            (self._owner(tensor.owner) if translate else tensor.owner, tensor.name): _IndexedTensor(
                record=tensor, index=index
            )
            for index, tensor in enumerate(side.trace.tensors)
        }

    def _owner(self, owner: str) -> str:
        """Translate an owner of the base, which may be called after a renamed class."""
        return renamed_owner(owner, self.pairing.references.renamed)

    def _owners(
        self, old: Mapping[_Key, _IndexedTensor], new: Mapping[_Key, _IndexedTensor]
    ) -> Iterator[Difference]:
        """Yield owners that lost or got all their buffers, an owner that was renamed once."""
        gone, came = (
            _owners(old).keys() - _owners(new).keys(),
            _owners(new).keys() - _owners(old).keys(),
        )
        followers = {self._object_in_head(_owners(old)[owner][0]): owner for owner in gone}
        for owner in sorted(gone):
            yield self._pool(Kind.POOL_REMOVED, owner, _owners(old)[owner])
        for owner in sorted(came):
            buffers = _owners(new)[owner]
            if buffers[0].record.object not in followers:
                yield self._pool(Kind.POOL_ADDED, owner, buffers)

    def _object_in_head(self, found: _IndexedTensor) -> str:
        return self.pairing.references.in_head(found.record.object)

    def _pool(self, kind: Kind, owner: str, buffers: Sequence[_IndexedTensor]) -> Difference:
        # Pools get their names when all is assembled: where one side failed, names may differ.
        failed = self.base.failed or self.head.failed
        size = sum(found.record.bytes for found in buffers)
        described = {"buffers": len(buffers), "bytes": size}
        removed = kind is Kind.POOL_REMOVED
        return self._made(
            kind,
            owner,
            buffers[0] if removed else None,
            None if removed else buffers[0],
            (described, None) if removed else (None, described),
            truncated=failed,
        )

    def _lists(
        self, old: Mapping[_Key, _IndexedTensor], new: Mapping[_Key, _IndexedTensor]
    ) -> Iterator[Difference]:
        """Yield lists of buffers, one a layer, that are longer or shorter than before."""
        before, after = _list_lengths(old), _list_lengths(new)
        shared = _owners(old).keys() & _owners(new).keys()
        for owner, name in sorted({*before, *after}):
            lengths = before[owner, name], after[owner, name]
            if owner in shared and lengths[0] != lengths[1]:
                yield self._made(
                    Kind.LAYERS_CHANGED,
                    f"{owner}.{name}",
                    next((one for key, one in old.items() if _starred(key) == (owner, name)), None),
                    next((one for key, one in new.items() if _starred(key) == (owner, name)), None),
                    lengths,
                )

    def _buffers(
        self, old: Mapping[_Key, _IndexedTensor], new: Mapping[_Key, _IndexedTensor]
    ) -> Iterator[Difference]:
        """Yield single buffers that only one side has, of owners that both sides have."""
        shared = _owners(old).keys() & _owners(new).keys()
        for owner, name in chain(
            (key for key in old if key not in new), (key for key in new if key not in old)
        ):
            if owner in shared and not _INDEX.search(name):
                before, after = old.get((owner, name)), new.get((owner, name))
                yield self._made(
                    Kind.SHAPE_CHANGED,
                    f"{owner}.{name}",
                    before,
                    after,
                    tuple(found and list(found.record.shape) for found in (before, after)),
                )

    def _fields(
        self, old: _IndexedTensor, new: _IndexedTensor, layers: set[tuple[int, int]]
    ) -> Iterator[Difference]:
        before, after = old.record, new.record
        place = f"{after.owner}.{after.name}"
        kind = Kind.LAYERS_CHANGED if _layer_axis(before, after, layers) else Kind.SHAPE_CHANGED
        for changed, where, values in (
            (kind, place, (list(before.shape), list(after.shape))),
            (Kind.DTYPE_CHANGED, place, (before.dtype, after.dtype)),
            (Kind.STRIDE_CHANGED, place, (list(before.stride), list(after.stride))),
            (Kind.BYTES_CHANGED, place, (before.bytes, after.bytes)),
            (Kind.STRIDE_CHANGED, f"{place}.layout", (before.layout, after.layout)),
            (Kind.STRIDE_CHANGED, f"{place}.pinned", (before.pinned, after.pinned)),
            (Kind.STRIDE_CHANGED, f"{place}.aliases", (self._owner(before.aliases), after.aliases)),
        ):
            if values[0] != values[1]:
                yield self._made(changed, where, old, new, values)

    def _made(
        self,
        kind: Kind,
        where: str,
        old: _IndexedTensor | None,
        new: _IndexedTensor | None,
        values: tuple[Value, ...],
        *,
        truncated: bool = False,
    ) -> Difference:
        known = old or new
        assert known is not None
        maker = None if old is None else self.base.makers.get(old.record.object)
        head_maker = None if new is None else self.head.makers.get(new.record.object)
        return make_difference(
            kind,
            where,
            before=values[0],
            after=values[1],
            layer=DiffLayer.TENSORS,
            position=known.index,
            pattern=_INDEX.sub("[*]", where),
            pool=pool_of(known.record.owner),
            base_call="" if maker is None else maker.call,
            head_call="" if head_maker is None else head_maker.call,
            truncated=truncated
            or (new is None and self.head.failed)
            or (old is None and self.base.failed),
        )

    def _layer_numbers(
        self, old: Mapping[_Key, _IndexedTensor], new: Mapping[_Key, _IndexedTensor]
    ) -> set[tuple[int, int]]:
        """Return the numbers of layers that changed, before and after."""
        before, after = _list_lengths(old), _list_lengths(new)
        numbers = {(before[key], after[key]) for key in before if key in after}
        for pair in self.pairing.pairs:
            old_values, new_values = argument_values(pair.base), argument_values(pair.head)
            for name in old_values.keys() & new_values.keys():
                values = old_values[name], new_values[name]
                if "layer_num" in name and all(isinstance(value, int) for value in values):
                    numbers.add(values)
        return {(one, other) for one, other in numbers if one != other}


def pool_of(owner: str) -> str:
    """Return the pool of an owner: ``KV`` of ``host.KV``."""
    return owner.partition(".")[2]


def renamed_owner(owner: str, renamed: Mapping[str, str]) -> str:
    """Translate an owner of the base that is called after its class, ``device.SWAKVPool``."""
    side, dot, rest = owner.partition(".")
    name = re.split(r"[.#]", rest, maxsplit=1)[0]
    return side + dot + renamed.get(name, name) + rest[len(name) :]


def _owners(keyed: Mapping[_Key, _IndexedTensor]) -> dict[str, list[_IndexedTensor]]:
    owners: dict[str, list[_IndexedTensor]] = {}
    for (owner, _), found in keyed.items():
        owners.setdefault(owner, []).append(found)
    return owners


def _list_lengths(keyed: Mapping[_Key, _IndexedTensor]) -> Counter[_Key]:
    return Counter(_starred(key) for key in keyed if _INDEX.search(key[1]))


def _starred(key: _Key) -> _Key:
    return key[0], _INDEX.sub("[*]", key[1])


def _layer_axis(before: TensorRecord, after: TensorRecord, layers: set[tuple[int, int]]) -> bool:
    """Tell whether exactly one axis differs, by a number of layers."""
    if len(before.shape) != len(after.shape):
        return False
    axes = zip(before.shape, after.shape, strict=True)
    differing = [axis for axis in axes if axis[0] != axis[1]]
    return len(differing) == 1 and differing[0] in layers
