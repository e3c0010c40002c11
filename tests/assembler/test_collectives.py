"""Groups of 2 and 4 real processes over gloo, and of one process."""

from datetime import timedelta

import pytest
from torch import distributed

from assembler import collectives
from assembler.collectives import CacheRanks, CollectiveRole, NamedGroup, ranks_of
from assembler.errors import CollectiveError
from assembler.groups import LocalGroup, ProcessGroup
from traces.targets.common.ranks import run_on_ranks

ROLE = CollectiveRole.PREFETCH_HITS


def on_ranks(world, work):
    return run_on_ranks(world, work, backend="gloo", seconds=120)


def groups_of(rank):
    """Return tensor-parallel pairs (0,1) and (2,3) and context-parallel pairs (0,2) and (1,3)."""
    tp = {ranks: distributed.new_group(ranks) for ranks in ((0, 1), (2, 3))}
    cp = {ranks: distributed.new_group(ranks) for ranks in ((0, 2), (1, 3))}
    own = {}
    for name, groups in (("tp", tp), ("cp", cp)):
        (own[name],) = [group for ranks, group in groups.items() if rank in ranks]
    return own["tp"], own["cp"]


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_agree_on_the_least_of_every_value(world):
    def work(rank):
        ranks = CacheRanks.of(
            tp_group=distributed.group.WORLD, attn_cp_group=None, attn_tp_group=None, pp_group=None
        )
        return ranks.minimum([rank + 3, world - rank, 8], role=ROLE)

    assert on_ranks(world, work) == [[3, 1, 8]] * world


def test_two_groups_of_two_agree_over_all_four_ranks():
    def work(rank):
        tp, cp = groups_of(rank)
        ranks = CacheRanks.of(tp_group=None, attn_cp_group=cp, attn_tp_group=tp, pp_group=None)
        alone = CacheRanks.of(tp_group=None, attn_cp_group=cp, attn_tp_group=None, pp_group=None)
        values = [5, 4, 9, 7][rank]
        return ranks.minimum([values], role=ROLE), alone.minimum([values], role=ROLE)

    assert on_ranks(4, work) == [([4], [5]), ([4], [4]), ([4], [5]), ([4], [4])]


def test_clones_have_the_ranks_and_do_not_mix_with_the_original():
    def work(rank):
        tp, cp = groups_of(rank)
        ranks = CacheRanks.of(tp_group=None, attn_cp_group=cp, attn_tp_group=tp, pp_group=None)
        clone = ranks.clone("prefetch")
        both = [one.minimum([rank], role=ROLE) for one in (clone, ranks)]
        named = [(group.name, ranks_of(group.group)) for group in clone.groups]
        descriptions = [group.group.group_desc for group in clone.groups]
        assert ranks.clone("prefetch") is clone
        return both, named, [text.endswith(".prefetch") for text in descriptions]

    expected = [("attn_cp", (0, 2)), ("attn_tp", (0, 1))]
    assert on_ranks(4, work)[0] == ([[0], [0]], expected, [True, True])


def test_a_rank_that_stalls_is_an_error_and_no_hang(monkeypatch):
    monkeypatch.setattr(collectives, "TIMEOUT", timedelta(seconds=2))

    def work(rank):
        group = NamedGroup(name="tp", group=distributed.group.WORLD)
        if rank == 1:
            return "stalled"
        try:
            collectives.reduce_minimum(group, [1], role=ROLE)
        except CollectiveError as error:
            return str(error)
        return "no error"

    first, second = on_ranks(2, work)
    assert second == "stalled"
    assert first.startswith(
        "group tp: every rank must take part in prefetch_hits; expected ranks 0, 1, got"
    )


class DeviceWork:
    """Work of a device that is done at the third look."""

    looks = 0

    def is_completed(self):
        self.looks += 1
        return self.looks == 3


def test_the_host_waits_for_work_of_a_device_until_it_is_done_or_late(monkeypatch):
    work = DeviceWork()
    collectives._wait_until_done(work)
    assert work.looks == 3

    monkeypatch.setattr(collectives, "TIMEOUT", timedelta(seconds=0))
    with pytest.raises(TimeoutError, match=r"^no answer in 0 seconds$"):
        collectives._wait_until_done(DeviceWork())


def test_gloo_reduces_on_the_host():
    def work(rank):
        return str(collectives._device_of(distributed.group.WORLD))

    assert on_ranks(2, work) == ["cpu", "cpu"]


def test_torch_groups_are_process_groups():
    def work(rank):
        group = distributed.group.WORLD
        return isinstance(group, ProcessGroup), group.rank(), group.size(), ranks_of(group)

    assert on_ranks(2, work) == [(True, rank, 2, (0, 1)) for rank in range(2)]


def local(tag, size):
    return LocalGroup(tag, tuple(range(size)), size - 1)


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ((local("tp", 2), None, None, None), ["tp"]),
        ((local("tp", 2), local("cp", 3), None, None), ["attn_cp"]),
        ((local("tp", 2), local("cp", 3), local("attn", 2), None), ["attn_cp", "attn_tp"]),
        ((local("tp", 2), local("cp", 2), local("attn", 2), None), ["attn_cp"]),
        ((local("tp", 2), local("cp", 1), local("attn", 2), None), ["attn_tp"]),
        ((local("tp", 2), None, None, local("pp", 3)), ["tp", "pp"]),
        ((local("tp", 2), local("cp", 3), None, local("pp", 4)), ["attn_cp", "pp"]),
        ((local("tp", 1), None, None, local("pp", 2)), ["pp"]),
        ((local("tp", 2), None, None, local("pp", 1)), ["tp"]),
        ((local("tp", 1), None, None, None), []),
        ((None, None, None, None), []),
    ],
)
def test_the_groups_that_agree_are_distinct_and_have_other_ranks(groups, names):
    tp, cp, attn_tp, pp = groups
    ranks = CacheRanks.of(tp_group=tp, attn_cp_group=cp, attn_tp_group=attn_tp, pp_group=pp)
    assert [group.name for group in ranks.groups] == names


def test_a_local_group_agrees_with_itself():
    ranks = CacheRanks.of(
        tp_group=local("tp", 2), attn_cp_group=None, attn_tp_group=None, pp_group=None
    )
    assert ranks.minimum([4, 2], role=ROLE) == [4, 2]
    assert ranks.clone("prefetch") == ranks
