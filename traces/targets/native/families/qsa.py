"""Qwen sparse attention: keys and values, and an index key for every four tokens."""

from typing import TYPE_CHECKING

from traces.targets.common.geometry import RankGeometry
from traces.targets.common.models import ModelShape, PoolFamily, mha_rows
from traces.targets.native.family import FamilyEntry, FamilyTraits, TokenPoolArguments

if TYPE_CHECKING:
    from assembler.device_pools.base import TokenKVPool

COMPRESS_RATIO = 4


def make_pool(geometry: RankGeometry, shared: TokenPoolArguments) -> "TokenKVPool":
    """Return the device pool; the index has one head on every rank."""
    # Imported late: listing scenarios needs no torch.
    import torch

    from assembler.device_pools.qsa import QSATokenToKVPool

    attention = geometry.model.attention
    return QSATokenToKVPool(
        head_num=geometry.kv_heads,
        head_dim=attention.head_dim,
        v_head_dim=attention.v_head_dim,
        index_head_dim=geometry.model.index_head_dim,
        compress_ratio=COMPRESS_RATIO,
        index_dtype=torch.bfloat16,
        **shared,
    )


ENTRY = FamilyEntry(
    model_name="qwen4_qsa",
    model=ModelShape(
        family=PoolFamily.QSA,
        attention=mha_rows(2, 256, 256),
        full_layers=(0, 1),
        index_head_dim=128,
    ),
    traits=FamilyTraits(draft=PoolFamily.MHA, page_sizes=(16, 64)),
    rows=(
        *(
            ("build_shared_anchor_stack", *axes)
            for axes in (
                ("page_first", "kernel", "write_back", 16, "gb", "file", "tp8cp2pp3", False),
                ("page_first_direct", "direct", "write_through", 64, "ratio", None, "tp1", True),
            )
        ),
        (
            *("attach_hybrid_pool_to_unified_cache", "layer_first", "kernel"),
            *("write_through_selective", 64, "gb", None, "tp8cp2pp3", False),
        ),
        (
            *("attach_hybrid_nsa_pool_to_hiradix_cache", "layer_first", "direct"),
            *("write_back", 16, "ratio", "file", "tp8cp2pp3", True),
        ),
        (
            *("HiRadixCache.init_hicache", "page_first", "direct"),
            *("write_through", 16, "gb", "file", "tp8cp2pp3", False),
        ),
    ),
    make_pool=make_pool,
)
