"""A storage scenario on four real gloo ranks, two by two, and a rank that diverges."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
import torch

from assembler import collectives
from assembler.cache.keys import token_ids
from assembler.collectives import CacheRanks, CollectiveRole
from traces.diff.ranks import rank_divergences
from traces.schema.collectives import Collective
from traces.schema.storage_records import StorageMatch
from traces.targets.common.errors import ForkError
from traces.targets.common.ranks import run_on_ranks
from traces.targets.native import rank_run
from traces.targets.native.rank_run import rank_groups_of, record_on_ranks
from traces.targets.native.scenarios import storage_scenarios

SCENARIO = replace(storage_scenarios()[0], groups="tp4cp2")
TREE = replace(
    next(scenario for scenario in storage_scenarios() if scenario.tier == "tree"), groups="tp4cp2"
)
SECONDS = 120


def arrived(recording):
    digests = [one for one in recording.trace.digests if isinstance(one, StorageMatch)]
    return [one.arrived for one in digests]


def test_two_by_two_ranks_record_the_same_in_every_run():
    first, second = (
        record_on_ranks(SCENARIO, device="sim", backend="gloo", seconds=SECONDS) for _ in range(2)
    )

    assert [one.trace.outcome.ok for one in first] == [True] * 4
    assert [arrived(one) for one in first] == [[64, 32, 0, 64]] * 4
    encoded = [[msgspec.json.encode(one.trace) for one in run] for run in (first, second)]
    assert encoded[0] == encoded[1]
    assert len(set(encoded[0])) == 4
    assert rank_divergences(first) == ()
    joined = [one for one in first[3].trace.events if isinstance(one, Collective)]
    assert {(one.group, one.ranks, one.rank) for one in joined} == {
        ("attn_tp.storage", (2, 3), 1),
        ("attn_tp.prefetch", (2, 3), 1),
        ("attn_cp.storage", (1, 3), 1),
        ("attn_cp.prefetch", (1, 3), 1),
    }


def test_ranks_of_a_cache_fetch_the_same_pages_in_every_run():
    first, second = (
        record_on_ranks(TREE, device="sim", backend="gloo", seconds=SECONDS) for _ in range(2)
    )

    assert [one.trace.outcome.ok for one in first] == [True] * 4
    assert [arrived(one) for one in first] == [[16, 32, 32]] * 4
    encoded = [[msgspec.json.encode(one.trace) for one in run] for run in (first, second)]
    assert encoded[0] == encoded[1]
    assert rank_divergences(first) == ()


@pytest.mark.parametrize(("groups", "rank_num"), [("pp2s0", 2), ("tp2pp2s0", 4)])
@pytest.mark.parametrize("scenario", [SCENARIO, TREE], ids=["script", "tree"])
def test_stages_keep_the_same_pages_and_layers_of_their_own(scenario, groups, rank_num):
    recordings = record_on_ranks(
        replace(scenario, groups=groups), device="sim", backend="gloo", seconds=SECONDS
    )

    assert [one.trace.outcome.ok for one in recordings] == [True] * rank_num
    expected = [64, 32, 0, 64] if scenario is SCENARIO else [16, 32, 32]
    assert [arrived(one) for one in recordings] == [expected] * rank_num
    assert rank_divergences(recordings) == ()
    for rank, recording in enumerate(recordings):
        joined = [one for one in recording.trace.events if isinstance(one, Collective)]
        stages = tuple(range(rank % (rank_num // 2), rank_num, rank_num // 2))
        assert {(one.ranks, one.rank) for one in joined if one.group.startswith("pp")} == {
            (stages, rank // (rank_num // 2))
        }
        built = next(one for one in recording.trace.calls if one.callee == "build_kv_only_stack")
        layers = next(one.value for one in built.arguments if one.name == "full_layer_mapping")
        first = 4 * (rank // (rank_num // 2))
        assert layers == {"map": [[first + layer, layer] for layer in range(4)]}


def test_a_stage_without_a_page_makes_every_stage_take_the_shorter_prefix(monkeypatch):
    from traces.targets.native.storage_script import StorageTierScript

    fetch = StorageTierScript._fetch

    def fetch_with_a_hole(self, phase):
        if phase == "fetch" and self._controller.pp_rank == 1:
            storage = self._storage
            storage.blobs.remove(storage.page_name("kv", self._keys[3]))
        return fetch(self, phase)

    monkeypatch.setattr(StorageTierScript, "_fetch", fetch_with_a_hole)
    stages = replace(SCENARIO, groups="pp2s0")
    with_group = record_on_ranks(stages, device="cpu", backend="gloo", seconds=SECONDS)
    monkeypatch.setattr(rank_run, "rank_groups_of", without_pipeline_group)
    without = record_on_ranks(stages, device="cpu", backend="gloo", seconds=SECONDS)

    assert [arrived(one)[0] for one in with_group] == [48, 48]
    # Control: what the stages would do without their group.
    assert [arrived(one)[0] for one in without] == [64, 48]


def without_pipeline_group(rank, shape, *, backend):
    return replace(rank_groups_of(rank, shape, backend=backend), pp=None)


def test_cache_keeps_what_every_rank_has(monkeypatch):
    from traces.targets.native.cache_storage_script import CacheStorageScript

    fetch = CacheStorageScript._fetch

    def fetch_with_a_hole(self):
        if self._controller.attn_cp_rank == 1:
            tier = self._controller.storage_tier
            tokens = token_ids(self._written[0].key.data).tolist()
            key = tier.page_keys(tokens, prior=None, namespace="tenant")[1]
            tier.storage.blobs.remove(tier.storage.page_name("kv", key))
        return fetch(self)

    monkeypatch.setattr(CacheStorageScript, "_fetch", fetch_with_a_hole)
    recordings = record_on_ranks(TREE, device="cpu", backend="gloo", seconds=SECONDS)

    # The second page of the first request is missing on two ranks.
    assert [arrived(one) for one in recordings] == [[16, 16, 32]] * 4


def test_a_rank_without_a_page_makes_every_rank_take_the_shorter_prefix(monkeypatch):
    from traces.targets.native.storage_script import StorageTierScript

    fetch = StorageTierScript._fetch

    def fetch_with_a_hole(self, phase):
        if phase == "fetch" and self._controller.attn_cp_rank == 1:
            storage = self._storage
            storage.blobs.remove(storage.page_name("kv", self._keys[3]))
        return fetch(self, phase)

    monkeypatch.setattr(StorageTierScript, "_fetch", fetch_with_a_hole)
    recordings = record_on_ranks(SCENARIO, device="cpu", backend="gloo", seconds=SECONDS)

    assert [arrived(one)[0] for one in recordings] == [48] * 4


def test_a_rank_that_leaves_a_collective_out_is_reported_with_both_traces(monkeypatch):
    monkeypatch.setattr(collectives, "TIMEOUT", timedelta(seconds=3))
    minimum = CacheRanks.minimum

    def without_hits_on_one_rank(self, values, *, role):
        is_last = self.groups and self.groups[0].group.rank() == 1
        if role is CollectiveRole.PREFETCH_HITS and is_last:
            return list(values)
        return minimum(self, values, role=role)

    monkeypatch.setattr(CacheRanks, "minimum", without_hits_on_one_rank)
    recordings = record_on_ranks(SCENARIO, device="cpu", backend="gloo", seconds=SECONDS)
    divergences = rank_divergences(recordings)

    assert {one.ranks for one in divergences} >= {(0, 2), (1, 3)}
    (found,) = [one for one in divergences if one.ranks == (0, 2)]
    assert found.recordings == (recordings[0], recordings[2])
    assert not all(outcome.ok for outcome in found.outcomes)
    assert str(found).startswith("ranks 0 and 2")


def test_a_rank_that_never_answers_ends_with_an_error():
    def work(rank):
        if rank == 1:
            while True:
                pass
        return rank

    with pytest.raises(ForkError, match=r"every rank must answer; .*, got none of 1"):
        run_on_ranks(2, work, backend="gloo", seconds=5)
    with pytest.raises(ForkError, match=r"rank 1: must answer; .*, got ZeroDivisionError"):
        run_on_ranks(2, lambda rank: 1 // (1 - rank), backend="gloo", seconds=60)
    assert run_on_ranks(2, lambda rank: rank + 1, backend="gloo", seconds=60) == [1, 2]


def test_ranks_work_after_operations_of_this_process_that_used_several_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        large = torch.ones(1 << 22)
        assert large.sum() == 1 << 22
        sums = run_on_ranks(2, lambda rank: float((large * rank).sum()), backend="gloo", seconds=60)
    finally:
        torch.set_num_threads(before)

    assert sums == [0.0, float(1 << 22)]
