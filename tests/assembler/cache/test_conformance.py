"""The radix cache against a brute-force model of its pages, under random requests.

GOLDENTRACE_LONG=1 asks for 10 000 steps of each model instead of a few hundred.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import HypothesisException
from hypothesis.stateful import (
    run_state_machine_as_test,
)

from assembler.cache import moves, tree
from assembler.cache.device_slots import ComponentAllocators
from assembler.cache.hierarchical import HierarchicalCache
from assembler.cache.keys import RadixKey, shared_bytes
from assembler.cache.reach import PrefixNeeds
from assembler.cache.stored import StoredCache
from assembler.cache.transfers import LoadingNodes, WritingNodes
from assembler.cache.tree import RadixTree
from assembler.device import get_device
from tests.assembler.cache.cache_requests import MODELS, CacheRequests
from tests.assembler.cache.cache_steps import unified
from tests.assembler.cache.stored_requests import StoredRequests
from tests.assembler.small_models import (
    PAGE,
    SIZE,
)

STEPS, RUNS = 50, 4
LONG_RUNS = 200
IS_LONG = "GOLDENTRACE_LONG" in os.environ


def run(requests, model, *, runs, phases):
    """Run random requests on a model; raises what the first wrong step raised."""
    machine = type("Requests", (requests,), {"model": model})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(3600 if IS_LONG else 300)
@pytest.mark.parametrize("requests", [CacheRequests, StoredRequests])
@pytest.mark.parametrize("model", MODELS)
def test_cache_agrees_with_its_pages(requests, model):
    if IS_LONG:
        run(requests, model, runs=LONG_RUNS, phases=(Phase.generate, Phase.shrink))
    else:
        run(requests, model, runs=RUNS, phases=(Phase.generate,))


def with_half_a_lock(patch):
    split = RadixTree._split

    def forgetful(self, lower, size):
        upper = split(self, lower, size)
        upper.lock_ref = 0
        return upper

    patch.setattr(RadixTree, "_split", forgetful)


def with_one_namespace(patch):
    init = RadixKey.__init__
    patch.setattr(RadixKey, "__init__", lambda self, tokens, extra_key=None: init(self, tokens))


def with_a_page_too_many(patch):
    def longer(key, data, *, start, page_bytes):
        found = shared_bytes(key, data, start=start, page_bytes=page_bytes)
        return min(found + page_bytes, len(key) - page_bytes)

    patch.setattr(tree, "shared_bytes", longer)


def with_windows_of_two_owners(patch):
    patch.setattr(ComponentAllocators, "unmap_window", lambda self, full: None)


def with_states_that_stay(patch):
    patch.setattr(PrefixNeeds, "missing", lambda self, node: LoadingNodes(missing={}))


def with_keys_of_one_namespace(patch):
    patch.setattr(RadixTree, "namespace_of", lambda self, node: None)


def without_locks_of_storage(patch):
    patch.setattr(RadixTree, "lock_host", lambda self, node: None)
    patch.setattr(RadixTree, "unlock_host", lambda self, node: None)


def with_half_a_backup(patch):
    patch.setattr(WritingNodes, "note_split", lambda self, upper, lower: None)


def with_keys_that_stay_at_a_split(patch):
    split = RadixTree._split

    def forgetful(self, lower, size):
        keys = lower.page_keys
        upper = split(self, lower, size)
        lower.page_keys = keys[: len(lower.page_keys)]
        return upper

    patch.setattr(RadixTree, "_split", forgetful)


def with_a_page_of_the_window(patch):
    patch.setattr(StoredCache, "_window_slots", lambda self, token_num: PAGE)


def with_a_quota_that_nobody_reads(patch):
    load_back = HierarchicalCache.load_back
    patch.setattr(
        HierarchicalCache, "load_back", lambda self, node, _, own: load_back(self, node, None, own)
    )


def without_states_of_requests(patch):
    patch.setattr(moves, "state_copies", lambda loading, slot: [])


PLANTS = {
    "a lock holds on both halves of a split": (with_half_a_lock, "mha"),
    "namespaces have other bytes": (with_one_namespace, "mha"),
    "a match ends where the tokens differ": (with_a_page_too_many, "nsa"),
    "a window slot belongs to one node": (with_windows_of_two_owners, "swa"),
    "a load brings the state back": (with_states_that_stay, "mamba"),
    "a quota bounds a load": (with_a_quota_that_nobody_reads, "mha"),
    "a request gets its own state": (without_states_of_requests, "mamba"),
}
STORAGE_PLANTS = {
    "storage keeps namespaces apart": (with_keys_of_one_namespace, "mha"),
    "storage operations lock": (without_locks_of_storage, "mha"),
    "both halves of a split are stored": (with_half_a_backup, "mha"),
    "keys of both halves of a split": (with_keys_that_stay_at_a_split, "mha"),
    "a whole window is fetched": (with_a_page_of_the_window, "swa"),
}


@pytest.mark.parametrize("name", [*PLANTS, *STORAGE_PLANTS])
def test_planted_fault_is_found(monkeypatch, name):
    """Control of the test above."""
    plant, model = {**PLANTS, **STORAGE_PLANTS}[name]
    requests = StoredRequests if name in STORAGE_PLANTS else CacheRequests
    plant(monkeypatch)

    with pytest.raises((Exception, ExceptionGroup)) as found:
        run(requests, model, runs=100 * RUNS, phases=(Phase.generate,))

    assert not isinstance(found.value, HypothesisException)


def test_sizes_of_the_small_models():
    """Control: the host is larger than the device, so that both sides run full."""
    cache = unified(MODELS["mha"](get_device("cpu")))

    assert (SIZE, cache.host_pool_group.size) == (64, 132)
