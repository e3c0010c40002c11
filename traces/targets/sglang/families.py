"""Pool families of the sglang target: the pools of a model, and the axis values they can have.

Nothing here imports torch or sglang.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from traces.targets.common.scenario import IO_BACKENDS, LAYOUTS, SIZINGS

Constructor = Literal["plain", "sliding", "linear", "minimax", "deepseek_v4"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SglangFamily:
    """Models whose device pools are built alike.

    Attributes:
        models: names of the models.
        pool_class: class of the pool that attention reads from.
        constructor: set of arguments that its constructor gets.
        inner_pools: pools that hold rows, by the name of their host pool: attributes of the outer
            pool, or None for itself.
        is_windowed: whether some layers keep a window of tokens.
        spreads_pages: whether scenarios spread its pages over decode ranks; only the host pool of
            latent rows divides its slots.
        packs_fp8: whether a latent row in float8 holds its scales and its rope part too.
        compresses_index: whether an index key serves several tokens.
        architecture: name of the model's class in its published configuration.
        kv_cache_dtype: server's name of the KV dtype; empty where it follows from the rows.
        stack_builder: builder without which a release refuses these pools; empty for none.
        layouts, io_backends, page_sizes, sizings, groups: axis values that the pools can have;
            groups None for all that the model can have.
        has_draft: whether scenarios of the covering array have drafts.
        is_served: whether servers make such pools. Others vary what a stack is handed, so that two
            releases can be compared; an audit of one release blames it for none of them.
    """

    models: tuple[str, ...]
    pool_class: str
    constructor: Constructor = "plain"
    inner_pools: Mapping[str, str | None] = field(default_factory=lambda: {"KV": None})
    is_windowed: bool = False
    packs_fp8: bool = False
    spreads_pages: bool = False
    compresses_index: bool = False
    architecture: str = "LlamaForCausalLM"
    kv_cache_dtype: str = ""
    stack_builder: str = ""
    layouts: tuple[str, ...] = LAYOUTS[:3]
    io_backends: tuple[str, ...] = IO_BACKENDS
    page_sizes: tuple[int, ...] = (16, 64, 1)
    sizings: tuple[str, ...] = SIZINGS
    groups: tuple[str, ...] | None = None
    has_draft: bool = False
    is_served: bool = True


_WINDOWS = {"KV": "full_kv_pool", "SWA": "swa_kv_pool"}

FAMILIES: dict[str, SglangFamily] = {
    "mha": SglangFamily(
        models=("llama3_8b", "llama3_8b_fp8", "qwen3_8b", "dsv3_mha"),
        pool_class="MHATokenToKVPool",
        layouts=LAYOUTS,
        has_draft=True,
    ),
    "mla": SglangFamily(
        models=("dsv3",), pool_class="MLATokenToKVPool", spreads_pages=True, has_draft=True
    ),
    "packed_mla": SglangFamily(
        models=("dsv32_kv_fp8",),
        pool_class="MLATokenToKVPool",
        packs_fp8=True,
        # Servers hand the width of packed rows to pools with index keys alone.
        is_served=False,
    ),
    "dsa": SglangFamily(
        models=("dsv32_fp8", "dsv32_bf16"),
        pool_class="DSATokenToKVPool",
        architecture="DeepseekV32ForCausalLM",
        inner_pools={"KV": None, "INDEXER": None},
        packs_fp8=True,
        # Index keys come in pages of 64.
        page_sizes=(64,),
        has_draft=True,
    ),
    "swa": SglangFamily(
        models=("gpt_oss", "gemma3"),
        pool_class="SWAKVPool",
        constructor="sliding",
        inner_pools=_WINDOWS,
        is_windowed=True,
        stack_builder="build_hybrid_swa_stack",
        has_draft=True,
    ),
    "linear": SglangFamily(
        models=("qwen3_next", "nemotron_h", "kimi_linear", "falcon_h1", "qwen4_ple"),
        pool_class="HybridLinearKVPool",
        constructor="linear",
        inner_pools={"KV": "full_kv_pool"},
        has_draft=True,
    ),
    "linear_dsa": SglangFamily(
        models=("glm53_flash",),
        pool_class="HybridLinearKVPool",
        architecture="Glm5NextForConditionalGeneration",
        constructor="linear",
        inner_pools={"KV": "full_kv_pool", "INDEXER": "full_kv_pool"},
        packs_fp8=True,
        page_sizes=(64,),
    ),
    "linear_swa": SglangFamily(
        models=("inkling", "inkling_tail"),
        pool_class="SWAKVPool",
        constructor="sliding",
        inner_pools=_WINDOWS,
        is_windowed=True,
        stack_builder="build_hybrid_mamba_swa_stack",
    ),
    "minimax": SglangFamily(
        models=("minimax_m3", "minimax_m3_dense", "minimax_m3_sparse"),
        pool_class="MiniMaxSparseKVPool",
        architecture="MiniMaxM3SparseForCausalLM",
        constructor="minimax",
        inner_pools={"KV": "main_pool", "INDEXER": "index_k_pool"},
        stack_builder="build_minimax_sparse_hicache_stack",
        # Stages of a sparse model are refused.
        groups=("tp1", "tp8cp2"),
    ),
    "qsa": SglangFamily(
        models=("qwen4_qsa",),
        pool_class="QSATokenToKVPool",
        architecture="Qwen4ExpForConditionalGeneration",
        compresses_index=True,
        constructor="linear",
        inner_pools={"KV": "full_kv_pool", "INDEXER": None},
        page_sizes=(16, 64),
    ),
    "deepseek_v4": SglangFamily(
        models=("dsv4_flash", "dsv4_flash_odd", "dsv41"),
        pool_class="DeepSeekV4TokenToKVPool",
        architecture="DeepseekV4ForCausalLM",
        constructor="deepseek_v4",
        inner_pools={
            "SWA": "swa_kv_pool",
            "DEEPSEEK_V4_C4": "c4_kv_pool",
            "DEEPSEEK_V4_C4_INDEXER": "c4_indexer_kv_pool",
            "DEEPSEEK_V4_C128": "c128_kv_pool",
        },
        is_windowed=True,
        stack_builder="build_deepseek_v4_hicache_stack",
        page_sizes=(256,),
        # The builder itself refuses the other one, with a message.
        sizings=("ratio",),
    ),
    "mxfp8": SglangFamily(
        models=("llama3_mxfp8",),
        pool_class="MHATokenToKVPoolMXFP8",
        kv_cache_dtype="mxfp8",
        # Scales are interleaved in pages of 128, and moved by kernels only.
        layouts=("page_first",),
        io_backends=("kernel",),
        page_sizes=(128,),
        sizings=("ratio",),
        # They need no more than one shape.
        groups=("tp8cp2pp3",),
    ),
}

FAMILY_OF: dict[str, SglangFamily] = {
    model: family for family in FAMILIES.values() for model in family.models
}
"""Families by model."""
