"""The scenario matrix of the sglang target: every entry over every family it accepts.

Nothing here imports torch or sglang. Entries have one canonical name over all releases; whether a
release has them is decided when a scenario is assembled.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from typing_extensions import override

from traces.targets.common.axes import ScenarioAxes
from traces.targets.native.matrix import GroupShape
from traces.targets.sglang.extra_scenarios import extra_rows
from traces.targets.sglang.models import MODELS, ModelFamily

NO_DRAFT, SIDECAR_DRAFT, PACKED_DRAFT = "none", "sidecar", "packed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankShape(GroupShape):
    """Process groups of the rank that plays, with decode context parallelism.

    Attributes:
        dcp_size: ranks over which the tokens of a page are spread while decoding; 1 for none.
    """

    dcp_size: int


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
    "tp8cp2pp3": _ranks(8, 2, 4, (1, 3), 1),
    "tp4cp4pp5": _ranks(4, 4, 0, (3, 5), 1),
    "tp8dcp2": _ranks(8, 0, 8, (0, 1), 2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangScenario(ScenarioAxes):
    """One named configuration that any release of sglang plays, or cannot.

    Attributes:
        builder: canonical name of the entry.
        storage_backend: name in the server's arguments, where it selects the host allocator;
            stack builders are handed it as well, see ``opens_storage``.
        draft: ``none``, ``sidecar`` (pools of its own, beside the target's) or ``packed`` (rows
            appended to the target's host pools).
    """

    draft: str

    @property
    @override
    def short_name(self) -> str:
        return SHORT_NAMES[self.builder]

    @property
    def opens_storage(self) -> bool:
        """Whether the entry is told to open its storage backend."""
        opens = self.builder.startswith("build_") or self.builder in _STORAGE_OPENING
        return self.storage_backend is not None and opens

    @property
    @override
    def draft_name(self) -> str:
        return "" if self.draft == NO_DRAFT else f"{self.draft}_draft"


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

_PLAIN = ("llama3_8b", "dsv3_mha", "dsv3")
_DSA = ("dsv32_fp8", "dsv32_bf16")
_SWA = ("gpt_oss",)
_LINEAR = ("qwen3_next", "nemotron_h", "kimi_linear", "falcon_h1")
_MINIMAX = ("minimax_m3", "minimax_m3_dense")

BUILDERS: dict[str, tuple[str, ...]] = {
    "build_kv_only_stack": (*_PLAIN, "dsv32_kv_fp8"),
    "build_hybrid_swa_stack": _SWA,
    "build_hybrid_mamba_stack": (*_LINEAR, "glm53_flash", "qwen4_qsa"),
    "build_hybrid_mamba_swa_stack": ("inkling",),
    "build_anchor_sidecar_stack": _DSA,
    "build_deepseek_v4_hicache_stack": ("dsv4_flash",),
    "build_minimax_sparse_hicache_stack": _MINIMAX,
    "attach_hybrid_pool_to_unified_cache": (
        *("llama3_8b", "dsv3", "dsv32_kv_fp8", "llama3_mxfp8", "dsv32_fp8", "gpt_oss"),
        *("qwen3_next", "kimi_linear", "glm53_flash", "inkling", "qwen4_qsa"),
        *("minimax_m3", "minimax_m3_dense", "dsv4_flash"),
    ),
    "attach_hybrid_dsa_pool_to_hiradix_cache": _DSA,
    "attach_hybrid_minimax_sparse_pool_to_hiradix_cache": _MINIMAX,
    "attach_hybrid_pool_to_mamba_cache": ("qwen3_next", "nemotron_h"),
    "HiRadixCache": ("llama3_8b", "dsv32_kv_fp8", "dsv32_fp8", "minimax_m3_dense"),
    "HiMambaRadixCache": ("nemotron_h", "falcon_h1"),
    "UnifiedRadixCache.init_hicache": ("llama3_8b", "dsv32_fp8", "gpt_oss", "nemotron_h"),
    "DecodeKVCacheOffloadManager": ("llama3_8b", "dsv3"),
}

_UNIFIED = "attach_hybrid_pool_to_unified_cache"
# Other entries would open the server's storage backend by themselves.
_STORAGE_NAME_ONLY = [name for name in BUILDERS if name.startswith("build_")]
_STORAGE_NAME_ONLY.append(_UNIFIED)
_UNDRAFTED_BUILDERS = ["DecodeKVCacheOffloadManager"]
# Entries that open what the server's arguments name.
_STORAGE_OPENING = ["DecodeKVCacheOffloadManager"]
_WITH_CACHE = [
    name for name in BUILDERS if not name.startswith("build_") and name not in _UNDRAFTED_BUILDERS
]

_DRAFTED = (ModelFamily.MHA, ModelFamily.MLA, ModelFamily.DSA, ModelFamily.SWA, ModelFamily.LINEAR)
# Models whose states are laid out by layer as well, which later releases refuse.
_LAYER_FIRST_STATES = ("nemotron_h", "falcon_h1")
# Stages of a sparse model are refused; scales need no more than one shape.
_GROUPS_OF: dict[ModelFamily, list[str]] = {
    ModelFamily.MINIMAX: ["tp1", "tp8cp2"],
    ModelFamily.MXFP8: ["tp8cp2pp3"],
}
# Index keys come in pages of 64; scales are interleaved in pages of 128.
_PAGE_SIZES: dict[ModelFamily, list[int]] = {
    ModelFamily.DSA: [64],
    ModelFamily.LINEAR_DSA: [64],
    ModelFamily.QSA: [16, 64],
    ModelFamily.MXFP8: [128],
    ModelFamily.DSV4: [256],
}

# The order of the values is the order in which the covering array prefers them.
AXES: dict[str, list[Any]] = {
    "builder": list(BUILDERS),
    "model": list(dict.fromkeys(model for models in BUILDERS.values() for model in models)),
    "layout": ["layer_first", "page_first", "page_first_direct", "page_head"],
    "io_backend": ["kernel", "direct"],
    "write_policy": ["write_through_selective", "write_back", "write_through"],
    "page_size": [16, 64, 1, 128, 256],
    "sizing": ["ratio", "gb"],
    "storage_backend": [None, "dynamic"],
    "groups": list(GROUPS),
    "draft": [NO_DRAFT, SIDECAR_DRAFT, PACKED_DRAFT],
}


def _implies(field: str, values: list[Any], other: str, allowed: list[Any]) -> dict[str, Any]:
    """Return the constraint: where ``field`` is one of ``values``, ``other`` is in ``allowed``."""
    premise = {"operator": "in", "left": field, "values": values}
    conclusion = {"operator": "in", "left": other, "values": allowed}
    return {
        "operator": "or",
        "conditions": [{"operator": "not", "condition": premise}, conclusion],
    }


def _except(axis: str, *values: str) -> list[Any]:
    return [value for value in AXES[axis] if value not in values]


def _constraints() -> list[dict[str, Any]]:
    """Return which axis values go together."""
    return [
        *(_implies("builder", [builder], "model", list(BUILDERS[builder])) for builder in BUILDERS),
        *_model_constraints(),
        # Servers rewrite direct + page_first before anything is built.
        _implies("io_backend", ["direct"], "layout", ["layer_first", "page_first_direct"]),
        _implies("layout", ["page_first_direct"], "io_backend", ["direct"]),
        _implies("groups", ["tp8dcp2"], "builder", [_UNIFIED]),
        _implies("groups", ["tp8dcp2"], "page_size", [64]),
        _implies("builder", _except("builder", *_STORAGE_NAME_ONLY), "storage_backend", [None]),
        _implies("draft", [SIDECAR_DRAFT], "builder", _WITH_CACHE),
        _implies("draft", [PACKED_DRAFT], "builder", _except("builder", *_UNDRAFTED_BUILDERS)),
    ]


def _model_constraints() -> list[dict[str, Any]]:
    """Return what models exclude, models that exclude the same together."""
    alike: dict[tuple[str, tuple[Any, ...]], list[str]] = {}
    for model in AXES["model"]:
        for axis, values in _allowed(model).items():
            if len(values) < len(AXES[axis]):
                alike.setdefault((axis, tuple(values)), []).append(model)
    return [
        _implies("model", models, axis, list(values)) for (axis, values), models in alike.items()
    ]


def _allowed(name: str) -> dict[str, list[Any]]:
    """Return the values of the axes with which a model can be played at all."""
    model = MODELS[name]
    family, attention = model.family, model.attention
    layouts: list[str] = AXES["layout"]
    if family is not ModelFamily.MHA:
        layouts = _except("layout", "page_head")
    if attention.head_dim != attention.v_head_dim or (
        model.state_layers and name not in _LAYER_FIRST_STATES
    ):
        # The layouts in which later releases keep rows of two widths, or states.
        layouts = ["page_first", "page_first_direct"]
    layouts = ["page_first"] if family is ModelFamily.MXFP8 else layouts
    # Only the host pool of latent rows divides its slots over decode ranks.
    groups = AXES["groups"] if family is ModelFamily.MLA else _except("groups", "tp8dcp2")
    if model.state_layers:
        # State shapes are those of one of eight ranks.
        groups = _except("groups", "tp8dcp2", "tp1")
    return {
        "layout": AXES["layout"][:3] if family is ModelFamily.DSV4 else layouts,
        "io_backend": ["kernel"] if family is ModelFamily.MXFP8 else AXES["io_backend"],
        "page_size": _PAGE_SIZES.get(family, [16, 64, 1]),
        # The builder itself refuses the other one, with a message.
        "sizing": ["ratio"] if family in (ModelFamily.DSV4, ModelFamily.MXFP8) else AXES["sizing"],
        "groups": _GROUPS_OF.get(family, groups),
        "draft": AXES["draft"] if family in _DRAFTED else [NO_DRAFT],
    }


def _presets() -> list[dict[str, Any]]:
    """Return two rows for every entry and family, and the known hard cases.

    One of the two moves rows by kernel and the other one directly; both have groups. The other
    axes turn from row to row, so that the rows cover pairs as well.
    """
    pairs: dict[tuple[str, ModelFamily], list[str]] = {}
    for builder, models in BUILDERS.items():
        for model in models:
            pairs.setdefault((builder, MODELS[model].family), []).append(model)
    rows = []
    for number, ((builder, _), known) in enumerate(pairs.items()):
        for turn, io_backend in enumerate(AXES["io_backend"]):
            model = known[turn % len(known)]
            if io_backend not in _allowed(model)["io_backend"]:
                continue
            rows.append(_preset(builder, model, io_backend, 2 * number + turn))
    for case in _hard_rows():
        _place_row(rows, case)
    rows += _undrafted_rows()
    return [{axis: row[axis] for axis in row if axis != "case"} for row in rows]


def _place_row(rows: list[dict[str, Any]], case: dict[str, Any]) -> None:
    """Turn the first row that can be one into a hard case; add a row where none can."""
    for row in rows:
        fixed = ("builder", "model", "io_backend", "groups")
        fits = all(case.get(axis, row[axis]) == row[axis] for axis in fixed)
        if fits and "case" not in row:
            row.update(case, case=True)
            return
    rows.append(dict(case, case=True))


def _preset(builder: str, model: str, io_backend: str, turn: int) -> dict[str, Any]:
    allowed = _allowed(model)
    moved_by = {
        "kernel": ["page_first", "layer_first", "page_head"],
        "direct": ["page_first_direct", "layer_first"],
    }
    layouts = [layout for layout in moved_by[io_backend] if layout in allowed["layout"]]
    groups = [group for group in allowed["groups"] if group not in ("tp1", "tp8dcp2")]
    page_sizes, sizings = allowed["page_size"], allowed["sizing"]
    drafts = [
        draft
        for draft in allowed["draft"]
        if (draft != SIDECAR_DRAFT or builder in _WITH_CACHE)
        and (draft == NO_DRAFT or builder not in _UNDRAFTED_BUILDERS)
    ]
    return {
        "builder": builder,
        "model": model,
        "layout": layouts[turn // 2 % len(layouts)],
        "io_backend": io_backend,
        "write_policy": AXES["write_policy"][turn % 3],
        "page_size": page_sizes[turn % len(page_sizes)],
        "sizing": sizings[(turn + turn // 2) % len(sizings)],
        "storage_backend": "dynamic" if builder in _STORAGE_NAME_ONLY and turn // 2 % 2 else None,
        "groups": groups[turn % len(groups)],
        "draft": drafts[(turn + 1) % len(drafts)] if turn % 4 == 3 else NO_DRAFT,
    }


def _undrafted_rows() -> list[dict[str, Any]]:
    """Return rows without a draft, on one stage, for what every release since 0.5.10 can play."""
    kernel = {"layout": "layer_first", "io_backend": "kernel", "write_policy": "write_through"}
    whole = {"page_size": 64, "sizing": "ratio", "storage_backend": None, "groups": "tp8cp2"}
    return [
        {"builder": builder, "model": "dsv32_fp8", "draft": NO_DRAFT, **kernel, **whole}
        for builder in ("HiRadixCache", _UNIFIED)
    ]


def _hard_rows() -> list[dict[str, Any]]:
    """Return combinations in which releases are known to differ."""
    dcp = {"page_size": 64, "groups": "tp8dcp2", "draft": SIDECAR_DRAFT}
    sidecar, packed, undrafted = (
        {"draft": draft} for draft in (SIDECAR_DRAFT, PACKED_DRAFT, NO_DRAFT)
    )
    dynamic = {"storage_backend": "dynamic"}
    return [
        # A draft pool that spans the slots of all decode ranks.
        _row(_UNIFIED, "dsv3", "kernel", dcp),
        # An allocator that only the extra configuration names; one budget for three host pools.
        _row(_UNIFIED, "inkling", "kernel", {**dynamic, "sizing": "gb"}),
        _row(_UNIFIED, "minimax_m3", "kernel", dynamic),
        # One budget for two host pools, and states that differ between ranks.
        _row(_UNIFIED, "kimi_linear", "direct", {"sizing": "gb"}),
        # Draft rows beside a sliding window, beside states, and wider than the model says.
        _row(_UNIFIED, "gpt_oss", "kernel", packed),
        _row(_UNIFIED, "gpt_oss", "direct", sidecar),
        _row(_UNIFIED, "qwen3_next", "kernel", packed),
        _row(_UNIFIED, "dsv32_fp8", "kernel", sidecar),
        _row(_UNIFIED, "dsv32_fp8", "direct", undrafted),
        _row("HiRadixCache", "dsv32_fp8", "kernel", sidecar),
        # Slices of unequal width are refused; page kernels copy them.
        _row("HiRadixCache", "dsv32_fp8", "direct", {**undrafted, "layout": "layer_first"}),
    ]


def _row(builder: str, model: str, io_backend: str, axes: dict[str, Any]) -> dict[str, Any]:
    return {"builder": builder, "model": model, "io_backend": io_backend, **axes}


@cache
def covering_array() -> tuple[SglangScenario, ...]:
    """Return the pairwise covering array of all axes, builders in order of ``BUILDERS``.

    Those of :func:`extra_rows` come on top: as values of the axes they would move others.
    """
    # Imported late: who is handed a scenario needs no covering array.
    import covertable

    rows = covertable.make(AXES, strength=2, constraints=_constraints(), presets=_presets())
    rows += extra_rows()
    order = list(BUILDERS)
    return tuple(
        sorted(
            (SglangScenario(**row) for row in rows), key=lambda s: (order.index(s.builder), s.name)
        )
    )


def registry() -> dict[str, SglangScenario]:
    """Return every scenario by name, in the order in which they are played."""
    return {scenario.name: scenario for scenario in covering_array()}
