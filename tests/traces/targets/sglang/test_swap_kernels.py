"""Models of the kernels that fill a request's buffer: what they copy, and which slots they give."""

import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace

import pytest
import torch

from traces.targets.sglang.swap_kernels import SwapKernels

# Four slots of one request, and the slot of its latest token; the buffer has its first tokens.
BUFFER, LOCS = 4, [10, 11, 12, 13, 14]


@pytest.fixture
def kernels(monkeypatch):
    copies = []

    def copy(*, src, dst, src_indices, dst_indices, item_size):
        copies.append((src, dst, src_indices.tolist(), dst_indices.tolist(), item_size))

    transfers = ModuleType("sgl_kernel.kvcacheio")
    transfers.transfer_kv_per_layer_mla = copy
    monkeypatch.setitem(sys.modules, "sgl_kernel", ModuleType("sgl_kernel"))
    monkeypatch.setitem(sys.modules, "sgl_kernel.kvcacheio", transfers)
    device = SimpleNamespace(pause_interception=nullcontext)
    return SimpleNamespace(models=SwapKernels(device), copies=copies)


@pytest.fixture
def given():
    """A request in row 1 of two whose tokens are at 100 and following on the host."""
    return {
        "device_buffer_tokens": torch.tensor([[-1] * 5, [0, 1, 2, 3, -1]]),
        "device_buffer_locs": torch.tensor([[-1] * 5, LOCS]),
        "host_cache_locs": torch.tensor([[-1] * 20, list(range(100, 120))]),
        "top_k_device_locs": torch.full((1, 3), -9, dtype=torch.int32),
        "req_pool_indices": torch.tensor([1]),
        "seq_lens": torch.tensor([20]),
        "lru_slots": torch.tensor([[0] * 4, [2, 0, 1, 3]], dtype=torch.int16),
        "hot_buffer_size": BUFFER,
        "item_size_bytes": 656,
        "num_real_reqs": torch.tensor([1]),
        "host_cache": "host",
        "device_buffer": "device",
    }


def test_missing_tokens_take_the_slots_that_were_used_longest_ago(kernels, given):
    kernels.models.load(top_k_tokens=torch.tensor([[7, 0, 19]]), **given)

    assert kernels.copies == [("host", "device", [107], [12], 656)]
    assert given["top_k_device_locs"].tolist() == [[12, 10, 14]]
    assert given["device_buffer_tokens"][1].tolist() == [0, 1, 7, 3, -1]
    assert given["lru_slots"][1].tolist() == [1, 3, 0, 2]


def test_tokens_in_the_buffer_are_not_copied(kernels, given):
    kernels.models.load(top_k_tokens=torch.tensor([[3, 0, -1]]), **given)

    assert kernels.copies == [("host", "device", [], [], 656)]
    assert given["top_k_device_locs"].tolist() == [[13, 10, -1]]


def test_a_request_that_fits_has_its_tokens_in_order(kernels, given):
    given["seq_lens"] = torch.tensor([3])
    kernels.models.load(top_k_tokens=torch.tensor([[2, 1, -1]]), **given)

    assert given["top_k_device_locs"].tolist() == [[12, 11, -1]]
    assert given["lru_slots"][1].tolist() == [2, 0, 1, 3]


def test_a_plan_is_carried_out_again_for_another_layer(kernels, given):
    plan = {
        "miss_src": torch.zeros(1, 3, dtype=torch.int64),
        "miss_dst": torch.zeros(1, 3, dtype=torch.int32),
        "miss_count": torch.zeros(1, dtype=torch.int32),
    }
    kernels.models.load(top_k_tokens=torch.tensor([[7, 8, 19]]), **given, **plan)
    other = {"host_cache": "other host", "device_buffer": "other device"}
    kernels.models.copy_planned(
        **plan, **other, num_real_reqs=torch.tensor([1]), item_size_bytes=656
    )

    assert kernels.copies == [
        ("host", "device", [107, 108], [12, 10], 656),
        ("other host", "other device", [107, 108], [12, 10], 656),
    ]


def test_blocks_stand_for_their_tokens_and_keys_and_values_are_copied(kernels, given):
    del given["host_cache"], given["device_buffer"]
    planes = {
        "host_cache_k": "keys",
        "host_cache_v": "values",
        "device_buffer_k": "device keys",
        "device_buffer_v": "device values",
    }
    given["top_k_device_locs"] = torch.full((1, 4), -9, dtype=torch.int32)
    blocks = torch.tensor([[0, 4]])
    kernels.models.load(top_k_blocks=blocks, sparse_block_size=2, **given, **planes)

    assert kernels.copies == [
        ("keys", "device keys", [108, 109], [12, 13], 656),
        ("values", "device values", [108, 109], [12, 13], 656),
    ]
    assert given["top_k_device_locs"].tolist() == [[10, 11, 12, 13]]


def test_kernels_are_replaced_by_the_names_that_a_module_has(kernels):
    module = ModuleType("coordinator")
    module.load_cache_to_device_buffer_mla = before = object()
    with kernels.models.bound(module):
        assert module.load_cache_to_device_buffer_mla == kernels.models.load
        assert not hasattr(module, "copy_cache_planned_mla")
    assert module.load_cache_to_device_buffer_mla is before
