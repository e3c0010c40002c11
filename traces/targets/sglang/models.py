"""Models of the sglang target: the shared ones and those of families that only sglang has.

Models of sglang alone stay here: adding them to the shared ones would change the covering array of
the native target.
"""

from dataclasses import replace

from traces.targets.common.models import (
    SHARED_MODELS,
    AttentionShape,
    ModelShape,
    mha_rows,
    mla_rows,
)


def _compressed(*ratios: int) -> ModelShape:
    return ModelShape(
        attention=AttentionShape(head_dim=448, qk_rope_head_dim=64, dtype="float8_e4m3fn"),
        full_layers=tuple(range(len(ratios))),
        index_head_dim=128,
        compress_ratios=ratios,
    )


MODELS: dict[str, ModelShape] = {
    **SHARED_MODELS,
    # GLM-5.3-Flash: three of four layers keep KDA state (64 heads of 128), the fourth is sparse
    # over a latent without rope; 528-byte rows.
    "glm53_flash": ModelShape(
        attention=mla_rows("float8_e4m3fn", rope_dim=0),
        full_layers=(3,),
        state_layers=(0, 1, 2),
        conv_shapes=((3, 3072),),
        temporal_shape=(8, 128, 128),
        index_head_dim=128,
    ),
    # Inkling: every layer has convolution state; sliding and full layers alternate.
    "inkling": ModelShape(
        attention=mha_rows(4, 128, 128),
        full_layers=(1, 3),
        swa_layers=(0, 2),
        state_layers=(0, 1, 2, 3),
        conv_shapes=((3, 128), (3, 128), (3, 1536)),
        temporal_shape=(1, 1, 128),
    ),
    # Layers of it of which the last one keeps a state alone, on a stage that ends there.
    "inkling_tail": ModelShape(
        attention=mha_rows(4, 128, 128),
        full_layers=(1,),
        swa_layers=(0,),
        state_layers=(0, 1, 2),
        conv_shapes=((3, 128), (3, 128), (3, 1536)),
        temporal_shape=(1, 1, 128),
    ),
    # MiniMax-M3: the first layer is dense, the others select by index keys of their own.
    "minimax_m3": ModelShape(
        attention=mha_rows(4, 128, 128),
        full_layers=(0, 1, 2),
        index_head_dim=128,
        index_layers=(1, 2),
    ),
    # A stage of it that holds sparse layers only.
    "minimax_m3_sparse": ModelShape(
        attention=mha_rows(4, 128, 128),
        full_layers=(0, 1),
        index_head_dim=128,
        index_layers=(0, 1),
    ),
    # A stage of the same model that holds dense layers only: no index keys at all.
    "minimax_m3_dense": ModelShape(
        attention=mha_rows(4, 128, 128),
        full_layers=(0, 1, 2),
        index_head_dim=128,
    ),
    # Qwen sparse attention beside Gated DeltaNet state; one index key for four tokens.
    "qwen4_qsa": ModelShape(
        attention=mha_rows(2, 256, 256),
        full_layers=(3,),
        state_layers=(0, 1, 2),
        conv_shapes=((1024, 3),),
        temporal_shape=(4, 128, 128),
        index_head_dim=128,
    ),
    # Per-layer embeddings beside Gated DeltaNet: a slot of state has a short convolution of its own
    # and the last tokens with it.
    "qwen4_ple": replace(SHARED_MODELS["qwen3_next"], has_side_states=True),
    # DeepSeek-V4 Flash: 448 fp8 + 64 bf16 a row, two compressed caches and their ring states.
    "dsv4_flash": _compressed(0, 4, 128, 4),
    # Layers of it one further on: the first is compressed, the last by the other ratio.
    "dsv4_flash_odd": _compressed(4, 128, 4, 128),
    # DeepSeek-V4.1: layers of the ratios 1 and 2 read the rows of the layer that writes them.
    "dsv41": _compressed(0, 4, 128, 1, 1, 2, 2),
    # The same model as its namesake, served with fp8 rows.
    "llama3_8b_fp8": ModelShape(
        attention=mha_rows(8, 128, 128, "float8_e4m3fn"),
        full_layers=(0, 1, 2, 3),
    ),
    # MXFP8 KV: one scale byte for 32 elements, kept in buffers of their own. No rank has as many
    # heads as layers.
    "llama3_mxfp8": ModelShape(
        attention=mha_rows(8, 128, 128, "float8_e4m3fn"),
        full_layers=(0, 1, 2),
    ),
}

# Models that are one model, served with another dtype of its rows.
_SERVED_AS = {
    "llama3_8b_fp8": "llama3_8b",
    "dsv32_bf16": "dsv32_fp8",
    "dsv32_kv_fp8": "dsv3",
}


def served_name(model: str) -> str:
    """Return the name under which a model is served, whatever the dtype of its rows."""
    return f"sentinel/{_SERVED_AS.get(model, model)}"
