"""Scenarios of the native target: every builder over every pool family it accepts, pairwise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from typing_extensions import override

from traces.errors import TraceFormatError
from traces.targets.common.covering import (
    Row,
    builder_constraints,
    covering_rows,
    implies,
    scenarios_by_name,
)
from traces.targets.common.models import SHARED_MODELS
from traces.targets.common.scenario import (
    IO_BACKENDS,
    LAYOUTS,
    RANK_SHAPES,
    SIZINGS,
    WRITE_POLICIES,
    Scenario,
)
from traces.targets.native.family import FamilyEntry
from traces.targets.native.models import FAMILIES, FAMILY_OF, MODELS

_MATRIX_GROUPS = ("tp1", "tp8pp2", "tp8cp2pp3", "tp4cp4pp5")
# Shapes of runs on real ranks; those of a pipeline by stage.
_REAL_GROUPS = ("tp4cp2", "pp2s0", "pp2s1", "tp2pp2s0", "tp2pp2s1")
GROUPS = {name: RANK_SHAPES[name] for name in (*_MATRIX_GROUPS, *_REAL_GROUPS)}

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
"""Models by builder that accepts them."""

# The order of the values is the order in which the covering array prefers them.
AXES: dict[str, tuple[Any, ...]] = {
    "builder": tuple(BUILDERS),
    # A model of one family alone brings its scenarios along.
    "model": tuple(SHARED_MODELS),
    "layout": LAYOUTS,
    "io_backend": IO_BACKENDS,
    "write_policy": tuple(WRITE_POLICIES),
    "page_size": (16, 64, 1),
    "sizing": SIZINGS,
    "storage_backend": ("file", None),
    "groups": _MATRIX_GROUPS,
    "draft": (False, True),
}

REFUSED: dict[str, dict[str, str]] = {
    "build_kv_only_stack": {
        "row_bytes": "dsv32_kv_fp8",
        "row_dtype": "llama3_8b",
        "row_shape": "llama3_8b",
        "planes": "llama3_8b",
        "layer_num": "llama3_8b",
        "layer_unreached": "llama3_8b",
        "layer_loaded_twice": "llama3_8b",
        "missing_pool": "dsv32_fp8",
        "draft_row_bytes": "llama3_8b",
        "draft_pages": "llama3_8b",
        "draft_slots": "llama3_8b",
        "draft_layers": "llama3_8b",
        "draft_missing_pool": "dsv3",
    },
    "build_shared_anchor_stack": {
        "surplus_pool": "dsv3",
        "slots_per_row": "dsv32_fp8",
        "page_size": "dsv32_fp8",
    },
}
"""Models by mistake, by builder that is called with it."""

_VARIANT_AXES: Row = {
    "layout": "layer_first",
    "io_backend": "kernel",
    "write_policy": "write_through_selective",
    "page_size": 64,
    "sizing": "ratio",
    "storage_backend": None,
    "groups": "tp8cp2pp3",
    "draft": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeScenario(Scenario):
    """One named configuration that this repository's builders assemble.

    Attributes:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalScenario(NativeScenario):
    """An assembly with one mistake, which a validation rule must refuse.

    Attributes:
        mistake: key of ``MISTAKES`` in :mod:`traces.targets.native.refusal_script`.
    """

    mistake: str

    @property
    @override
    def name(self) -> str:
        return f"refusal.{self.mistake}.{self.model}"

    @property
    @override
    def has_traffic(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteredScenario(NativeScenario):
    """A scenario whose free slots are ``scattered``, and that reads after a reset."""

    slots: str

    @property
    @override
    def draft_name(self) -> str:
        return self.slots

    @property
    @override
    def has_traffic(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageScenario(NativeScenario):
    """A scenario that stores pages and fetches them.

    Attributes:
        tier: who uses the storage tier: ``stored`` for the script itself, ``tree`` for the cache.
    """

    tier: str

    @property
    @override
    def draft_name(self) -> str:
        return self.tier

    @property
    @override
    def has_traffic(self) -> bool:
        return False


@cache
def registry() -> dict[str, NativeScenario]:
    """Return every scenario by name: the covering array by builder and name, then others."""
    named = covering_scenarios()
    others = (
        *family_scenarios(),
        *refusal_scenarios(),
        *scattered_scenarios(),
        *storage_scenarios(),
    )
    return {**named, **{scenario.name: scenario for scenario in others}}


@cache
def covering_scenarios() -> dict[str, NativeScenario]:
    """Return the scenarios of the covering array by name, in order of builder and name."""
    rows = covering_rows(AXES, constraints=_constraints(), presets=_presets())
    return scenarios_by_name(rows, make=NativeScenario, builders=BUILDERS)


def family_scenarios() -> list[NativeScenario]:
    """Return the scenarios that families declare beside the covering array."""
    return [NativeScenario(**row) for entry in FAMILIES.values() for row in entry.scenario_rows()]


def refusal_scenarios() -> list[RefusalScenario]:
    """Return one scenario for each mistake that a validation rule must refuse."""
    return [
        RefusalScenario(builder=builder, model=model, mistake=mistake, **_VARIANT_AXES)
        for builder, models in REFUSED.items()
        for mistake, model in models.items()
    ]


def scattered_scenarios() -> list[ScatteredScenario]:
    """Return one scenario for each way of moving rows, and one with slots of states."""
    by_slice: Row = {"io_backend": "direct", "write_policy": "write_back"}
    axes = {**_VARIANT_AXES, "page_size": 1, "slots": "scattered"}
    rows: list[tuple[str, str, Row]] = [
        ("build_kv_only_stack", "llama3_8b", by_slice),
        ("build_kv_only_stack", "dsv3", {"layout": "page_first"}),
        ("build_hybrid_mamba_stack", "nemotron_h", by_slice),
    ]
    return [
        ScatteredScenario(**{**axes, "builder": builder, "model": model, **changes})
        for builder, model, changes in rows
    ]


def storage_scenarios() -> list[StorageScenario]:
    """Return one scenario for each kind of pool that storage keeps, without and with a cache.

    The ranks of ``tp8cp2pp3`` are the last ones: rows that all ranks have are not theirs to store,
    states are.
    """
    axes = {**_VARIANT_AXES, "storage_backend": "file", "page_size": 16, "tier": "stored"}
    single: Row = {"groups": "tp1"}
    tree: Row = {"tier": "tree"}
    rows: list[tuple[str, str, Row]] = [
        ("build_kv_only_stack", "llama3_8b", {}),
        ("build_kv_only_stack", "llama3_8b", {"layout": "page_head"}),
        ("build_shared_anchor_stack", "dsv32_fp8", {**single, "page_size": 64}),
        ("build_hybrid_swa_stack", "gpt_oss", {"layout": "page_first"}),
        ("build_hybrid_mamba_stack", "kimi_linear", {}),
        ("build_hybrid_mamba_stack", "qwen3_next", {"layout": "page_first"}),
        ("build_kv_only_stack", "llama3_8b", tree),
        ("build_shared_anchor_stack", "dsv32_fp8", {**tree, **single, "page_size": 64}),
        ("build_hybrid_swa_stack", "gpt_oss", {**tree, "write_policy": "write_through"}),
        ("build_hybrid_mamba_stack", "qwen3_next", {**tree, "write_policy": "write_back"}),
    ]
    return [
        StorageScenario(**{**axes, "builder": builder, "model": model, **changes})
        for builder, model, changes in rows
    ]


def scenario_of_config(config: Mapping[str, Any], name: str) -> NativeScenario:
    """Return the scenario with the given axes, which need not be in the registry.

    Raises:
        TraceFormatError: an axis is missing or surplus, or has a value that no table holds.
    """
    kind: type[NativeScenario] = NativeScenario
    if "mistake" in config:
        kind = RefusalScenario
    elif "slots" in config:
        kind = ScatteredScenario
    elif "tier" in config:
        kind = StorageScenario
    axes = [field.name for field in fields(kind)]
    if sorted(config) != sorted(axes):
        expected, got = ", ".join(axes), ", ".join(config)
        raise TraceFormatError(name, "must have every axis", expected=expected, got=got)
    for axis, known in (("builder", BUILDERS), ("model", MODELS), ("groups", GROUPS)):
        if config[axis] not in known:
            rule, expected = f"{axis} must be known", ", ".join(known)
            raise TraceFormatError(name, rule, expected=expected, got=config[axis])
    return kind(**config)


def _models_with(trait: Callable[[FamilyEntry], bool]) -> list[str]:
    return [name for name in SHARED_MODELS if trait(FAMILY_OF[name])]


def _constraints() -> list[Row]:
    """Return the combinations of axis values that exist."""
    without_heads = _models_with(lambda entry: "page_head" not in entry.layouts)
    in_pages_of_64 = _models_with(lambda entry: entry.page_sizes == (64,))
    sharded = _models_with(lambda entry: entry.is_sharded)
    without_draft = _models_with(lambda entry: entry.make_draft_pool is None)
    return [
        *builder_constraints(BUILDERS),
        implies("layout", ["page_first_direct"], "io_backend", ["direct"]),
        implies("layout", ["page_head"], "io_backend", ["kernel"]),
        implies("model", without_heads, "layout", LAYOUTS[:3]),
        implies("model", in_pages_of_64, "page_size", [64]),
        # Linear-attention state shapes are those of one of eight ranks.
        implies("model", sharded, "groups", [name for name in _MATRIX_GROUPS if name != "tp1"]),
        implies("model", without_draft, "draft", [False]),
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


def _presets() -> list[Row]:
    """Return one row for every builder and family with all groups and a later stage.

    A builder may have a branch for each family; each must meet values that no default has.
    """
    rows: dict[tuple[str, FamilyEntry], Row] = {}
    for builder, models in BUILDERS.items():
        for model in models:
            row = {"builder": builder, "model": model, "groups": "tp8cp2pp3"}
            rows.setdefault((builder, FAMILY_OF[model]), row)
    return list(rows.values())
