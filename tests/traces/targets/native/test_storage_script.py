"""Storage scenarios: what they bring back, and what a fault in the tier changes in their traces."""

import pytest

from assembler.collectives import CacheRanks
from assembler.controller import attachment, storage_work
from assembler.stacks import kv_only
from assembler.storage.paged import PagedStorage
from traces.diff.comparison import diff
from traces.schema.collectives import Collective
from traces.schema.storage_records import StorageAccess, StorageMatch
from traces.schema.verdict import Kind
from traces.targets.native.run import run_scenario
from traces.targets.native.scenarios import storage_scenarios

SCENARIOS = {scenario.model: scenario for scenario in reversed(storage_scenarios())}


def matches(recording):
    found = [one for one in recording.trace.digests if isinstance(one, StorageMatch)]
    return {one.phase: (one.arrived // 16, one.pools, one.equal) for one in found}


def accesses(recording, operation):
    events = [one for one in recording.trace.events if isinstance(one, StorageAccess)]
    return [one for one in events if one.operation == operation]


@pytest.mark.parametrize("device", ["cpu", "sim"])
def test_a_window_comes_back_with_whole_prefixes_only(device):
    recording = run_scenario(SCENARIOS["gpt_oss"], device=device)

    assert recording.trace.outcome.ok
    assert matches(recording) == {
        "fetch": (4, {"SWA": 2}, True),
        "torn": (2, {}, True),
        "missing": (0, {}, None),
        "reattach": (4, {"SWA": 2}, True),
    }


def test_the_last_rank_stores_its_states_and_not_the_latent_rows_of_all_ranks():
    recording = run_scenario(SCENARIOS["kimi_linear"], device="sim")
    assert {one.pool for one in accesses(recording, "store")} == {"MAMBA"}

    control = run_scenario(SCENARIOS["qwen3_next"], device="sim")
    assert {one.pool for one in accesses(control, "store")} == {"MAMBA", "KV"}


def test_bytes_of_another_page_are_seen(monkeypatch):
    fetch = PagedStorage.fetch_page

    def fetch_into_the_next_slots(self, pool, page_hash, slot):
        return fetch(self, pool, page_hash, slot + self.pools[pool].page_size)

    monkeypatch.setattr(PagedStorage, "fetch_page", fetch_into_the_next_slots)
    recording = run_scenario(SCENARIOS["llama3_8b"], device="cpu")
    assert matches(recording)["fetch"][2] is False


def test_rows_that_another_rank_writes_are_stored_when_the_rule_is_dropped(monkeypatch):
    monkeypatch.setattr(storage_work, "is_replicated", lambda pool: False)
    recording = run_scenario(SCENARIOS["kimi_linear"], device="cpu")
    assert {one.pool for one in accesses(recording, "store")} == {"MAMBA", "KV"}


def test_ranks_agree_over_attention_groups_and_stages_and_never_over_the_tensor_parallel_one():
    recording = run_scenario(SCENARIOS["llama3_8b"], device="sim")
    joined = [one for one in recording.trace.events if isinstance(one, Collective)]

    assert {(one.group, one.ranks, one.rank) for one in joined} == {
        ("attn_cp", (0, 1), 1),
        ("attn_tp", (0, 1, 2, 3), 3),
        ("pp", (7, 15, 23), 1),
    }
    hits = [one.group for one in joined if one.step == "fetch" and one.shape == (4,)]
    assert hits == ["attn_cp", "attn_tp", "pp"]


def test_ranks_that_agree_over_the_wrong_group_are_a_changed_collective(monkeypatch):
    scenario = SCENARIOS["llama3_8b"]
    base = run_scenario(scenario, device="sim")
    ranks_of = CacheRanks.of

    class WrongRanks:
        @staticmethod
        def of(*, tp_group, attn_cp_group, attn_tp_group, pp_group):
            assert attn_cp_group is not tp_group
            return ranks_of(
                tp_group=None,
                attn_cp_group=tp_group,
                attn_tp_group=attn_tp_group,
                pp_group=pp_group,
            )

    monkeypatch.setattr(attachment, "CacheRanks", WrongRanks)
    causes = diff(base, run_scenario(scenario, device="sim"))

    assert {cause.kind for cause in causes} == {Kind.COLLECTIVE_CHANGED}
    assert diff(base, base) == ()


@pytest.mark.parametrize("wrong", [None, "tp_group"])
def test_a_wrong_group_is_a_changed_argument_that_explains_its_collectives(monkeypatch, wrong):
    scenario = SCENARIOS["llama3_8b"]
    base = run_scenario(scenario, device="sim")
    settings = kv_only.ControllerSettings

    def with_wrong_group(**arguments):
        return settings(**{**arguments, "attn_cp_group": arguments.get(wrong)})

    monkeypatch.setattr(kv_only, "ControllerSettings", with_wrong_group)
    cause, *others = diff(base, run_scenario(scenario, device="sim"))

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_CHANGED, "attn_cp_group")
    assert Kind.COLLECTIVE_CHANGED in {one.kind for one in cause.consequences}
    assert others == []
