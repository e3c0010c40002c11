"""Random requests to a radix cache, checked against a brute-force model of its pages."""

import torch
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from assembler.cache.keys import RadixKey
from assembler.cache.prefixes import InsertParams
from assembler.device import get_device
from assembler.names import ComponentType
from assembler.owner import EvictParams
from tests.assembler.cache.cache_steps import FULL, MAMBA, SWA, match, unified
from tests.assembler.cache.page_model import (
    check_device_rows,
    check_host_rows,
    longest_hits,
    read_pages,
    seed,
    write_rows,
)
from tests.assembler.small_models import (
    PAGE,
    mamba_params,
    mha_pool,
    nsa_pool,
    params_of,
    swa_params,
)

WINDOW = 6
NAMESPACES = (None, "adapter")
MODELS = {
    "mha": lambda device: params_of(mha_pool(device)),
    "nsa": lambda device: params_of(nsa_pool(device)),
    "swa": lambda device: swa_params(device, size_swa=40, sliding_window_size=WINDOW),
    "mamba": lambda device: mamba_params(device, state_num=6),
}
POLICIES = ("write_through", "write_through_selective", "write_back")
# Pages of few kinds, so that prefixes meet; a rest shorter than a page is never cached.
TOKENS = st.tuples(
    st.sampled_from(NAMESPACES),
    st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=5).map(
        lambda pages: [100 * kind + at for kind in pages for at in range(PAGE)]
    ),
    st.integers(0, PAGE - 1),
).map(lambda drawn: (drawn[0], [*drawn[1], *range(drawn[2])]))


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
        requests = self.params.req_to_token_pool
        self._states = None if requests is None else requests.mamba_allocator
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

    @rule(
        drawn=TOKENS,
        place=st.none() | st.integers(0, 15),
        is_launched=st.booleans(),
        quota=st.none() | st.integers(0, 6).map(lambda pages: pages * PAGE),
        copies_state=st.booleans(),
    )
    @precondition(lambda self: self.cache is not None)
    def load(self, drawn, place, is_launched, quota, copies_state):
        """Bring a prefix back, its state perhaps twice, and find it on the device."""
        namespace, tokens = self._lost_prefix(place) or drawn
        found = match(self.cache, tokens, namespace)
        end = found.device_prefix_len + found.host_hit_length
        path = self._path_pages(namespace, tokens[:end])
        is_resident = found.host_hit_length == 0
        taken = PAGE * sum(FULL not in page.device or not page.is_locked for page in path)
        own = self._states.alloc(1) if copies_state and self._states is not None else None

        loaded = self.cache.load_back(found.best_match_node, quota, own)

        if loaded is not None:
            assert is_resident or quota is None or taken <= quota
            assert match(self.cache, tokens, namespace).device_prefix_len >= end
        if is_launched or own is not None:
            self.cache.ready_to_load()
            self.cache.loading_check()
        if own is not None:
            is_copied = loaded is not None and MAMBA not in path[-1].device if path else False
            self._check_own_state(own, seed(namespace, tokens[:end]) if is_copied else None)

    def _lost_prefix(self, place):
        """Return one of the prefixes that the host has and the device does not."""
        names = {root: name for name, root in self.roots.items()}
        lost = [
            (names[root], list(tokens))
            for (root, tokens), page in read_pages(self.cache).items()
            if FULL not in page.device
        ]
        return None if place is None or not lost else lost[place % len(lost)]

    def _path_pages(self, namespace, tokens):
        pages, root = read_pages(self.cache), self.roots[namespace]
        return [pages[root, tuple(tokens[:at])] for at in range(PAGE, len(tokens) + 1, PAGE)]

    def _check_own_state(self, own, number):
        """Expect a state in a slot of a request, or none; and give the slot back."""
        if number is None:
            states = self.params.req_to_token_pool.mamba_pool
            assert not states.temporal[:, own].any()
        else:
            check_device_rows(self.params, MAMBA, own.tolist(), [number])
        self._states.free(own)

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
