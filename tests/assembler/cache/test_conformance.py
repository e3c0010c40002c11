"""The radix cache against a brute-force model of its pages, under random requests.

GOLDENTRACE_LONG=1 asks for 10 000 steps of each model instead of a few hundred.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from assembler.cache import tree
from assembler.cache.device_slots import ComponentAllocators
from assembler.cache.keys import RadixKey, shared_bytes
from assembler.cache.prefixes import InsertParams
from assembler.cache.reach import PrefixNeeds
from assembler.cache.stored import StoredCache
from assembler.cache.transfers import LoadingNodes, WritingNodes
from assembler.cache.tree import RadixTree
from assembler.device import get_device
from assembler.names import ComponentType, PoolName
from assembler.owner import EvictParams
from assembler.storage.files import FOLDER_VARIABLE
from tests.assembler.cache.cache_steps import FULL, MAMBA, SWA, attach_storage, match, unified
from tests.assembler.cache.page_model import (
    check_device_rows,
    check_host_rows,
    longest_arrival,
    longest_hits,
    read_pages,
    seed,
    write_rows,
)
from tests.assembler.small_models import (
    PAGE,
    SIZE,
    mamba_params,
    mha_pool,
    nsa_pool,
    params_of,
    swa_params,
)
from tests.assembler.storage.stores import FailingBlobs

WINDOW = 6
NAMESPACES = (None, "adapter")
MODELS = {
    "mha": lambda device: params_of(mha_pool(device)),
    "nsa": lambda device: params_of(nsa_pool(device)),
    "swa": lambda device: swa_params(device, size_swa=40, sliding_window_size=WINDOW),
    "mamba": lambda device: mamba_params(device, state_num=6),
}
POLICIES = ("write_through", "write_through_selective", "write_back")
STEPS, RUNS = 50, 4
LONG_RUNS = 200
IS_LONG = "GOLDENTRACE_LONG" in os.environ
# Pages of few kinds, so that prefixes meet; a rest shorter than a page is never cached.
TOKENS = st.tuples(
    st.sampled_from(NAMESPACES),
    st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=5).map(
        lambda pages: [100 * kind + at for kind in pages for at in range(PAGE)]
    ),
    st.integers(0, PAGE - 1),
).map(lambda drawn: (drawn[0], [*drawn[1], *range(drawn[2])]))


STORED_AS = {FULL: PoolName.KV, SWA: PoolName.SWA, MAMBA: PoolName.MAMBA}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))


class CacheRequests(RuleBasedStateMachine):
    """Requests that match, load, compute, insert and give up, under evictions on both sides."""

    model = "mha"

    def __init__(self):
        super().__init__()
        self.device = get_device("cpu")
        self.cache = None
        self.locks = []

    @rule(policy=st.sampled_from(POLICIES))
    @precondition(lambda self: self.cache is None)
    def open(self, policy):
        self.params = MODELS[self.model](self.device)
        self.allocator = self.params.token_to_kv_pool_allocator
        self.cache = unified(self.params, hicache_write_policy=policy)
        self.has_window = SWA in self.cache.tree_components
        self._find_roots()

    @rule(drawn=TOKENS, is_kept=st.booleans(), dropped=st.integers(0, 2))
    @precondition(lambda self: self.cache is not None)
    def serve(self, drawn, is_kept, dropped):
        """Compute what is not cached, and insert it; perhaps go on holding it."""
        namespace, tokens = drawn
        found = match(self.cache, tokens, namespace)
        lock = self.cache.inc_lock_ref(found.last_device_node)
        own = found.device_prefix_len
        need = len(tokens) // PAGE * PAGE - own
        if slots := self._take(need):
            full, state = slots
            self._compute(namespace, tokens, own, full, state)
            value = self.cache.path_device_indices(found.last_device_node)
            gone = 0
            if self.has_window:
                gone = min(own + dropped * PAGE, len(tokens) // PAGE * PAGE)
                self.allocator.free_swa(full[: gone - own])
            self._insert(namespace, tokens, [*value.tolist(), *full.tolist()], own, gone, state)
        self.cache.dec_lock_ref(found.last_device_node, lock.to_dec_params())
        if slots and is_kept and len(self.locks) < 2:
            self._hold(match(self.cache, tokens, namespace).last_device_node)

    @rule(drawn=TOKENS)
    @precondition(lambda self: self.cache is not None)
    def look_up(self, drawn):
        namespace, tokens = drawn
        before = read_pages(self.cache)
        root = self.roots[namespace]
        window = self.params.sliding_window_size or 0
        device, both = longest_hits(
            before, root, tokens, components=self.cache.tree_components, window=window
        )

        found = match(self.cache, tokens, namespace)

        assert (found.device_prefix_len, found.host_hit_length) == (device, both - device)
        for node, length in ((found.last_device_node, device), (found.best_match_node, both)):
            assert sum(len(part) for part in node.path()) == length
        assert {place: page.device for place, page in read_pages(self.cache).items()} == {
            place: page.device for place, page in before.items()
        }

    @rule(drawn=TOKENS, is_launched=st.booleans())
    @precondition(lambda self: self.cache is not None)
    def load(self, drawn, is_launched):
        """Bring a prefix back, and find it on the device."""
        namespace, tokens = drawn
        found = match(self.cache, tokens, namespace)
        if self.cache.load_back(found.best_match_node) is not None:
            again = match(self.cache, tokens, namespace)
            assert again.device_prefix_len >= found.device_prefix_len + found.host_hit_length
        if is_launched:
            self.cache.ready_to_load()
            self.cache.loading_check()

    @rule()
    @precondition(lambda self: self.cache is not None)
    def poll(self):
        self.cache.ready_to_load()
        self.cache.writing_check()
        self.cache.loading_check()

    @rule()
    @precondition(lambda self: self.locks)
    def let_go(self):
        node, lock, _ = self.locks.pop()
        self.cache.dec_lock_ref(node, lock.to_dec_params())

    @rule(component=st.sampled_from([FULL, SWA, MAMBA]), pages=st.integers(1, 6))
    @precondition(lambda self: self.cache is not None)
    def evict(self, component, pages):
        if component not in self.cache.tree_components:
            return
        need = pages if component is MAMBA else pages * PAGE
        evictable = self.cache.evictable_size()
        freed = self.cache.evict(
            EvictParams(
                num_tokens=need if component is FULL else 0,
                swa_num_tokens=need if component is SWA else 0,
                mamba_num=need if component is MAMBA else 0,
            )
        )
        if component is FULL:
            assert freed.num_tokens_evicted >= min(need, evictable)

    @rule(component=st.sampled_from([FULL, SWA, MAMBA]), pages=st.integers(1, 12))
    @precondition(lambda self: self.cache is not None)
    def evict_host(self, component, pages):
        if component in self.cache.tree_components:
            self.cache.evict_host(pages if component is MAMBA else pages * PAGE, component)

    @rule()
    @precondition(lambda self: self.cache is not None and not self.locks)
    def reset(self):
        self.cache.reset()
        assert self.allocator.available_size() == self.allocator.size
        self._find_roots()

    @invariant()
    def state_is_sound(self):
        if self.cache is None:
            return
        pages = read_pages(self.cache)
        self._check_owners(pages)
        self._check_tiers(pages)
        self._check_held()
        if not self.cache.cache_controller.load_queue:
            self._check_bytes(pages)

    def teardown(self):
        if self.cache is None:
            return
        while self.locks:
            self.let_go()
        self.poll()
        assert all(node.lock_ref == 0 for node in self.cache.nodes())
        assert self.cache.protected_size() == 0

    def _find_roots(self):
        roots = (match(self.cache, [], name).last_device_node for name in NAMESPACES)
        self.roots = dict(zip(NAMESPACES, roots, strict=True))

    def _take(self, need):
        """Take slots for a request after an eviction, or nothing."""
        room = self.allocator.available_size()
        if room < need:
            short = need - room
            self.cache.evict(
                EvictParams(num_tokens=short, swa_num_tokens=short if self.has_window else 0)
            )
        full = self.allocator.alloc(need)
        if full is None or MAMBA not in self.cache.tree_components:
            return None if full is None else (full, None)
        states = self.params.req_to_token_pool.mamba_allocator
        state = states.alloc(1)
        if state is None:
            self.cache.evict(EvictParams(mamba_num=1))
            state = states.alloc(1)
        if state is None:
            self.allocator.free(full)
            return None
        return full, state

    def _compute(self, namespace, tokens, own, full, state):
        end = own + len(full)
        seeds = [seed(namespace, tokens[: at + 1]) for at in range(own, end)]
        write_rows(self.params, FULL, full.tolist(), seeds)
        if self.has_window:
            write_rows(self.params, SWA, self.allocator.full_to_swa(full).tolist(), seeds)
        if state is not None:
            write_rows(self.params, MAMBA, state.tolist(), [seed(namespace, tokens[:end])])

    def _insert(self, namespace, tokens, value, own, gone, state):
        result = self.cache.insert(
            InsertParams(
                key=RadixKey(tokens, namespace),
                value=torch.tensor(value, dtype=torch.int64),
                mamba_value=state,
                prev_prefix_len=own,
                swa_evicted_seqlen=gone,
            )
        )
        assert result.prefix_len >= own
        if result.mamba_exist:
            self.params.req_to_token_pool.mamba_allocator.free(state)
        if gone <= own:
            found = match(self.cache, tokens, namespace)
            assert found.device_prefix_len == len(tokens) // PAGE * PAGE
            assert found.last_device_node is result.last_device_node

    def _hold(self, node):
        lock = self.cache.inc_lock_ref(node)
        parts = [dict(part.device) for part in node.path()]
        kept = {FULL: [], SWA: [], MAMBA: []}
        for device in parts:
            kept[FULL] += device[FULL].tolist()
            kept[SWA] += device[SWA].tolist() if SWA in device else []
        if self.has_window:
            seen = -(-WINDOW // PAGE) * PAGE
            kept[SWA] = kept[SWA][-seen:]
        if parts and MAMBA in parts[-1]:
            kept[MAMBA] = parts[-1][MAMBA].tolist()
        self.locks.append((node, lock, kept))

    def _check_owners(self, pages):
        """Expect that every slot is free or has one owner, on both sides."""
        group = self.cache.host_pool_group
        owners = dict(self.allocator.slot_owners)
        if MAMBA in self.cache.tree_components:
            owners[MAMBA] = self.params.req_to_token_pool.mamba_allocator
        hosts = {FULL: "kv", SWA: "swa", MAMBA: "mamba"}
        for component in self.cache.tree_components:
            for side, owner in (
                ("device", owners[component]),
                ("host", group.entry_map[hosts[component]].host_pool),
            ):
                taken = [
                    slot
                    for page in pages.values()
                    for slot in getattr(page, side).get(component, ())
                ]
                if side == "host":
                    for pending in self.cache.ongoing_prefetch.values():
                        taken += pending.host[component].tolist()
                assert len(set(taken)) == len(taken)
                assert len(taken) + owner.available_size() == owner.size

    def _check_tiers(self, pages):
        """Expect full KV of every page, behind pages that have it too, and the sums of locks."""
        on_device = [page for page in pages.values() if FULL in page.device]
        for (root, tokens), page in pages.items():
            assert page.device.keys() | page.host.keys() >= {FULL}
            assert FULL in page.device or not page.device
            if len(tokens) > PAGE:
                before = pages[root, tokens[:-PAGE]]
                assert before.is_locked or not page.is_locked
                assert FULL in before.device or FULL not in page.device
        protected = PAGE * sum(page.is_locked for page in on_device)
        assert self.cache.protected_size() == protected
        assert self.cache.evictable_size() == PAGE * len(on_device) - protected
        if self.has_window:
            for page in on_device:
                mapped = self.allocator.full_to_swa_index_mapping[page.device[FULL]].tolist()
                assert mapped == page.device.get(SWA, [0] * PAGE)

    def _check_held(self):
        """Expect that what a request holds is where it was."""
        for node, _, kept in self.locks:
            parts = node.path()
            now = {FULL: [], SWA: [], MAMBA: []}
            for part in parts:
                for component in (FULL, SWA):
                    slots = part.device.get(component)
                    now[component] += [] if slots is None else slots.tolist()
            now[SWA] = now[SWA][len(now[SWA]) - len(kept[SWA]) :]
            now[MAMBA] = parts[-1].device[MAMBA].tolist() if kept[MAMBA] else []
            assert now == kept

    def _check_bytes(self, pages):
        """Expect the rows of every page on both sides to be those of its tokens."""
        names = {root: name for name, root in self.roots.items()}
        for side, check in (("device", check_device_rows), ("host", check_host_rows)):
            owner = self.params if side == "device" else self.cache
            for component in ComponentType:
                slots, seeds = [], []
                for (root, tokens), page in pages.items():
                    own = getattr(page, side).get(component, [])
                    first = len(tokens) - len(own)
                    slots += own
                    seeds += [
                        seed(names[root], tokens[: at + 1]) for at in range(first, len(tokens))
                    ]
                if slots:
                    check(owner, component, slots, seeds)


PLACES = st.integers(0, 1000)


class StoredRequests(CacheRequests):
    """The same requests over a storage tier, which keeps what the host had."""

    def __init__(self):
        super().__init__()
        self.blobs = FailingBlobs()
        self.served = []
        self.requests = {}
        self.request_num = 0
        self.stored = {}
        self.is_faulty = False

    @initialize(policy=st.sampled_from(POLICIES))
    def open(self, policy):
        super().open(policy)
        attach_storage(self.cache, self.blobs)

    @rule(drawn=TOKENS, shared=st.integers(0, 4), other=TOKENS, uses=st.integers(1, 2))
    def serve_and_store(self, drawn, shared, other, uses):
        """Serve two requests, which may split each other's nodes while these are copied."""
        namespace, tokens = drawn
        for _ in range(uses):
            for own in (tokens, tokens[: shared * PAGE] + other[1]):
                self.serve((namespace, own), is_kept=False, dropped=0)
                self.served.append((namespace, own))
        self.settle()

    @rule(place=PLACES, cut=st.integers(0, 4), is_awaited=st.booleans())
    @precondition(lambda self: self.served and not self.locks)
    def fetch_into_an_empty_cache(self, place, cut, is_awaited):
        """Lose everything but storage; bring a prefix back, and perhaps what is behind it."""
        namespace, tokens = self._served_at(place)
        self.settle()
        self.reset()
        if cut:
            self._fetch(namespace, tokens[: cut * PAGE])
            self._finish_all()
        self._fetch(namespace, tokens)
        if is_awaited:
            arrived = self._finish_all()
            found = match(self.cache, tokens, namespace)
            assert self.is_faulty or found.host_hit_length >= arrived

    @rule(place=PLACES)
    @precondition(lambda self: self.served)
    def fetch(self, place):
        """Ask storage for what the host lacks of a prefix."""
        self._fetch(*self._served_at(place))

    @rule()
    @precondition(lambda self: self.served)
    def drop_all(self):
        """Drop whatever nobody holds, on both sides."""
        size = self.allocator.size
        self.cache.evict(
            EvictParams(num_tokens=size, swa_num_tokens=size if self.has_window else 0)
        )
        for component in self.cache.tree_components:
            self.cache.evict_host(self.cache.host_pool_group.size, component)

    @rule()
    @precondition(lambda self: self.requests)
    def finish_fetches(self):
        """Find what storage had behind the prefixes on the host."""
        self._finish_all()

    @rule()
    @precondition(lambda self: self.requests)
    def abort(self):
        request = next(iter(self.requests))
        del self.requests[request]
        assert self.cache.release_aborted_request(request)

    @rule(operation=st.sampled_from([None, "get", "put", "exists", "detach"]))
    @precondition(lambda self: self.served)
    def fail(self, operation):
        """Let storage fail from now on, or no more, or lose what is on its way."""
        self.is_faulty = True
        self.blobs.errors.clear()
        if operation == "detach":
            self.cache.detach_storage_backend()
            self.requests.clear()
            attach_storage(self.cache, self.blobs)
        elif operation is not None:
            self.blobs.fail(operation)

    def settle(self):
        """Finish everything; storage has every page that reached the host, under its own key."""
        self.cache.ready_to_load()
        self.cache.check_hicache_events()
        while self.cache.ongoing_write_through or self.cache.ongoing_backup:
            self.cache.check_hicache_events()
        names = {root: name for name, root in self.roots.items()}
        tier = self.cache.cache_controller.storage_tier
        for (root, tokens), page in read_pages(self.cache).items():
            key = tier.page_keys(tokens, prior=None, namespace=names[root])[-1]
            found = {part for part in page.host if tier.storage.has_page(STORED_AS[part], key)}
            if not self.is_faulty:
                assert found == set(page.host)
                self.stored.setdefault((names[root], tokens), set()).update(found)

    def teardown(self):
        if self.cache is not None:
            self._finish_all()
            self.settle()
            self.cache.cache_controller.shutdown()
            assert all(node.host_lock_ref == 0 for node in self.cache.nodes())
        super().teardown()

    def _find_roots(self):
        super()._find_roots()
        self.requests.clear()

    def _served_at(self, place):
        return self.served[place % len(self.served)]

    def _fetch(self, namespace, tokens):
        anchor = match(self.cache, tokens, namespace).last_host_node
        depth = sum(len(part) for part in anchor.path())
        self.request_num += 1
        request = str(self.request_num)
        if self.cache.prefetch_from_storage(request, anchor, tokens[depth:]):
            asked = len(self.cache.ongoing_prefetch[request].host[FULL])
            self.requests[request] = (namespace, tokens[: depth + asked], depth)

    def _finish_all(self):
        """Finish every prefetch; return the longest prefix that arrived."""
        return max([self._finish(request) for request in list(self.requests)], default=0)

    def _finish(self, request):
        namespace, tokens, depth = self.requests.pop(request)
        while not self.cache.check_prefetch_progress(request):
            pass
        pages = read_pages(self.cache)
        arrived = longest_arrival(
            self.stored,
            namespace,
            tokens,
            depth=depth,
            components=self.cache.tree_components,
            window=self.params.sliding_window_size or 0,
        )
        if not self.is_faulty:
            places = [(self.roots[namespace], tuple(tokens[:end])) for end in arrived]
            assert all(place in pages for place in places)
        return max(arrived, default=0)


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


PLANTS = {
    "a lock holds on both halves of a split": (with_half_a_lock, "mha"),
    "namespaces have other bytes": (with_one_namespace, "mha"),
    "a match ends where the tokens differ": (with_a_page_too_many, "nsa"),
    "a window slot belongs to one node": (with_windows_of_two_owners, "swa"),
    "a load brings the state back": (with_states_that_stay, "mamba"),
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
        run(requests, model, runs=25 * RUNS, phases=(Phase.generate,))

    assert not isinstance(found.value, HypothesisException)


def test_sizes_of_the_small_models():
    """Control: the host is larger than the device, so that both sides run full."""
    cache = unified(MODELS["mha"](get_device("cpu")))

    assert (SIZE, cache.host_pool_group.size) == (64, 132)
