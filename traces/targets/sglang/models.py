"""Models the sglang target plays: the shared ones and families that only sglang has.

Row dimensions are published ones; layer counts are cut, and state shapes are those of one of
eight ranks. The shared models are reused, not extended: adding to them would change the covering
array of the native target.
"""

from dataclasses import dataclass
from enum import StrEnum

from traces.targets.native.models import MODELS as SHARED_MODELS
from traces.targets.native.models import AttentionShape


class ModelFamily(StrEnum):
    """Which pools of sglang a model needs."""

    MHA = "mha"
    MLA = "mla"
    PACKED_MLA = "packed_mla"
    DSA = "nsa"
    SWA = "swa"
    LINEAR = "linear"
    LINEAR_DSA = "linear_dsa"
    LINEAR_SWA = "linear_swa"
    MINIMAX = "minimax"
    QSA = "qsa"
    DSV4 = "dsv4"
    MXFP8 = "mxfp8"


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangModel:
    """One model as this target plays it.

    Attributes:
        family: pools it needs.
        attention: rows of its attention layers.
        full_layers: stage-local ids of the full attention layers.
        swa_layers: stage-local ids of the sliding-window layers.
        state_layers: stage-local ids of the layers with per-request state.
        conv_shapes: shapes of the convolution states of one layer, bf16.
        temporal_shape: shape of the recurrent state of one layer, float32; empty without state.
        index_head_dim: width of an index key; 0 without an index.
        index_layers: stage-local ids of the layers with index keys of their own.
        compress_ratios: one for each layer, for models that compress rows; empty otherwise.
    """

    family: ModelFamily
    attention: AttentionShape
    full_layers: tuple[int, ...]
    swa_layers: tuple[int, ...] = ()
    state_layers: tuple[int, ...] = ()
    conv_shapes: tuple[tuple[int, ...], ...] = ()
    temporal_shape: tuple[int, ...] = ()
    index_head_dim: int = 0
    index_layers: tuple[int, ...] = ()
    compress_ratios: tuple[int, ...] = ()

    @property
    def layer_span(self) -> int:
        """Number of layer ids a stage covers, layers without a cache included."""
        return max(self.full_layers + self.swa_layers + self.state_layers) + 1


def _shared() -> dict[str, SglangModel]:
    played = {}
    for name, model in SHARED_MODELS.items():
        family = ModelFamily(model.family.value)
        played[name] = SglangModel(
            family=family,
            attention=model.attention,
            full_layers=model.full_layers,
            swa_layers=model.swa_layers,
            state_layers=model.state_layers,
            conv_shapes=(model.state.conv_shape,) if model.state else (),
            temporal_shape=model.state.temporal_shape if model.state else (),
            index_head_dim=128 if family is ModelFamily.DSA else 0,
        )
    return played


def _mha(kv_heads: int, head_dim: int, dtype: str) -> AttentionShape:
    return AttentionShape(
        kv_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        kv_lora_rank=0,
        qk_rope_head_dim=0,
        dtype=dtype,
    )


def _mla(rope: int, dtype: str) -> AttentionShape:
    return AttentionShape(
        kv_heads=0,
        head_dim=0,
        v_head_dim=0,
        kv_lora_rank=512,
        qk_rope_head_dim=rope,
        dtype=dtype,
    )


def _compressed(*ratios: int) -> SglangModel:
    return SglangModel(
        family=ModelFamily.DSV4,
        attention=AttentionShape(
            kv_heads=0,
            head_dim=448,
            v_head_dim=0,
            kv_lora_rank=0,
            qk_rope_head_dim=64,
            dtype="float8_e4m3fn",
        ),
        full_layers=tuple(range(len(ratios))),
        index_head_dim=128,
        compress_ratios=ratios,
    )


MODELS: dict[str, SglangModel] = {
    **_shared(),
    # GLM-5.3-Flash: three of four layers keep KDA state (64 heads of 128), the fourth is sparse
    # over a latent without rope; 528-byte rows.
    "glm53_flash": SglangModel(
        family=ModelFamily.LINEAR_DSA,
        attention=_mla(0, "float8_e4m3fn"),
        full_layers=(3,),
        state_layers=(0, 1, 2),
        conv_shapes=((3, 3072),),
        temporal_shape=(8, 128, 128),
        index_head_dim=128,
    ),
    # Inkling: every layer has convolution state; sliding and full layers alternate.
    "inkling": SglangModel(
        family=ModelFamily.LINEAR_SWA,
        attention=_mha(4, 128, "bfloat16"),
        full_layers=(1, 3),
        swa_layers=(0, 2),
        state_layers=(0, 1, 2, 3),
        conv_shapes=((3, 128), (3, 128), (3, 1536)),
        temporal_shape=(1, 1, 128),
    ),
    # MiniMax-M3: the first layer is dense, the others select by index keys of their own.
    "minimax_m3": SglangModel(
        family=ModelFamily.MINIMAX,
        attention=_mha(4, 128, "bfloat16"),
        full_layers=(0, 1, 2),
        index_head_dim=128,
        index_layers=(1, 2),
    ),
    # A stage of the same model that holds dense layers only: no index keys at all.
    "minimax_m3_dense": SglangModel(
        family=ModelFamily.MINIMAX,
        attention=_mha(4, 128, "bfloat16"),
        full_layers=(0, 1, 2),
        index_head_dim=128,
    ),
    # Qwen sparse attention beside Gated DeltaNet state; one index key for four tokens.
    "qwen4_qsa": SglangModel(
        family=ModelFamily.QSA,
        attention=_mha(2, 256, "bfloat16"),
        full_layers=(3,),
        state_layers=(0, 1, 2),
        conv_shapes=((1024, 3),),
        temporal_shape=(4, 128, 128),
        index_head_dim=128,
    ),
    # DeepSeek-V4 Flash: 448 fp8 + 64 bf16 a row, two compressed caches and their ring states.
    "dsv4_flash": _compressed(0, 4, 128, 4),
    # Layers of it one further on: the first is compressed, the last by the other ratio.
    "dsv4_flash_odd": _compressed(4, 128, 4, 128),
    # MXFP8 KV: one scale byte for 32 elements, kept in buffers of their own.
    "llama3_mxfp8": SglangModel(
        family=ModelFamily.MXFP8, attention=_mha(8, 128, "float8_e4m3fn"), full_layers=(0, 1)
    ),
}
