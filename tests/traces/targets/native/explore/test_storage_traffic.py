"""Random traffic on stacks with a storage tier: eviction, abort, reset, detach, dying threads."""

import pytest
import torch

from assembler.cache.arrival import Arrival
from assembler.cache.storage_moves import StorageMoves
from assembler.cache.transfers import LoadingNodes
from assembler.cache.tree import RadixTree
from assembler.controller.storage_tier import StorageTier
from traces.explore import POLICIES, TrafficConfig, run_steps
from traces.explore.steps import (
    AbortFetch,
    Backup,
    CheckFetch,
    CheckStorage,
    CheckWrites,
    DetachStorage,
    DrainQueues,
    Evict,
    EvictHost,
    Extend,
    Fetch,
    Forward,
    InjectFault,
    Insert,
    Launch,
    LoadBack,
    ReleaseReserved,
    ReserveSlots,
    ResetCache,
    StepDevice,
)
from traces.targets.native.explore.storage_traffic import StorageTraffic
from traces.targets.native.explore.subject import NativeTrafficSubject
from traces.targets.native.scenarios import registry

BUILDERS = (
    "build_kv_only_stack",
    "attach_hybrid_nsa_pool_to_hiradix_cache",
    "build_hybrid_swa_stack",
    "build_hybrid_mamba_stack",
)
SEEDS = range(4)


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: threads would cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Their last ranks store rows, too: those of the others are stored by the first one.
SHARDED = {"llama3_8b", "qwen3_8b", "gpt_oss", "gemma3", "qwen3_next", "nemotron_h"}


def scenario_of(builder):
    return next(
        one
        for one in registry().values()
        if one.builder == builder
        and one.storage_backend == "file"
        and one.has_traffic
        and (one.groups == "tp1" or one.model in SHARDED)
    )


def violations(builder, *steps, seeds=SEEDS):
    """Return the invariants that the steps violate, under every policy and some seeds."""
    found = set()
    for policy in POLICIES:
        for seed in seeds:
            case = TrafficConfig(scenario=scenario_of(builder), seed=seed, policy=policy)
            violation = run_steps(case, steps, open_subject=NativeTrafficSubject)
            found |= {None if violation is None else violation.invariant}
    return found


STORED = (Insert(node=0, pages=2), Backup(node=0), CheckWrites(wait=True))
POLLS = (CheckStorage(), StepDevice()) * 12
LOST = (*STORED, *POLLS, Evict(part="full", pages=6), EvictHost(part="full", pages=12))
FETCHED = (*LOST, Fetch(node=0), *((CheckFetch(node=0), StepDevice()) * 40))
NEXT = (Insert(node=1, pages=1), Backup(node=1), DrainQueues())


@pytest.mark.parametrize("builder", BUILDERS)
def test_node_that_only_storage_has_comes_back_with_its_bytes(monkeypatch, builder):
    back = []
    check = StorageTraffic._check

    def count(self, number):
        check(self, number)
        back.append(number in self._model.nodes)

    monkeypatch.setattr(StorageTraffic, "_check", count)
    steps = (*FETCHED, LoadBack(node=0), Launch(), Forward(node=0), DrainQueues())
    assert violations(builder, *steps, seeds=[0]) == {None}
    assert any(back)


OPERATIONS = {
    "store": STORED,
    "prefetch": (*LOST, Fetch(node=0)),
    "load": (*FETCHED, LoadBack(node=0), Launch()),
}
ENDS = {
    "eviction": (Evict(part="full", pages=6), EvictHost(part="full", pages=12)),
    "abort": (AbortFetch(node=0),),
    "reset": (ResetCache(),),
    "detach": (DetachStorage(), Fetch(node=0)),
    "a dying thread": (InjectFault(site="storage thread", after=0, times=1), *POLLS),
    "a store that fails": (InjectFault(site="storage", after=1, times=2), *POLLS),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("end", ENDS)
def test_end_between_launch_and_finish_of_an_operation_is_sound(operation, end):
    steps = (*OPERATIONS[operation], *ENDS[end], *NEXT, *POLLS)
    for builder in BUILDERS:
        assert violations(builder, *steps, seeds=[0]) == {None}


PAIR = (Insert(node=0, pages=2), Backup(node=0), Extend(node=1, base=0, shared=2, pages=1))
PAIR_LOST = (*PAIR, Backup(node=1), CheckWrites(wait=True), *LOST[3:])
FETCH_BOTH = (*PAIR_LOST, Fetch(node=0), Fetch(node=1))
FLYING = {
    "backup": PAIR[:2],
    "store": STORED,
    "prefetch": FETCH_BOTH,
    "load": (*PAIR_LOST, *FETCHED[len(LOST) :], LoadBack(node=0), Launch()),
}


def sharing(shared):
    """Return the steps of a request that shares pages with node 0, and of what follows."""
    return (
        *(Extend(node=7, base=0, shared=shared, pages=1), Backup(node=7), StepDevice()),
        *(AbortFetch(node=0), Evict(part="full", pages=6), LoadBack(node=7), Launch()),
        *(Forward(node=7), *POLLS, CheckFetch(node=1), DrainQueues()),
    )


@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("operation", FLYING)
def test_request_shares_a_node_that_is_on_its_way_for_another(operation, shared):
    """With one page the node is split; the request that it was fetched for is aborted."""
    for builder in BUILDERS:
        assert violations(builder, *FLYING[operation], *sharing(shared), seeds=[0]) == {None}


def test_aborted_prefetch_of_shared_pages_leaves_those_of_the_other(monkeypatch):
    arrived = []
    check = StorageTraffic._check

    def count(self, number):
        check(self, number)
        if number not in self._model.requests:
            arrived.append((number, len(self._model.nodes[number].node.path())))

    monkeypatch.setattr(StorageTraffic, "_check", count)
    polls = (CheckFetch(node=1), StepDevice()) * 40
    steps = (*FETCH_BOTH, AbortFetch(node=0), *polls, DrainQueues())

    assert violations("build_kv_only_stack", *steps, seeds=[0]) == {None}
    assert {number for number, _ in arrived} == {1}


def with_splits_that_forget_locks(patch):
    split = RadixTree._split

    def forgetful(self, lower, size):
        upper = split(self, lower, size)
        upper.lock_ref = 0
        return upper

    patch.setattr(RadixTree, "_split", forgetful)


def with_loads_that_forget_splits(patch):
    patch.setattr(LoadingNodes, "note_split", lambda self, upper, lower: None)


FAILING_LOAD = (
    *(Insert(node=0, pages=2), Backup(node=0), CheckWrites(wait=True), Evict(part="full", pages=6)),
    *(LoadBack(node=0), Extend(node=7, base=0, shared=1, pages=1)),
    *(InjectFault(site="copy", after=0, times=1), Launch()),
)


@pytest.mark.parametrize(
    ("plant", "steps"),
    [
        (with_splits_that_forget_locks, (*FLYING["backup"], *sharing(1))),
        (with_loads_that_forget_splits, FAILING_LOAD),
    ],
)
def test_planted_fault_of_shared_nodes_is_found(monkeypatch, plant, steps):
    control = violations("build_kv_only_stack", *steps)
    plant(monkeypatch)

    assert control == {None}
    assert violations("build_kv_only_stack", *steps) - {None}


def without_host_locks(patch):
    patch.setattr(RadixTree, "lock_host", lambda self, node: None)
    patch.setattr(RadixTree, "unlock_host", lambda self, node: None)


def with_a_reset_that_does_not_wait(patch):
    def reset(self):
        self._prefetches.clear()
        self._ended_backups.clear()
        self.prefetch_tokens_occupied = 0

    patch.setattr(StorageTier, "reset", reset)


def with_an_abort_that_does_not_wait(patch):
    def abort(self, request_id):
        self._drop(request_id)
        return True

    patch.setattr(StorageMoves, "abort_prefetch", abort)


def with_pages_of_a_prefetch_that_leak(patch):
    patch.setattr(Arrival, "insert", lambda self, tree, group: None)


FULL_HOST = ReserveSlots(side="host", part="full", spare=0)
REUSE = (EvictHost(part="full", pages=12), Insert(node=1, pages=2), Backup(node=1))
PLANTS = {
    "host slots stay while they are stored": (
        without_host_locks,
        (*STORED[:2], FULL_HOST, STORED[2], *REUSE, DrainQueues()),
    ),
    "reset ends what threads do": (with_a_reset_that_does_not_wait, (*STORED, ResetCache(), *NEXT)),
    "an aborted prefetch is waited for": (
        with_an_abort_that_does_not_wait,
        (*LOST, Fetch(node=0), FULL_HOST, AbortFetch(node=0), *REUSE[1:], DrainQueues()),
    ),
    "what arrives has an owner": (with_pages_of_a_prefetch_that_leak, FETCHED),
}


@pytest.mark.parametrize("name", PLANTS)
def test_planted_fault_of_storage_is_found(monkeypatch, name):
    plant, steps = PLANTS[name]
    control = violations("build_kv_only_stack", *steps, ReleaseReserved())
    plant(monkeypatch)

    assert control == {None}
    assert violations("build_kv_only_stack", *steps, ReleaseReserved()) - {None}
