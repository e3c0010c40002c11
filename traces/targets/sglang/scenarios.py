"""The scenario matrix of the sglang target: every entry over every family it accepts.

Target-independent and instant: nothing here imports torch or sglang. Entries have one canonical
name over all releases; whether a release has them is decided when a scenario is assembled.
"""

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import covertable

from traces.scenarios.matrix import GroupShape
from traces.targets.sglang.models import MODELS, Family

NO_DRAFT, SIDECAR_DRAFT, PACKED_DRAFT = "none", "sidecar", "packed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankShape(GroupShape):
    """Process groups of the rank that plays, with decode context parallelism.

    Attributes:
        dcp_size: ranks over which the tokens of a page are spread while decoding; 1 for none.
    """

    dcp_size: int = 1


def _ranks(tp: int, cp: int, attn_tp: int, pp: tuple[int, int], dcp: int) -> RankShape:
    rank, size = pp
    return RankShape(
        tp_size=tp,
        attn_cp_size=cp,
        attn_tp_size=attn_tp,
        pp_rank=rank,
        pp_size=size,
        dcp_size=dcp,
    )


# All but the first have ranks, sizes and stages that no default has.
GROUPS: dict[str, RankShape] = {
    "tp1": _ranks(1, 0, 0, (0, 1), 1),
    "tp8cp2": _ranks(8, 2, 4, (0, 1), 1),
    "tp8pp2": _ranks(8, 0, 8, (1, 2), 1),
    "tp8cp2pp3": _ranks(8, 2, 4, (1, 3), 1),
    "tp4cp4pp5": _ranks(4, 4, 0, (3, 5), 1),
    "tp8dcp2": _ranks(8, 0, 8, (0, 1), 2),
}
_ONE_STAGE = ["tp1", "tp8cp2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One named configuration that any release of sglang plays, or cannot.

    Attributes:
        builder: canonical name of the entry.
        model: key of ``MODELS``.
        layout: host layout.
        io_backend: ``kernel`` or ``direct``.
        write_policy: controller's write policy.
        page_size: tokens a page.
        sizing: host pool size by ``ratio`` or by ``gb``.
        storage_backend: name in the server's arguments, where it only selects the host allocator.
        groups: key of ``GROUPS``.
        draft: ``none``, ``sidecar`` (pools of its own, beside the target's) or ``packed`` (rows
            appended to the target's host pools).
    """

    builder: str
    model: str
    layout: str
    io_backend: str
    write_policy: str
    page_size: int
    sizing: str
    storage_backend: str | None
    groups: str
    draft: str

    @property
    def name(self) -> str:
        """File name of the golden: every axis that the builder's name does not imply."""
        policy = {"write_through": "wt", "write_through_selective": "wts", "write_back": "wb"}
        parts = [
            SHORT_NAMES[self.builder],
            self.model,
            self.layout,
            self.io_backend,
            policy[self.write_policy],
            f"p{self.page_size}",
            self.sizing,
            self.groups,
        ]
        parts += [self.storage_backend] if self.storage_backend else []
        parts += [f"{self.draft}_draft"] if self.draft != NO_DRAFT else []
        return ".".join(parts)

    @property
    def config(self) -> dict[str, Any]:
        """Every axis with its value, in order of declaration."""
        return asdict(self)


SHORT_NAMES: dict[str, str] = {
    "build_kv_only_stack": "kv_only",
    "build_hybrid_swa_stack": "swa",
    "build_hybrid_mamba_stack": "mamba",
    "build_hybrid_mamba_swa_stack": "mamba_swa",
    "build_anchor_sidecar_stack": "anchor_sidecar",
    "build_deepseek_v4_hicache_stack": "dsv4",
    "build_minimax_sparse_hicache_stack": "minimax",
    "attach_hybrid_pool_to_unified_cache": "unified",
    "attach_hybrid_dsa_pool_to_hiradix_cache": "hiradix_dsa",
    "attach_hybrid_minimax_sparse_pool_to_hiradix_cache": "hiradix_minimax",
    "attach_hybrid_pool_to_mamba_cache": "mamba_cache",
    "HiRadixCache": "hiradix_init",
    "HiMambaRadixCache": "mamba_init",
    "UnifiedRadixCache.init_hicache": "unified_init",
    "DecodeKVCacheOffloadManager": "decode_offload",
}

_PLAIN = ("llama3_8b", "qwen3_8b", "dsv3_mha", "dsv3")
_DSA = ("dsv32_fp8", "dsv32_bf16")
_SWA = ("gpt_oss", "gemma3")
_LINEAR = ("qwen3_next", "nemotron_h", "kimi_linear", "falcon_h1")
_MINIMAX = ("minimax_m3", "minimax_m3_dense")

BUILDERS: dict[str, tuple[str, ...]] = {
    "build_kv_only_stack": (*_PLAIN, "dsv32_kv_fp8", "llama3_mxfp8"),
    "build_hybrid_swa_stack": _SWA,
    "build_hybrid_mamba_stack": (*_LINEAR, "glm53_flash", "qwen4_qsa"),
    "build_hybrid_mamba_swa_stack": ("inkling",),
    "build_anchor_sidecar_stack": _DSA,
    "build_deepseek_v4_hicache_stack": ("dsv4_flash",),
    "build_minimax_sparse_hicache_stack": _MINIMAX,
    "attach_hybrid_pool_to_unified_cache": (
        *("llama3_8b", "dsv3", "dsv32_kv_fp8", "llama3_mxfp8"),
        *(*_DSA, *_SWA, *_LINEAR, *_MINIMAX),
        *("glm53_flash", "inkling", "qwen4_qsa", "dsv4_flash"),
    ),
    "attach_hybrid_dsa_pool_to_hiradix_cache": _DSA,
    "attach_hybrid_minimax_sparse_pool_to_hiradix_cache": _MINIMAX,
    "attach_hybrid_pool_to_mamba_cache": ("qwen3_next", "nemotron_h", "kimi_linear"),
    "HiRadixCache": ("llama3_8b", "dsv32_kv_fp8", "dsv32_fp8", *_MINIMAX, "llama3_mxfp8"),
    "HiMambaRadixCache": ("nemotron_h", "falcon_h1"),
    "UnifiedRadixCache.init_hicache": (
        *("qwen3_8b", "dsv3", "dsv32_fp8", "gpt_oss", "nemotron_h", "kimi_linear"),
        *("glm53_flash", "inkling", "minimax_m3", "dsv4_flash"),
    ),
    "DecodeKVCacheOffloadManager": ("llama3_8b", "dsv3"),
}

# Entries that hand the server's storage backend to the controller would open it.
_NAME_ONLY = [name for name in BUILDERS if name.startswith("build_")]
_NAME_ONLY.append("attach_hybrid_pool_to_unified_cache")
_WITH_CACHE = [name for name in BUILDERS if not name.startswith("build_")]
_WITH_CACHE.remove("DecodeKVCacheOffloadManager")

# The order of the values is the order in which the covering array prefers them.
AXES: dict[str, list[Any]] = {
    "builder": list(BUILDERS),
    "model": list(MODELS),
    "layout": ["layer_first", "page_first", "page_first_direct", "page_head"],
    "io_backend": ["kernel", "direct"],
    "write_policy": ["write_through_selective", "write_back", "write_through"],
    "page_size": [16, 64, 1, 256],
    "sizing": ["ratio", "gb"],
    "storage_backend": [None, "dynamic", "mooncake"],
    "groups": list(GROUPS),
    "draft": [NO_DRAFT, SIDECAR_DRAFT, PACKED_DRAFT],
}


def models_of(*families: Family) -> list[str]:
    """Return the names of the models of some families, in order of declaration."""
    return [name for name, model in MODELS.items() if model.family in families]


def _implies(field: str, values: list[Any], other: str, allowed: list[Any]) -> dict[str, Any]:
    """Return the constraint: where ``field`` is one of ``values``, ``other`` is in ``allowed``."""
    premise = {"operator": "in", "left": field, "values": values}
    conclusion = {"operator": "in", "left": other, "values": allowed}
    return {
        "operator": "or",
        "conditions": [{"operator": "not", "condition": premise}, conclusion],
    }


def _except(axis: str, *values: Any) -> list[Any]:
    return [value for value in AXES[axis] if value not in values]


def _constraints() -> list[dict[str, Any]]:
    """Return which axis values go together."""
    linear = models_of(Family.LINEAR, Family.LINEAR_DSA, Family.LINEAR_SWA, Family.QSA)
    not_mha = [name for name in MODELS if name not in models_of(Family.MHA)]
    not_dsv4 = [name for name in MODELS if name not in models_of(Family.DSV4)]
    offload = ["DecodeKVCacheOffloadManager"]
    return [
        *(_implies("builder", [builder], "model", list(BUILDERS[builder])) for builder in BUILDERS),
        *_layout_constraints(not_mha),
        _implies("model", models_of(Family.DSA, Family.LINEAR_DSA), "page_size", [64]),
        _implies("model", models_of(Family.QSA), "page_size", [16, 64]),
        _implies("model", models_of(Family.DSV4), "page_size", [256]),
        _implies("model", not_dsv4, "page_size", _except("page_size", 256)),
        # Refused by the builder itself, with a message.
        _implies("model", models_of(Family.DSV4), "sizing", ["ratio"]),
        _implies("model", models_of(Family.MINIMAX), "groups", _ONE_STAGE),
        # State shapes are those of one of eight ranks.
        _implies("model", linear, "groups", _except("groups", "tp1", "tp8dcp2")),
        # Only the host pool of latent rows divides its slots over decode ranks.
        _implies("groups", ["tp8dcp2"], "model", ["dsv3"]),
        _implies("groups", ["tp8dcp2"], "builder", ["attach_hybrid_pool_to_unified_cache"]),
        _implies("groups", ["tp8dcp2"], "page_size", [64]),
        _implies("builder", _except("builder", *_NAME_ONLY), "storage_backend", [None]),
        _implies("draft", [SIDECAR_DRAFT], "builder", _WITH_CACHE),
        _implies("draft", [PACKED_DRAFT], "builder", _except("builder", *offload)),
        _implies("model", _undrafted(), "draft", [NO_DRAFT]),
    ]


def _layout_constraints(not_mha: list[str]) -> list[dict[str, Any]]:
    return [
        # Servers rewrite direct + page_first before anything is built.
        _implies("io_backend", ["direct"], "layout", ["layer_first", "page_first_direct"]),
        _implies("layout", ["page_first_direct"], "io_backend", ["direct"]),
        _implies("model", not_mha, "layout", AXES["layout"][:3]),
    ]


def _undrafted() -> list[str]:
    """Return the models whose draft rows no release keeps beside them."""
    return models_of(
        *(Family.PACKED_MLA, Family.MINIMAX, Family.QSA, Family.MXFP8),
        *(Family.LINEAR_DSA, Family.LINEAR_SWA, Family.DSV4),
    )


def _presets() -> list[dict[str, Any]]:
    """Return a row for every entry and family with all its groups, and the known hard cases."""
    rows: dict[tuple[str, Family], dict[str, Any]] = {}
    for builder, models in BUILDERS.items():
        for model in models:
            family = MODELS[model].family
            groups = "tp8cp2" if family is Family.MINIMAX else "tp8cp2pp3"
            rows.setdefault(
                (builder, family), {"builder": builder, "model": model, "groups": groups}
            )
    return [*rows.values(), *_hard_cases()]


def _hard_cases() -> list[dict[str, Any]]:
    """Return combinations in which releases are known to differ."""
    unified = "attach_hybrid_pool_to_unified_cache"
    return [
        # A draft pool that spans the slots of all decode ranks.
        {"builder": unified, "model": "dsv3", "groups": "tp8dcp2", "draft": SIDECAR_DRAFT},
        # An allocator that only the extra configuration names.
        {"builder": unified, "model": "inkling", "storage_backend": "dynamic"},
        {"builder": unified, "model": "minimax_m3", "storage_backend": "dynamic"},
        {"builder": "HiRadixCache", "model": "minimax_m3_dense", "groups": "tp8cp2"},
        # One budget for two and for three host pools.
        {"builder": unified, "model": "kimi_linear", "sizing": "gb"},
        {"builder": unified, "model": "inkling", "sizing": "gb"},
        # Draft rows beside a sliding window and beside states.
        {"builder": unified, "model": "gpt_oss", "draft": PACKED_DRAFT},
        {"builder": unified, "model": "qwen3_next", "draft": PACKED_DRAFT},
        {"builder": unified, "model": "gpt_oss", "draft": SIDECAR_DRAFT},
        {"builder": "HiRadixCache", "model": "dsv32_fp8", "draft": SIDECAR_DRAFT},
        # Both ways to move rows, for rows that are wider than the model says.
        {"builder": "HiRadixCache", "model": "dsv32_fp8", "io_backend": "kernel"},
        {"builder": "HiRadixCache", "model": "dsv32_fp8", "io_backend": "direct"},
    ]


@cache
def covering_array() -> tuple[Scenario, ...]:
    """Return the pairwise covering array of all axes, builders in order of ``BUILDERS``."""
    rows = covertable.make(AXES, strength=2, constraints=_constraints(), presets=_presets())
    order = list(BUILDERS)
    return tuple(
        sorted((Scenario(**row) for row in rows), key=lambda s: (order.index(s.builder), s.name))
    )


def registry() -> dict[str, Scenario]:
    """Return every scenario by name, in the order in which they are played."""
    return {scenario.name: scenario for scenario in covering_array()}
