"""A device pool of keys and values for benchmarks that measure everything but its bytes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assembler.device.base import Device
    from assembler.device_pools.mha import MHATokenToKVPool


def small_mha_pool(device: "Device", *, size: int, page_size: int) -> "MHATokenToKVPool":
    """Return a pool of one layer, whose rows are 16 bytes of keys and as many of values."""
    import torch

    from assembler.device_pools.mha import MHATokenToKVPool

    return MHATokenToKVPool(
        size=size,
        page_size=page_size,
        dtype=torch.bfloat16,
        head_num=1,
        head_dim=8,
        v_head_dim=8,
        layer_num=1,
        device=device,
        start_layer=0,
        end_layer=0,
    )
