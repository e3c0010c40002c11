"""Published dimensions of the models that scenarios of every target are built from.

Row dimensions (heads, ranks, state shapes) are the models' own; only layer counts are cut. State
shapes are those of tensor-parallel rank 0 of 8, as such models are served. Sources: transformers
5.23 configuration classes and released checkpoints' configurations; per-token rows are derived in
the pools, never stated here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """Attention rows of a model.

    Attributes:
        dtype: torch name of the KV dtype.
        kv_heads: KV heads before tensor parallelism; 0 for MLA.
        head_dim: width of a K head (MLA: 0).
        v_head_dim: width of a V head (MLA: 0).
        kv_lora_rank: latent width (MHA: 0).
        qk_rope_head_dim: rope width (MHA: 0).
    """

    dtype: str
    kv_heads: int = 0
    head_dim: int = 0
    v_head_dim: int = 0
    kv_lora_rank: int = 0
    qk_rope_head_dim: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Published dimensions of one model, cut to a few layers.

    Attributes:
        full_layers: stage-local ids of the full attention layers.
        swa_layers: stage-local ids of the sliding-window layers.
        state_layers: stage-local ids of the layers with per-request state.
        conv_shapes: shapes of the convolution states of one layer, bf16.
        temporal_shape: shape of the recurrent state of one layer, float32; empty without state.
        index_head_dim: width of an index key; 0 without an index.
        index_layers: stage-local ids of the layers with index keys of their own.
        compress_ratios: one for each layer, for models that compress rows; empty otherwise.
        has_side_states: whether a slot of state has more with it, which is registered at run time.
    """

    attention: AttentionShape
    full_layers: tuple[int, ...]
    swa_layers: tuple[int, ...] = ()
    state_layers: tuple[int, ...] = ()
    conv_shapes: tuple[tuple[int, ...], ...] = ()
    temporal_shape: tuple[int, ...] = ()
    index_head_dim: int = 0
    index_layers: tuple[int, ...] = ()
    compress_ratios: tuple[int, ...] = ()
    has_side_states: bool = False

    @property
    def layer_span(self) -> int:
        """Number of layer ids a stage covers, layers without a cache included."""
        return max(self.full_layers + self.swa_layers + self.state_layers) + 1


def mha_rows(
    kv_heads: int, head_dim: int, v_head_dim: int, dtype: str = "bfloat16"
) -> AttentionShape:
    """Return the rows of multi-head or grouped-query attention."""
    return AttentionShape(kv_heads=kv_heads, head_dim=head_dim, v_head_dim=v_head_dim, dtype=dtype)


def mla_rows(dtype: str, *, rope_dim: int = 64) -> AttentionShape:
    """Return the rows of latent attention: a latent of 512 and a rope part."""
    return AttentionShape(kv_lora_rank=512, qk_rope_head_dim=rope_dim, dtype=dtype)


def _dense(attention: AttentionShape, layer_num: int, *, index_head_dim: int = 0) -> ModelShape:
    return ModelShape(
        attention=attention,
        full_layers=tuple(range(layer_num)),
        index_head_dim=index_head_dim,
    )


def _linear(
    attention: AttentionShape,
    layers: tuple[tuple[int, ...], tuple[int, ...]],
    *,
    conv: tuple[int, ...],
    temporal: tuple[int, ...],
) -> ModelShape:
    """Return a hybrid of attention and linear attention; ``layers`` are full and state layers."""
    full, state = layers
    return ModelShape(
        attention=attention,
        full_layers=full,
        state_layers=state,
        conv_shapes=(conv,),
        temporal_shape=temporal,
    )


SHARED_MODELS: dict[str, ModelShape] = {
    # 8 KV heads of 128, K and V alike.
    "llama3_8b": _dense(mha_rows(8, 128, 128), 4),
    # Same row as Llama, another depth: a stage boundary in the middle of a layer list.
    "qwen3_8b": _dense(mha_rows(8, 128, 128), 3),
    # DeepSeek-V3 without weight absorption: K heads of 128 + 64, V heads of 128.
    "dsv3_mha": _dense(mha_rows(8, 192, 128), 3),
    # Latent 512 + rope 64 in bf16: 1152 bytes a row.
    "dsv3": _dense(mla_rows("bfloat16"), 3),
    # The packed fp8 row (656 bytes) without index keys: the width is not what the model says.
    "dsv32_kv_fp8": _dense(mla_rows("float8_e4m3fn"), 3),
    # 656-byte rows and 132 bytes of index keys a token.
    "dsv32_fp8": _dense(mla_rows("float8_e4m3fn"), 3, index_head_dim=128),
    # The control: 576 elements a row, a dropped width changes nothing.
    "dsv32_bf16": _dense(mla_rows("bfloat16"), 3, index_head_dim=128),
    # Even layers slide (window 128), 8 KV heads of 64.
    "gpt_oss": ModelShape(attention=mha_rows(8, 64, 64), full_layers=(1, 3), swa_layers=(0, 2)),
    # Every sixth layer is full, 4 KV heads of 256.
    "gemma3": ModelShape(
        attention=mha_rows(4, 256, 256),
        full_layers=(5,),
        swa_layers=(0, 1, 2, 3, 4),
    ),
    # Every fourth layer is full, 2 KV heads of 256; 32 value heads over 8 ranks.
    "qwen3_next": _linear(
        mha_rows(2, 256, 256), ((3,), (0, 1, 2)), conv=(1024, 3), temporal=(4, 128, 128)
    ),
    # MEMEM*EM: ids with holes where the MLP layers are; 64 heads over 8 ranks.
    "nemotron_h": _linear(
        mha_rows(2, 128, 128), ((5,), (0, 2, 4, 7)), conv=(768, 3), temporal=(8, 64, 128)
    ),
    # MLA anchor over rank-sharded state, convolution transposed; 32 heads over 8 ranks.
    "kimi_linear": _linear(
        mla_rows("bfloat16"), ((3,), (0, 1, 2)), conv=(3, 1536), temporal=(4, 128, 128)
    ),
    # Every layer is attention and state at once; 128 heads of 8 over 8 ranks.
    "falcon_h1": _linear(
        mha_rows(8, 128, 128), ((0, 1), (0, 1)), conv=(192, 3), temporal=(16, 8, 256)
    ),
}
