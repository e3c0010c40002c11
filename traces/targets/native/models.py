"""Published dimensions of the models that the scenarios are built from.

Row dimensions (heads, ranks, state shapes) are the models' own; only layer counts are cut. State
shapes are those of tensor-parallel rank 0 of 8, as such models are served. Sources: transformers
5.23 configuration classes and released checkpoints' configurations; per-token rows are derived in
the pools, never stated here.
"""

from dataclasses import dataclass
from enum import StrEnum


class PoolFamily(StrEnum):
    """Which device pools a model needs."""

    MHA = "mha"
    MLA = "mla"
    PACKED_MLA = "packed_mla"
    NSA = "nsa"
    SWA = "swa"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """Attention rows of a model.

    Attributes:
        kv_heads: KV heads before tensor parallelism; 0 for MLA.
        head_dim: width of a K head (MLA: 0).
        v_head_dim: width of a V head (MLA: 0).
        kv_lora_rank: latent width (MHA: 0).
        qk_rope_head_dim: rope width (MHA: 0).
        dtype: torch name of the KV dtype.
    """

    kv_heads: int
    head_dim: int
    v_head_dim: int
    kv_lora_rank: int
    qk_rope_head_dim: int
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MambaStateShape:
    """Per-request state of one linear-attention layer on one of eight ranks.

    Attributes:
        conv_shape: shape of the convolution state, bf16.
        temporal_shape: shape of the recurrent state, float32.
    """

    conv_shape: tuple[int, ...]
    temporal_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """One model as the scenarios play it.

    Attributes:
        family: pools it needs.
        attention: rows of its (full) attention layers.
        full_layers: stage-local ids of the full attention layers.
        swa_layers: stage-local ids of the sliding-window layers.
        state_layers: stage-local ids of the linear-attention layers.
        state: None unless the family is LINEAR.
    """

    family: PoolFamily
    attention: AttentionShape
    full_layers: tuple[int, ...]
    swa_layers: tuple[int, ...]
    state_layers: tuple[int, ...]
    state: MambaStateShape | None

    @property
    def layer_span(self) -> int:
        """Number of layer ids a stage covers, layers without a cache included."""
        return max(self.full_layers + self.swa_layers + self.state_layers) + 1


def _mha(kv_heads: int, head_dim: int, v_head_dim: int) -> AttentionShape:
    return AttentionShape(
        kv_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=v_head_dim,
        kv_lora_rank=0,
        qk_rope_head_dim=0,
        dtype="bfloat16",
    )


def _mla(dtype: str) -> AttentionShape:
    return AttentionShape(
        kv_heads=0, head_dim=0, v_head_dim=0, kv_lora_rank=512, qk_rope_head_dim=64, dtype=dtype
    )


def _dense(family: PoolFamily, attention: AttentionShape, layer_num: int) -> ModelShape:
    return ModelShape(
        family=family,
        attention=attention,
        full_layers=tuple(range(layer_num)),
        swa_layers=(),
        state_layers=(),
        state=None,
    )


def _sliding(
    attention: AttentionShape, full_layers: tuple[int, ...], swa: tuple[int, ...]
) -> ModelShape:
    return ModelShape(
        family=PoolFamily.SWA,
        attention=attention,
        full_layers=full_layers,
        swa_layers=swa,
        state_layers=(),
        state=None,
    )


def _linear(
    attention: AttentionShape,
    full: tuple[int, ...],
    linear: tuple[int, ...],
    state: MambaStateShape,
) -> ModelShape:
    return ModelShape(
        family=PoolFamily.LINEAR,
        attention=attention,
        full_layers=full,
        swa_layers=(),
        state_layers=linear,
        state=state,
    )


MODELS: dict[str, ModelShape] = {
    # 8 KV heads of 128, K and V alike.
    "llama3_8b": _dense(PoolFamily.MHA, _mha(8, 128, 128), 4),
    # Same row as Llama, another depth: a stage boundary in the middle of a layer list.
    "qwen3_8b": _dense(PoolFamily.MHA, _mha(8, 128, 128), 3),
    # DeepSeek-V3 without weight absorption: K heads of 128 + 64, V heads of 128.
    "dsv3_mha": _dense(PoolFamily.MHA, _mha(8, 192, 128), 3),
    # Latent 512 + rope 64 in bf16: 1152 bytes a row.
    "dsv3": _dense(PoolFamily.MLA, _mla("bfloat16"), 3),
    # The packed fp8 row (656 bytes) without index keys: the width is not what the model says.
    "dsv32_kv_fp8": _dense(PoolFamily.PACKED_MLA, _mla("float8_e4m3fn"), 3),
    # 656-byte rows and 132 bytes of index keys a token.
    "dsv32_fp8": _dense(PoolFamily.NSA, _mla("float8_e4m3fn"), 3),
    # The control: 576 elements a row, a dropped width changes nothing.
    "dsv32_bf16": _dense(PoolFamily.NSA, _mla("bfloat16"), 3),
    # Even layers slide (window 128), 8 KV heads of 64.
    "gpt_oss": _sliding(_mha(8, 64, 64), (1, 3), (0, 2)),
    # Every sixth layer is full, 4 KV heads of 256.
    "gemma3": _sliding(_mha(4, 256, 256), (5,), (0, 1, 2, 3, 4)),
    # Every fourth layer is full, 2 KV heads of 256; 32 value heads over 8 ranks.
    "qwen3_next": _linear(
        _mha(2, 256, 256),
        (3,),
        (0, 1, 2),
        MambaStateShape(conv_shape=(1024, 3), temporal_shape=(4, 128, 128)),
    ),
    # MEMEM*EM: ids with holes where the MLP layers are; 64 heads over 8 ranks.
    "nemotron_h": _linear(
        _mha(2, 128, 128),
        (5,),
        (0, 2, 4, 7),
        MambaStateShape(conv_shape=(768, 3), temporal_shape=(8, 64, 128)),
    ),
    # MLA anchor over rank-sharded state, convolution transposed; 32 heads over 8 ranks.
    "kimi_linear": _linear(
        _mla("bfloat16"),
        (3,),
        (0, 1, 2),
        MambaStateShape(conv_shape=(3, 1536), temporal_shape=(4, 128, 128)),
    ),
    # Every layer is attention and state at once; 128 heads of 8 over 8 ranks.
    "falcon_h1": _linear(
        _mha(8, 128, 128),
        (0, 1),
        (0, 1),
        MambaStateShape(conv_shape=(192, 3), temporal_shape=(16, 8, 256)),
    ),
}
