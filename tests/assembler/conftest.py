"""Small pools with real bytes, on the embedded device or on a GPU."""

from dataclasses import dataclass

import pytest
import torch

from assembler.device import Device, get_device
from assembler.device_pools.mamba import MambaPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.device_pools.swa import SWAKVPool
from assembler.host_pools.indexer import NSAIndexerPoolHost
from assembler.host_pools.mamba import MambaPoolHost
from assembler.host_pools.mha import MHATokenToKVPoolHost
from assembler.host_pools.mla import MLATokenToKVPoolHost
from assembler.transfer.kernel import KernelRowMover
from assembler.transfer.mover import RowCopy, SetMover
from assembler.transfer.slot_pairs import SlotPairs
from tests.assembler.delayed_device import DelayedDevice
from traces.targets.common.runtime import open_device


@dataclass(frozen=True)
class Pools:
    """Builds pools of 3 layers and, if not said otherwise, 24 slots in pages of 4."""

    device: Device

    def mha(self, *, v_head_dim=8, dtype=torch.bfloat16, size=24, start_layer=0):
        return MHATokenToKVPool(
            size=size,
            page_size=4,
            dtype=dtype,
            head_num=2,
            head_dim=8,
            v_head_dim=v_head_dim,
            layer_num=3,
            device=self.device,
            start_layer=start_layer,
            end_layer=start_layer + 2,
        )

    def mla(self, *, dtype=torch.bfloat16, use_nsa=False, override_kv_cache_dim=None):
        return MLATokenToKVPool(
            size=24,
            page_size=4,
            dtype=dtype,
            kv_lora_rank=512,
            qk_rope_head_dim=64,
            layer_num=3,
            device=self.device,
            start_layer=0,
            end_layer=2,
            use_nsa=use_nsa,
            override_kv_cache_dim=override_kv_cache_dim,
        )

    def nsa(
        self, *, dtype=torch.float8_e4m3fn, kv_cache_dim=656, size=24, page_size=4, start_layer=0
    ):
        return NSATokenToKVPool(
            size=size,
            page_size=page_size,
            dtype=dtype,
            kv_lora_rank=512,
            qk_rope_head_dim=64,
            layer_num=3,
            device=self.device,
            start_layer=start_layer,
            end_layer=start_layer + 2,
            index_head_dim=128,
            kv_cache_dim=kv_cache_dim,
            index_buf_size=size,
        )

    def swa(self, *, size_swa=12):
        return SWAKVPool(
            size=24,
            size_swa=size_swa,
            page_size=4,
            dtype=torch.bfloat16,
            head_num=2,
            head_dim=8,
            v_head_dim=8,
            swa_head_num=4,
            swa_head_dim=16,
            swa_v_head_dim=24,
            swa_attention_layer_ids=[0, 2, 4],
            full_attention_layer_ids=[1, 3],
            device=self.device,
        )

    def mamba(self):
        return MambaPool(
            size=24,
            conv_shapes=((8, 3), (2, 4)),
            temporal_shape=(2, 4, 8),
            conv_dtype=torch.bfloat16,
            temporal_dtype=torch.float32,
            mamba_layer_ids=[0, 2, 5],
            device=self.device,
        )

    def mha_host(self, device_pool, *, layout="layer_first", ratio=2.0, page_size=4, pin=True):
        return MHATokenToKVPoolHost(
            device_pool=device_pool,
            host_to_device_ratio=ratio,
            host_size=0,
            page_size=page_size,
            layout=layout,
            pin_memory=pin,
            device=self.device,
            allocator_type=None,
        )

    def mla_host(
        self, device_pool, *, layout="layer_first", override=None, ratio=2.0, size_gb=0, page_size=4
    ):
        return MLATokenToKVPoolHost(
            device_pool=device_pool,
            host_to_device_ratio=ratio,
            host_size=size_gb,
            page_size=page_size,
            layout=layout,
            pin_memory=True,
            device=self.device,
            allocator_type=None,
            override_kv_cache_dim=override,
        )

    def indexer_host(self, device_pool, *, layout="layer_first"):
        anchor = self.mla_host(device_pool, layout=layout, override=device_pool.kv_cache_dim)
        return NSAIndexerPoolHost(
            device_pool=device_pool,
            anchor_host=anchor,
            layout=layout,
            pin_memory=True,
            device=self.device,
            allocator_type=None,
        )

    def mamba_host(self, device_pool, *, layout="layer_first"):
        return MambaPoolHost(
            device_pool=device_pool,
            host_to_device_ratio=2.0,
            host_size=0,
            layout=layout,
            pin_memory=True,
            device=self.device,
            allocator_type=None,
        )


@pytest.fixture
def cpu() -> Device:
    return get_device("cpu")


@pytest.fixture
def delayed() -> DelayedDevice:
    return DelayedDevice()


@pytest.fixture
def pools(cpu) -> Pools:
    return Pools(cpu)


@pytest.fixture(
    params=[
        "cpu",
        "sim",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ]
)
def pools_anywhere(request) -> Pools:
    return Pools(open_device(request.param))


class PlainSetMover(SetMover):
    """Copies sets with the portable mover, and remembers direction and layers of each."""

    def __init__(self):
        self.taken = []

    def copy_set(self, accelerator, row_set, slots, direction):
        self.taken.append((direction, [rows.layer for rows in row_set.rows]))
        mover = KernelRowMover()
        for rows in row_set.rows:
            pairs = SlotPairs(
                subject=rows.subject,
                row_map=rows.row_map,
                host_indices=slots.host_indices,
                device_indices=slots.device_indices,
            )
            mover.run(RowCopy(direction=direction, slots=pairs, host=rows.host, device=rows.device))


@pytest.fixture
def set_mover():
    return PlainSetMover()
