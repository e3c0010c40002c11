"""The sglang matrix covers what it says it covers, without sglang."""

from itertools import combinations, product

from traces.targets.sglang.families import FAMILIES, FAMILY_OF
from traces.targets.sglang.geometry import geometry_of
from traces.targets.sglang.hisparse_scenarios import HisparseScenario
from traces.targets.sglang.models import MODELS
from traces.targets.sglang.product_rows import ProductScenario
from traces.targets.sglang.registry import registry
from traces.targets.sglang.scenarios import AXES, BUILDERS, GROUPS, stack_scenarios

UNIFIED = "attach_hybrid_pool_to_unified_cache"
PAGE_SIZES = {
    "dsa": (64,),
    "linear_dsa": (64,),
    "qsa": (16, 64),
    "mxfp8": (128,),
    "deepseek_v4": (256,),
}
DRAFTED = ("mha", "mla", "dsa", "swa", "linear")
NAMES = {family: name for name, family in FAMILIES.items()}
BY_PAGE_ONLY = ("dsv3_mha", "qwen3_next", "kimi_linear", "glm53_flash", "inkling", "qwen4_qsa")


TREES = ("HiRadixCache", "HiMambaRadixCache", "UnifiedRadixCache.init_hicache")


def scenarios():
    """The scenarios of the covering array, and the combinations beside it."""
    return [s for s in stack_scenarios().values() if not is_of_storage(s)]


def is_of_storage(scenario):
    has_tree = scenario.builder in TREES and scenario.storage_backend is not None
    return scenario.storage_backend == "registered" or has_tree


def has_possible_rows(config):
    """The constraints on layouts and pages once more, in plain words and for whole rows only."""
    model, layout, io_backend = config["model"], config["layout"], config["io_backend"]
    family = NAMES[FAMILY_OF[model]]
    return all(
        (
            model in BUILDERS[config["builder"]],
            layout != "page_first_direct" or io_backend == "direct",
            layout in ("layer_first", "page_first_direct") or io_backend == "kernel",
            layout != "page_head" or family == "mha",
            model not in BY_PAGE_ONLY or layout in ("page_first", "page_first_direct"),
            family != "mxfp8" or layout == "page_first",
            config["page_size"] in PAGE_SIZES.get(family, (16, 64, 1)),
            family not in ("deepseek_v4", "mxfp8") or config["sizing"] == "ratio",
        )
    )


def has_possible_ranks(config):
    """The constraints on groups, drafts and storage, likewise."""
    model, builder, groups = config["model"], config["builder"], config["groups"]
    family = NAMES[FAMILY_OF[model]]
    has_storage = builder.startswith("build_") or builder == UNIFIED
    has_storage = has_storage or builder == "DecodeKVCacheOffloadManager"
    return all(
        (
            groups != "tp8dcp2" or (builder == UNIFIED and model == "dsv3"),
            groups != "tp8dcp2" or config["page_size"] == 64,
            not MODELS[model].state_layers or groups != "tp1",
            family != "minimax" or groups in ("tp1", "tp8cp2"),
            family != "mxfp8" or groups == "tp8cp2pp3",
            config["storage_backend"] is None or has_storage,
            config["draft"] == "none" or family in DRAFTED,
            config["draft"] == "none" or builder != "DecodeKVCacheOffloadManager",
            config["draft"] != "sidecar" or not builder.startswith("build_"),
        )
    )


def pairs(config):
    return {frozenset(pair) for pair in combinations(config.items(), 2)}


def possible_pairs():
    rows = ("builder", "model", "layout", "io_backend", "page_size", "sizing")
    ranks = ("write_policy", "storage_backend", "groups", "draft")
    found = set()
    for some in product(*(AXES[axis] for axis in rows)):
        config = dict(zip(rows, some, strict=True))
        if has_possible_rows(config):
            for others in product(*(AXES[axis] for axis in ranks)):
                whole = {**config, **dict(zip(ranks, others, strict=True))}
                if has_possible_ranks(whole):
                    found |= pairs(whole)
    return found


def test_every_possible_pair_of_axis_values_is_played():
    covered = set().union(*(pairs(s.config) for s in scenarios()))
    possible = possible_pairs()
    # Drafts with states of their own come on top of the array.
    on_top = {
        frozenset({("draft", "packed"), ("model", "inkling")}),
        frozenset({("draft", "packed"), ("builder", "build_hybrid_mamba_swa_stack")}),
    }
    # So do a model that shows both ends of its compressed layers, and one with side states.
    odd = {pair for pair in covered if pair & {("model", "dsv4_flash_odd"), ("model", "qwen4_ple")}}
    assert len(odd) == 9 + 14
    assert possible - covered == set()
    assert covered - possible - odd == on_top


def test_matrix_has_130_scenarios_with_names_of_their_own():
    assert len(scenarios()) == 130
    assert len({s.name for s in scenarios()}) == 130


def test_packed_drafts_with_states_lie_under_a_builder_and_under_a_tree():
    names = [s.name for s in scenarios() if s.model == "inkling"]
    assert [name for name in names if name.endswith("packed_draft")] == [
        "mamba_swa.inkling.page_first.kernel.wb.p64.ratio.tp8cp2pp3.packed_draft",
        "unified.inkling.page_first_direct.direct.wt.p16.ratio.tp8cp2.packed_draft",
    ]
    undrafted = [name for name in names if not name.endswith("packed_draft")]
    assert undrafted == [
        "mamba_swa.inkling.page_first.kernel.wb.p64.ratio.tp8cp2pp3",
        "mamba_swa.inkling.page_first.kernel.wt.p1.gb.tp4cp4pp5.dynamic",
        "mamba_swa.inkling.page_first_direct.direct.wts.p16.ratio.tp8cp2.dynamic",
        "unified.inkling.page_first.kernel.wt.p1.gb.tp4cp4pp5.dynamic",
        "unified.inkling.page_first_direct.direct.wts.p16.ratio.tp8cp2.dynamic",
    ]


def test_every_entry_is_played():
    assert {s.builder for s in scenarios()} == {
        "build_kv_only_stack",
        "build_hybrid_swa_stack",
        "build_hybrid_mamba_stack",
        "build_hybrid_mamba_swa_stack",
        "build_anchor_sidecar_stack",
        "build_deepseek_v4_hicache_stack",
        "build_minimax_sparse_hicache_stack",
        "attach_hybrid_pool_to_unified_cache",
        "attach_hybrid_dsa_pool_to_hiradix_cache",
        "attach_hybrid_minimax_sparse_pool_to_hiradix_cache",
        "attach_hybrid_pool_to_mamba_cache",
        "HiRadixCache",
        "HiMambaRadixCache",
        "UnifiedRadixCache.init_hicache",
        "DecodeKVCacheOffloadManager",
    }


def test_every_entry_plays_every_family_with_groups_on_both_backends():
    played = {(s.builder, NAMES[FAMILY_OF[s.model]]): set() for s in scenarios()}
    for scenario in scenarios():
        shape = GROUPS[scenario.groups]
        if shape.attn_cp_size > 1 and shape.tp_size > 1:
            played[scenario.builder, NAMES[FAMILY_OF[scenario.model]]].add(scenario.io_backend)
    assert {pair: io for pair, io in played.items() if io != {"kernel", "direct"}} == {
        # Interleaved scales are moved by kernels only.
        (UNIFIED, "mxfp8"): {"kernel"},
    }


def test_hard_cases_are_played():
    played = {(s.builder, s.model, s.groups, s.draft, s.storage_backend) for s in scenarios()}
    some = {(b, m, d) for b, m, _, d, _ in played}
    assert (UNIFIED, "dsv3", "tp8dcp2", "sidecar") in {row[:4] for row in played}
    assert (UNIFIED, "gpt_oss", "packed") in some
    assert (UNIFIED, "qwen3_next", "packed") in some
    assert ("HiRadixCache", "dsv32_fp8", "sidecar") in some
    assert ("HiRadixCache", "minimax_m3_dense", "none") in some
    assert (UNIFIED, "minimax_m3", "dynamic") in {(b, m, s) for b, m, _, _, s in played}


def test_name_says_every_axis_and_is_a_file_name():
    scenario = registry()["unified.dsv3.layer_first.kernel.wts.p64.ratio.tp8dcp2.sidecar_draft"]
    assert scenario.config == {
        "builder": "attach_hybrid_pool_to_unified_cache",
        "model": "dsv3",
        "layout": "layer_first",
        "io_backend": "kernel",
        "write_policy": "write_through_selective",
        "page_size": 64,
        "sizing": "ratio",
        "storage_backend": None,
        "groups": "tp8dcp2",
        "draft": "sidecar",
    }
    assert all(
        set(s.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._") and len(s.name) <= 90
        for s in scenarios()
    )


def test_ranks_and_sizes_of_groups_are_distinct_where_there_are_any():
    assert [
        (s.tp_size, s.attn_cp_size, s.attn_tp_size, s.pp_rank, s.pp_size, s.dcp_size)
        for s in list(GROUPS.values())[:5]
    ] == [
        (1, 0, 0, 0, 1, 1),
        (8, 2, 4, 0, 1, 1),
        (8, 2, 4, 1, 3, 1),
        (4, 4, 0, 3, 5, 1),
        (8, 0, 8, 0, 1, 2),
    ]
    used = {s.groups for s in registry().values() if s.storage_backend == "registered"}
    assert set(GROUPS) - used == {"tp1", "tp8cp2", "tp8cp2pp3", "tp4cp4pp5", "tp8dcp2"}


def test_pages_of_neighbouring_ranks_and_formats_are_stored_in_the_same_backends():
    """Any part of a page's identity differs between two scenarios that are equal otherwise."""
    rows = [s.config for s in registry().values() if s.storage_backend == "registered"]
    alone = set()
    for one, other in combinations(rows, 2):
        fields = [field for field in one if one[field] != other[field]]
        if len(fields) == 1:
            values = sorted(str(row[fields[0]]) for row in (one, other))
            alone.add((one["model"], fields[0], *values))
    assert {
        ("llama3_8b", "tp_rank", "0", "1"),
        ("llama3_8b", "pp_rank", "0", "1"),
        ("llama3_8b", "layout", "layer_first", "page_first"),
        ("dsv3", "tp_rank", "0", "1"),
        ("dsv3", "pp_rank", "0", "1"),
        ("kimi_linear", "tp_rank", "0", "1"),
    } <= alone
    models = {tuple(one[2:]) for one in alone if one[1] == "model"}
    assert {("llama3_8b", "llama3_8b_fp8"), ("dsv32_bf16", "dsv32_fp8")} <= models
    assert ("dsv3", "dsv32_kv_fp8") in models


def test_trees_open_storage_with_each_write_policy_that_decides_when_pages_go_there():
    policies = {
        s.write_policy for s in registry().values() if s.builder in TREES and is_of_storage(s)
    }
    assert policies == {"write_back", "write_through"}


def test_every_kind_of_pool_is_made_by_the_release_itself():
    made = [s for s in registry().values() if s.configures_pools]
    assert {s.builder for s in made} == {"KVCacheConfigurator"}
    assert {NAMES[FAMILY_OF[s.model]] for s in made} == set(NAMES.values()) - {"packed_mla"}
    assert {s.groups for s in made if s.model != "minimax_m3"} == {"tp8cp2pp3"}
    assert len(made) == 14
    assert len(registry()) == len(stack_scenarios()) + 14 + len(products()) + len(hisparse())


def hisparse():
    return [s for s in registry().values() if isinstance(s, HisparseScenario)]


def test_rows_that_only_the_host_has_are_played_for_every_kind_of_rows():
    assert [(s.model, s.groups, s.pool_class, s.pool_arguments) for s in hisparse()] == [
        ("dsv32_fp8", "tp8cp2", "HiSparseDSATokenToKVPool", {}),
        ("dsv32_bf16", "tp8cp2pp3", "HiSparseDSATokenToKVPool", {}),
        ("minimax_m3", "tp8cp2", "", {"enable_hisparse": True, "host_to_device_ratio": 3}),
    ]
    assert {s.has_traffic for s in hisparse()} == {False}


def test_windows_are_longer_than_any_sequence_or_shorter_than_all():
    windows = {
        (s.page_size, s.io_backend): geometry_of(s).window
        for s in registry().values()
        if s.model in ("gpt_oss", "inkling")
    }
    assert windows[16, "direct"] == 24
    assert windows[64, "direct"] == 96
    assert {windows[key] for key in windows if key[1] == "kernel"} == {128}
    assert {geometry_of(s).window for s in registry().values() if s.model == "llama3_8b"} == {128}


def products():
    return {s.name: s for s in registry().values() if isinstance(s, ProductScenario)}


def test_every_entry_assembles_every_family_that_it_accepts_without_traffic():
    accepted = {(b, NAMES[FAMILY_OF[m]]) for b, models in BUILDERS.items() for m in models}
    assert {(s.builder, s.family) for s in products().values()} == accepted
    assert {s.has_traffic for s in products().values()} == {False}
    assert "product.unified.linear_swa" in products()


def test_an_entry_with_a_cache_is_given_drafts_of_every_kind_and_pool_in_every_layout():
    rows = products()["product.unified.swa"].rows()
    assert {(row.draft, row.draft_pool) for row in rows} == {
        ("none", "own"),
        *product(("sidecar", "packed"), ("own", "bare", "mha", "mla", "dsa")),
        ("packed", "full_windows"),
    }
    pairs_of_axes = {(row.layout, row.draft_pool) for row in rows}
    pools = ("own", "bare", "mha", "mla", "dsa", "full_windows")
    assert pairs_of_axes == set(product(AXES["layout"][:3], pools))
    assert len({row.step for row in rows}) == len(rows)
    assert all(row.layout != "page_first_direct" or row.io_backend == "direct" for row in rows)


def test_a_builder_is_given_packed_drafts_only_and_a_manager_none():
    assert {row.draft for row in products()["product.kv_only.mla"].rows()} == {"none", "packed"}
    assert {row.draft for row in products()["product.decode_offload.mla"].rows()} == {"none"}
    assert {row.groups for row in products()["product.unified.mla"].rows()} >= {"tp8dcp2"}
    assert "tp8dcp2" not in {row.groups for row in products()["product.kv_only.mla"].rows()}
