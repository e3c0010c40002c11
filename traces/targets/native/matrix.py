"""The scenario matrix: every builder over every pool family it accepts, crossed pairwise.

Axes and constraints are data; the covering array (strength 2, deterministic) comes from
``covertable``. Nothing here imports torch or a target, so that listing scenarios is instant.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from typing_extensions import override

from traces.targets.common.axes import ScenarioAxes
from traces.targets.native.models import MODELS, PoolFamily


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShape:
    """Process groups and pipeline stage of the rank that plays.

    Attributes:
        tp_size: ranks in the tensor-parallel group.
        attn_cp_size: ranks in the attention context-parallel group; 0 for no group.
        attn_tp_size: ranks in the attention tensor-parallel group; 0 for no group.
        pp_rank: pipeline stage of this rank.
        pp_size: number of pipeline stages.
    """

    tp_size: int
    attn_cp_size: int
    attn_tp_size: int
    pp_rank: int
    pp_size: int


# All but the first have ranks, sizes and stages that no default has.
GROUPS: dict[str, GroupShape] = {
    "tp1": GroupShape(tp_size=1, attn_cp_size=0, attn_tp_size=0, pp_rank=0, pp_size=1),
    "tp8pp2": GroupShape(tp_size=8, attn_cp_size=0, attn_tp_size=8, pp_rank=1, pp_size=2),
    "tp8cp2pp3": GroupShape(tp_size=8, attn_cp_size=2, attn_tp_size=4, pp_rank=1, pp_size=3),
    "tp4cp4pp5": GroupShape(tp_size=4, attn_cp_size=4, attn_tp_size=0, pp_rank=3, pp_size=5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeScenario(ScenarioAxes):
    """One named, target-independent configuration that a target plays.

    Attributes:
        storage_backend: name handed to the controller, or None.
        draft: whether a speculative draft pool is mirrored as well.
    """

    draft: bool

    @property
    @override
    def short_name(self) -> str:
        return SHORT_NAMES[self.builder]

    @property
    @override
    def draft_name(self) -> str:
        return "draft" if self.draft else ""


SHORT_NAMES: dict[str, str] = {
    "build_kv_only_stack": "kv_only",
    "build_hybrid_swa_stack": "swa",
    "build_hybrid_mamba_stack": "mamba",
    "build_shared_anchor_stack": "shared_anchor",
    "attach_hybrid_pool_to_unified_cache": "unified",
    "attach_hybrid_nsa_pool_to_hiradix_cache": "hiradix_nsa",
    "attach_hybrid_pool_to_mamba_cache": "mamba_cache",
    "UnifiedRadixCache.init_hicache": "unified_init",
    "HiRadixCache.init_hicache": "hiradix_init",
    "HiMambaRadixCache.init_hicache": "mamba_init",
}
INIT_HICACHE = tuple(name for name in SHORT_NAMES if name.endswith(".init_hicache"))

_PLAIN = ("llama3_8b", "qwen3_8b", "dsv3_mha", "dsv3")
_NSA = ("dsv32_fp8", "dsv32_bf16")
_SWA = ("gpt_oss", "gemma3")
_LINEAR = ("qwen3_next", "nemotron_h", "kimi_linear", "falcon_h1")

BUILDERS: dict[str, tuple[str, ...]] = {
    "build_kv_only_stack": (*_PLAIN, "dsv32_kv_fp8"),
    "build_hybrid_swa_stack": _SWA,
    "build_hybrid_mamba_stack": _LINEAR,
    "build_shared_anchor_stack": _NSA,
    "attach_hybrid_pool_to_unified_cache": ("llama3_8b", "dsv3", *_NSA, *_SWA, *_LINEAR),
    "attach_hybrid_nsa_pool_to_hiradix_cache": _NSA,
    "attach_hybrid_pool_to_mamba_cache": ("qwen3_next", "nemotron_h", "kimi_linear"),
    "UnifiedRadixCache.init_hicache": ("qwen3_8b", "dsv32_fp8", "gpt_oss", "nemotron_h"),
    "HiRadixCache.init_hicache": ("llama3_8b", "dsv32_kv_fp8", "dsv32_fp8"),
    "HiMambaRadixCache.init_hicache": ("nemotron_h", "falcon_h1"),
}

# The order of the values is the order in which the covering array prefers them.
AXES: dict[str, list[Any]] = {
    "builder": list(BUILDERS),
    "model": list(MODELS),
    "layout": ["layer_first", "page_first", "page_first_direct", "page_head"],
    "io_backend": ["kernel", "direct"],
    "write_policy": ["write_through_selective", "write_back", "write_through"],
    "page_size": [16, 64, 1],
    "sizing": ["ratio", "gb"],
    "storage_backend": ["file", None],
    "groups": list(GROUPS),
    "draft": [False, True],
}

_WITHOUT_DRAFT = (PoolFamily.SWA, PoolFamily.LINEAR, PoolFamily.PACKED_MLA)


def _models_of(*families: PoolFamily) -> list[str]:
    return [name for name, model in MODELS.items() if model.family in families]


def _implication(field: str, values: list[Any], other: str, allowed: list[Any]) -> dict[str, Any]:
    """Return the constraint: where ``field`` is one of ``values``, ``other`` is in ``allowed``."""
    premise = {"operator": "in", "left": field, "values": values}
    conclusion = {"operator": "in", "left": other, "values": allowed}
    return {
        "operator": "or",
        "conditions": [{"operator": "not", "condition": premise}, conclusion],
    }


def _constraints() -> list[dict[str, Any]]:
    """Return which axis values go together."""
    nsa, linear = _models_of(PoolFamily.NSA), _models_of(PoolFamily.LINEAR)
    not_mha = [name for name in MODELS if name not in _models_of(PoolFamily.MHA)]
    return [
        *(
            _implication("builder", [builder], "model", list(BUILDERS[builder]))
            for builder in BUILDERS
        ),
        _implication("layout", ["page_first_direct"], "io_backend", ["direct"]),
        _implication("layout", ["page_head"], "io_backend", ["kernel"]),
        _implication("model", not_mha, "layout", AXES["layout"][:3]),
        _implication("model", nsa, "page_size", [64]),
        # Linear-attention state shapes are those of one of eight ranks.
        _implication("model", linear, "groups", [name for name in GROUPS if name != "tp1"]),
        _implication("model", _models_of(*_WITHOUT_DRAFT), "draft", [False]),
        # Only init_hicache turns direct + page_first into a layout that can be moved.
        {
            "operator": "or",
            "conditions": [
                {"operator": "in", "left": "builder", "values": list(INIT_HICACHE)},
                {"operator": "ne", "left": "layout", "value": "page_first"},
                {"operator": "ne", "left": "io_backend", "value": "direct"},
            ],
        },
    ]


def _presets() -> list[dict[str, Any]]:
    """Return one row for every builder and family with all groups and a later stage.

    A builder may have a branch for each family; each must meet values that no default has.
    """
    rows: dict[tuple[str, PoolFamily], dict[str, Any]] = {}
    for builder, models in BUILDERS.items():
        for model in models:
            row = {"builder": builder, "model": model, "groups": "tp8cp2pp3"}
            rows.setdefault((builder, MODELS[model].family), row)
    return list(rows.values())


@cache
def covering_array() -> tuple[NativeScenario, ...]:
    """Return the pairwise covering array of all axes, builders in order of ``BUILDERS``."""
    # Imported late: who is handed a scenario needs no covering array.
    import covertable

    rows = covertable.make(AXES, strength=2, constraints=_constraints(), presets=_presets())
    order = list(BUILDERS)
    return tuple(
        sorted(
            (NativeScenario(**row) for row in rows), key=lambda s: (order.index(s.builder), s.name)
        )
    )
