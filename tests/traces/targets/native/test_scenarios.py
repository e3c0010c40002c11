"""The matrix covers what the contract says it covers."""

from itertools import combinations, product

import pytest

from traces.targets.native.models import FAMILIES, FAMILY_OF, MODELS
from traces.targets.native.refusal_script import MISTAKES
from traces.targets.native.scenarios import (
    AXES,
    BUILDERS,
    GROUPS,
    covering_scenarios,
    family_scenarios,
    refusal_scenarios,
    registry,
    scattered_scenarios,
    scenario_of_config,
    storage_scenarios,
)

NAMES = {family: name for name, family in FAMILIES.items()}
OWN_ROWS = [family for family in FAMILIES.values() if family.rows]


def scenarios():
    return list(covering_scenarios().values())


def is_possible(config):
    """The constraints once more, in plain words and for whole rows only."""
    family = NAMES[FAMILY_OF[config["model"]]]
    direct_page_first = config["io_backend"] == "direct" and config["layout"] == "page_first"
    return all(
        (
            config["model"] in BUILDERS[config["builder"]],
            config["layout"] != "page_first_direct" or config["io_backend"] == "direct",
            config["layout"] != "page_head" or config["io_backend"] == "kernel",
            config["layout"] != "page_head" or family == "mha",
            family != "nsa" or config["page_size"] == 64,
            family != "linear" or config["groups"] != "tp1",
            not config["draft"] or family in ("mha", "mla", "nsa"),
            not direct_page_first or config["builder"].endswith(".init_hicache"),
        )
    )


def pairs(config):
    return {frozenset(pair) for pair in combinations(config.items(), 2)}


def test_every_possible_pair_of_axis_values_is_played():
    covered = set().union(*(pairs(s.config) for s in scenarios()))
    possible = set()
    for values in product(*AXES.values()):
        config = dict(zip(AXES, values, strict=True))
        if is_possible(config):
            possible |= pairs(config)
    assert possible - covered == set()
    assert covered - possible == set()


def test_matrix_has_71_scenarios_and_29_variants_beside_those_of_entries():
    assert len(scenarios()) == 71
    assert len(registry()) == 71 + 16 + 3 + 10 + len(family_scenarios())


def test_every_mistake_has_a_scenario_and_no_traffic():
    assert sorted(s.mistake for s in refusal_scenarios()) == sorted(MISTAKES)
    variants = [*refusal_scenarios(), *scattered_scenarios(), *storage_scenarios()]
    assert {s.has_traffic for s in variants} == {False}
    assert {s.has_traffic for s in scenarios()} == {True}


@pytest.mark.parametrize("name", list(registry()))
def test_scenario_is_rebuilt_from_its_axes(name):
    assert scenario_of_config(registry()[name].config, name) == registry()[name]


def test_scenarios_of_an_entry_are_ones_that_its_pools_can_have():
    for entry in OWN_ROWS:
        own = [s for s in family_scenarios() if s.model in entry.models]
        assert 3 <= len(own) == len(entry.rows) * len(entry.models) <= 6
        for scenario in own:
            direct_page_first = (scenario.io_backend, scenario.layout) == ("direct", "page_first")
            assert scenario.layout in entry.layouts
            assert scenario.page_size in entry.page_sizes
            assert not scenario.draft or entry.make_draft_pool is not None
            assert scenario.layout != "page_first_direct" or scenario.io_backend == "direct"
            assert not direct_page_first or scenario.builder.endswith(".init_hicache")


@pytest.mark.parametrize("axis", ["layout", "io_backend", "write_policy", "sizing", "draft"])
def test_scenarios_of_an_entry_have_every_value_of_an_axis_that_its_pools_can_have(axis):
    for entry in OWN_ROWS:
        possible = entry.layouts if axis == "layout" else AXES[axis]
        own = [s for s in family_scenarios() if s.model in entry.models]
        assert {getattr(s, axis) for s in own} == set(possible)


def test_every_builder_and_model_of_the_contract_is_played():
    assert {s.builder for s in scenarios()} == {
        "build_kv_only_stack",
        "build_hybrid_swa_stack",
        "build_hybrid_mamba_stack",
        "build_shared_anchor_stack",
        "attach_hybrid_pool_to_unified_cache",
        "attach_hybrid_nsa_pool_to_hiradix_cache",
        "attach_hybrid_pool_to_mamba_cache",
        "UnifiedRadixCache.init_hicache",
        "HiRadixCache.init_hicache",
        "HiMambaRadixCache.init_hicache",
    }
    assert {s.model for s in [*scenarios(), *family_scenarios()]} == set(MODELS)


def test_every_builder_plays_every_family_with_groups_and_stages_that_no_default_has():
    every = [*scenarios(), *family_scenarios()]
    played = {(s.builder, NAMES[FAMILY_OF[s.model]]): set() for s in every}
    for scenario in every:
        shape = GROUPS[scenario.groups]
        said = played[scenario.builder, NAMES[FAMILY_OF[scenario.model]]]
        said |= {"cp"} if shape.attn_cp_size else set()
        said |= {"tp"} if shape.attn_tp_size else set()
        said |= {"pp"} if shape.pp_size > 1 else set()
    assert {pair: said for pair, said in played.items() if said != {"cp", "tp", "pp"}} == {}


def test_packed_rows_are_played_on_both_backends_and_so_is_the_control():
    for model in ("dsv32_fp8", "dsv32_bf16"):
        assert {s.io_backend for s in scenarios() if s.model == model} == {"kernel", "direct"}


@pytest.mark.parametrize("name", list(registry()))
def test_name_is_a_safe_file_name_and_says_the_model(name):
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._")
    assert len(name) <= 80
    assert registry()[name].model in name


def test_nemotron_layer_ids_have_holes():
    model = MODELS["nemotron_h"]
    assert model.state_layers == (0, 2, 4, 7)
    assert model.full_layers == (5,)
    assert model.layer_span == 8
