"""Scenarios of the sglang target: every entry point over every family it accepts.

Nothing here imports torch or sglang. Entry points have one canonical name over all releases; a
release without one is noticed when a scenario is assembled.
"""

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from typing_extensions import override

from traces.targets.common.covering import (
    Row,
    builder_constraints,
    covering_rows,
    implies,
    scenarios_by_name,
)
from traces.targets.common.scenario import (
    IO_BACKENDS,
    LAYOUTS,
    RANK_SHAPES,
    SIZINGS,
    WRITE_POLICIES,
    Scenario,
)
from traces.targets.sglang.extra_scenarios import extra_rows
from traces.targets.sglang.families import FAMILY_OF, SglangFamily
from traces.targets.sglang.models import MODELS
from traces.targets.sglang.storage_scenarios import STORAGE_RANKS, storage_rows

NO_DRAFT, SIDECAR_DRAFT, PACKED_DRAFT = "none", "sidecar", "packed"
# The scenario's own storage backend, which releases call dynamic; each that a release registers.
OWN_BACKEND, REGISTERED_BACKENDS = "dynamic", "registered"
POOL_CONFIGURATOR = "KVCacheConfigurator"
HISPARSE = "HiSparseCoordinator"
# What host memory is: a tier that keeps pages, or a buffer between device and storage.
HOST_TIER, HOST_BUFFER = "cache", "buffer_only"

_COVERED_GROUPS = ("tp1", "tp8cp2", "tp8cp2pp3", "tp4cp4pp5", "tp8dcp2")
GROUPS = {**{name: RANK_SHAPES[name] for name in _COVERED_GROUPS}, **STORAGE_RANKS}


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangScenario(Scenario):
    """One named configuration for any release of sglang."""

    # ``none``, ``sidecar`` (pools of its own, beside the target's) or ``packed`` (rows appended to
    # the target's host pools).
    draft: str
    host_memory: str = HOST_TIER
    # Whether its script reads and writes host pages byte by byte; the trace says so by what it has.
    reads_pages: bool = False

    @property
    @override
    def short_name(self) -> str:
        return SHORT_NAMES[self.builder]

    @property
    def configures_pools(self) -> bool:
        """True where the release itself makes the device pools, and no stack is built."""
        return False

    @property
    @override
    def is_served(self) -> bool:
        return FAMILY_OF[self.model].is_served

    @property
    def opens_storage(self) -> bool:
        """True where the entry point opens the storage backend."""
        opens = self.builder.startswith("build_") or self.builder in STORAGE_OPENING
        return self.storage_backend == OWN_BACKEND and opens

    @property
    def uses_storage(self) -> bool:
        """True where the entry point opens storage, or the script opens registered backends."""
        return self.opens_storage or self.storage_backend == REGISTERED_BACKENDS

    @property
    def named_backend(self) -> str | None:
        """Storage backend that the server's arguments name."""
        return None if self.storage_backend == REGISTERED_BACKENDS else self.storage_backend

    @property
    @override
    def config(self) -> dict[str, Any]:
        """Every axis with its value; of registered backends ranks and sizes instead of a name."""
        axes = asdict(self)
        del axes["reads_pages"]
        if self.host_memory == HOST_TIER:
            del axes["host_memory"]
        if self.storage_backend != REGISTERED_BACKENDS:
            return axes
        del axes["groups"]
        return {**axes, **asdict(GROUPS[self.groups])}

    @property
    @override
    def host_memory_name(self) -> str:
        return "" if self.host_memory == HOST_TIER else self.host_memory

    @property
    @override
    def draft_name(self) -> str:
        return "" if self.draft == NO_DRAFT else f"{self.draft}_draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolScenario(SglangScenario):
    """A scenario in which the release itself makes its device pools, and assembles no stack."""

    has_stack: bool = False

    @property
    @override
    def configures_pools(self) -> bool:
        return True

    @property
    @override
    def has_traffic(self) -> bool:
        return False


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
    POOL_CONFIGURATOR: "configurator",
    HISPARSE: "hisparse",
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

UNIFIED = "attach_hybrid_pool_to_unified_cache"
# Other entry points would open the server's storage backend themselves.
_STORAGE_NAME_ONLY = [name for name in BUILDERS if name.startswith("build_")]
_STORAGE_NAME_ONLY.append(UNIFIED)
_UNDRAFTED_BUILDERS = ["DecodeKVCacheOffloadManager"]
# Entry points that open the backend that the server's arguments name.
STORAGE_OPENING = (
    *("DecodeKVCacheOffloadManager", "HiRadixCache", "HiMambaRadixCache"),
    "UnifiedRadixCache.init_hicache",
)
_WITH_CACHE = [
    name for name in BUILDERS if not name.startswith("build_") and name not in _UNDRAFTED_BUILDERS
]

# Models whose states are laid out by layer as well, which later releases refuse.
_LAYER_FIRST_STATES = ("nemotron_h", "falcon_h1")
# Key of rows that took a hard row; no axis.
_IS_HARD = "is_hard"

# The order of the values is the order in which the covering array prefers them.
AXES: dict[str, list[Any]] = {
    "builder": list(BUILDERS),
    "model": list(dict.fromkeys(model for models in BUILDERS.values() for model in models)),
    "layout": list(LAYOUTS),
    "io_backend": list(IO_BACKENDS),
    "write_policy": list(WRITE_POLICIES),
    "page_size": [16, 64, 1, 128, 256],
    "sizing": list(SIZINGS),
    "storage_backend": [None, "dynamic"],
    "groups": list(_COVERED_GROUPS),
    "draft": [NO_DRAFT, SIDECAR_DRAFT, PACKED_DRAFT],
}


def _except(axis: str, *values: str) -> list[Any]:
    return [value for value in AXES[axis] if value not in values]


def _constraints() -> list[Row]:
    """Return the combinations of axis values that are allowed."""
    return [
        *builder_constraints(BUILDERS),
        *_model_constraints(),
        # Servers rewrite direct + page_first before anything is built.
        implies("io_backend", ["direct"], "layout", ["layer_first", "page_first_direct"]),
        implies("layout", ["page_first_direct"], "io_backend", ["direct"]),
        implies("groups", ["tp8dcp2"], "builder", [UNIFIED]),
        implies("groups", ["tp8dcp2"], "page_size", [64]),
        implies("builder", _except("builder", *_STORAGE_NAME_ONLY), "storage_backend", [None]),
        implies("draft", [SIDECAR_DRAFT], "builder", _WITH_CACHE),
        implies("draft", [PACKED_DRAFT], "builder", _except("builder", *_UNDRAFTED_BUILDERS)),
    ]


def _model_constraints() -> list[Row]:
    """Return the values that models exclude; models that exclude the same share a constraint."""
    alike: dict[tuple[str, tuple[Any, ...]], list[str]] = {}
    for model in AXES["model"]:
        for axis, values in allowed_values(model).items():
            if len(values) < len(AXES[axis]):
                alike.setdefault((axis, tuple(values)), []).append(model)
    return [
        implies("model", models, axis, list(values)) for (axis, values), models in alike.items()
    ]


def allowed_values(name: str) -> dict[str, list[Any]]:
    """Return the values of the axes that a model supports."""
    model = MODELS[name]
    family, attention = FAMILY_OF[name], model.attention
    layouts = list(family.layouts)
    if 0 < attention.v_head_dim != attention.head_dim or (
        model.state_layers and name not in _LAYER_FIRST_STATES
    ):
        # Later releases support rows of two widths, and states, in these layouts only.
        layouts = ["page_first", "page_first_direct"]
    groups = AXES["groups"] if family.spreads_pages else _except("groups", "tp8dcp2")
    if model.state_layers:
        # State shapes are those of one of eight ranks.
        groups = _except("groups", "tp8dcp2", "tp1")
    return {
        "layout": layouts,
        "io_backend": list(family.io_backends),
        "page_size": list(family.page_sizes),
        "sizing": list(family.sizings),
        "groups": groups if family.groups is None else list(family.groups),
        "draft": AXES["draft"] if family.has_draft else [NO_DRAFT],
    }


def _presets() -> list[Row]:
    """Return two rows for every entry point and family, and the combinations of hard rows.

    One of the two moves rows by kernel and the other one directly; both have groups. The other
    axes rotate from row to row, so that the rows cover pairs as well.
    """
    pairs: dict[tuple[str, SglangFamily], list[str]] = {}
    for builder, models in BUILDERS.items():
        for model in models:
            pairs.setdefault((builder, FAMILY_OF[model]), []).append(model)
    rows = []
    for number, ((builder, _), known) in enumerate(pairs.items()):
        for turn, io_backend in enumerate(AXES["io_backend"]):
            model = known[turn % len(known)]
            if io_backend not in allowed_values(model)["io_backend"]:
                continue
            rows.append(_preset(builder, model, io_backend, 2 * number + turn))
    for hard in _hard_rows():
        _place_row(rows, hard)
    rows += _undrafted_rows()
    return [{axis: row[axis] for axis in row if axis != _IS_HARD} for row in rows]


def _place_row(rows: list[Row], hard: Row) -> None:
    """Merge a hard row into the first row with the same fixed axes; append it without one."""
    for row in rows:
        fixed = ("builder", "model", "io_backend", "groups")
        fits = all(hard.get(axis, row[axis]) == row[axis] for axis in fixed)
        if fits and _IS_HARD not in row:
            row.update({**hard, _IS_HARD: True})
            return
    rows.append({**hard, _IS_HARD: True})


def _preset(builder: str, model: str, io_backend: str, turn: int) -> Row:
    allowed = allowed_values(model)
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


def _undrafted_rows() -> list[Row]:
    """Return rows without a draft on one pipeline stage; all releases since 0.5.10 support them."""
    kernel = {"layout": "layer_first", "io_backend": "kernel", "write_policy": "write_through"}
    whole = {"page_size": 64, "sizing": "ratio", "storage_backend": None, "groups": "tp8cp2"}
    return [
        {"builder": builder, "model": "dsv32_fp8", "draft": NO_DRAFT, **kernel, **whole}
        for builder in ("HiRadixCache", UNIFIED)
    ]


def _hard_rows() -> list[Row]:
    """Return combinations in which releases are known to differ."""
    dcp = {"page_size": 64, "groups": "tp8dcp2", "draft": SIDECAR_DRAFT}
    sidecar, packed, undrafted = (
        {"draft": draft} for draft in (SIDECAR_DRAFT, PACKED_DRAFT, NO_DRAFT)
    )
    dynamic = {"storage_backend": "dynamic"}
    return [
        # A draft pool that spans the slots of all decode ranks.
        _row(UNIFIED, "dsv3", "kernel", dcp),
        # An allocator that only the extra configuration names; one budget for three host pools.
        _row(UNIFIED, "inkling", "kernel", {**dynamic, "sizing": "gb"}),
        _row(UNIFIED, "minimax_m3", "kernel", dynamic),
        # One budget for two host pools, and states that differ between ranks.
        _row(UNIFIED, "kimi_linear", "direct", {"sizing": "gb"}),
        # Draft rows beside a sliding window, beside states, and wider than the model's.
        _row(UNIFIED, "gpt_oss", "kernel", packed),
        _row(UNIFIED, "gpt_oss", "direct", sidecar),
        _row(UNIFIED, "qwen3_next", "kernel", packed),
        _row(UNIFIED, "dsv32_fp8", "kernel", sidecar),
        _row(UNIFIED, "dsv32_fp8", "direct", undrafted),
        _row("HiRadixCache", "dsv32_fp8", "kernel", sidecar),
        # Slices of unequal width are refused; page kernels copy them.
        _row("HiRadixCache", "dsv32_fp8", "direct", {**undrafted, "layout": "layer_first"}),
    ]


def _row(builder: str, model: str, io_backend: str, axes: Row) -> Row:
    return {"builder": builder, "model": model, "io_backend": io_backend, **axes}


def takes_draft(builder: str) -> list[str]:
    """Return the kinds of draft that an entry point can be given."""
    if builder in _UNDRAFTED_BUILDERS:
        return [NO_DRAFT]
    return list(AXES["draft"]) if builder in _WITH_CACHE else [NO_DRAFT, PACKED_DRAFT]


@cache
def stack_scenarios() -> dict[str, SglangScenario]:
    """Return the scenarios with a stack and traffic by name, in order of builder and name.

    :func:`extra_rows` are added after covering: as presets they would change other rows.
    """
    rows = covering_rows(AXES, constraints=_constraints(), presets=_presets())
    added = [*extra_rows(), *storage_rows()]
    return scenarios_by_name([*rows, *added], make=SglangScenario, builders=BUILDERS)
