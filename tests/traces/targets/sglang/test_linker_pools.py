"""Groups of device pools for a linker: found by their signatures, asked as linkers do."""

from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace

import pytest
import torch

from traces.targets.sglang import linker_pools
from traces.targets.sglang.linker_pools import LinkerPools
from traces.targets.sglang.signature_caller import SignatureCaller


class Name(Enum):
    KV = "kv"


class Policy(Enum):
    ALL = "all"
    TRAILING = "trailing"


@dataclass
class Transfer:
    name: str
    device_indices: torch.Tensor
    keys: list
    hit_policy: Policy = Policy.ALL


class Pool:
    __module__ = "sglang.pools"

    def __init__(self):
        self.page_size = 2
        self.rows = torch.zeros(16, 8, dtype=torch.uint8)


class DeviceEntry:
    """One layer of two in one buffer; rows of 8 bytes, pages of 2 rows."""

    def __init__(self, *, device_pool):
        self.name = Name.KV
        self.page_size = 2
        self._rows = device_pool.rows

    def get_page_buffer_meta(self, slots):
        return [self._rows.data_ptr() + 8 * row for row in self.prepare_locations(slots)], [16, 16]

    def prepare_locations(self, slots):
        assert slots.dtype == torch.int32
        return slots[::2].tolist()

    def get_prepared_layer_range_meta(self, locations, layer):
        if layer:
            return None
        pointers = [[self._rows.data_ptr() + 8 * row] for row in locations]
        return pointers, [[16], [16]], [[5], [7]]


class Group:
    """A group of one entry that remembers what it was asked."""

    def __init__(self, *, entries):
        self.entries = entries
        self.sources = {"kv": "kv", "index": "kv", "swa": "swa"}
        self.page_size, self.num_layers = 2, 2
        self.asked = []

    def resolve_transfers(self, transfers, **options):
        self.asked.append(([one.name for one in transfers], options))
        assert all(one.hit_policy is Policy.TRAILING for one in transfers)


@pytest.fixture
def linker(monkeypatch):
    def resolve(*, kvcache, page_size, params, components):
        assert (page_size, components) == (2, {"FULL"})
        return Group(entries=[DeviceEntry(device_pool=kvcache)])

    parts = {"PoolTransfer": Transfer, "PoolHitPolicy": Policy}
    monkeypatch.setattr(linker_pools, "group_function", lambda: resolve)
    monkeypatch.setattr(linker_pools, "find_class", parts.__getitem__)
    entry_call = SimpleNamespace(
        device_pools=SimpleNamespace(kvcache=Pool(), req_to_token_pool=None),
        params=lambda: SimpleNamespace(tree_components=("FULL",)),
        page_size=2,
        caller=SignatureCaller(),
        drafts=(),
        draft_states=(),
    )
    return LinkerPools(entry_call, name="linker.model")


def test_the_memory_of_pages_and_layers_is_told_by_buffer_and_offset(linker):
    pages, layers = linker.answers()
    assert (pages.holder, pages.method) == ("linker.model.kv", "get_page_buffer_meta")
    found = [(one.buffer, one.first, one.bytes) for one in pages.views]
    assert found == [("kv_cache.rows", 48, 16), ("kv_cache.rows", 16, 16)]
    assert [(one.buffer, one.first, one.bytes) for one in layers.views] == found
    assert layers.values == [[2, [[5], [7]]], [0]]


def test_transfers_of_all_pools_are_resolved_and_those_of_a_part(linker):
    list(linker.answers())
    group = linker._group
    assert group.asked == [
        (["kv", "swa"], {}),
        (["swa"], {"allow_partial": True, "allow_missing_kv": True}),
    ]


def test_the_function_and_the_classes_are_found_by_their_parameters(monkeypatch):
    def resolve_pools(*, kvcache, page_size, params, components): ...

    def resolve_others(*, kvcache): ...

    for one in (resolve_pools, resolve_others, DeviceEntry, Group):
        monkeypatch.setattr(one, "__module__", "sglang.linker")
    module = SimpleNamespace(resolve_others=resolve_others, resolve_pools=resolve_pools)
    release = SimpleNamespace(modules=(module,), classes=(Pool, DeviceEntry, Group))
    monkeypatch.setattr(linker_pools, "installed_release", lambda: release)
    linker_pools.group_function.cache_clear()
    probes = [(one.callee, one.role, one.part) for one in linker_pools.linker_probes()]
    assert probes == [
        ("resolve_pools", "builder", ""),
        ("DeviceEntry", "constructor", "entry"),
        ("Group", "constructor", "group"),
        ("Group.resolve_transfers", "operation", "group"),
    ]
    release.modules = ()
    linker_pools.group_function.cache_clear()
    assert list(linker_pools.linker_probes()) == []
    linker_pools.group_function.cache_clear()
