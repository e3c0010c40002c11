"""Random requests to a cache with a storage tier, checked against what was stored."""

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
)

from assembler.names import PoolName
from assembler.owner import EvictParams
from tests.assembler.cache.cache_requests import POLICIES, TOKENS, CacheRequests
from tests.assembler.cache.cache_steps import FULL, MAMBA, SWA, attach_storage, match
from tests.assembler.cache.page_model import (
    longest_arrival,
    read_pages,
)
from tests.assembler.small_models import (
    PAGE,
)
from tests.assembler.storage.stores import FailingBlobs

STORED_AS = {FULL: PoolName.KV, SWA: PoolName.SWA, MAMBA: PoolName.MAMBA}
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

    @rule(place=PLACES, cut=st.integers(0, 4), is_awaited=st.booleans(), is_dropped=st.booleans())
    @precondition(lambda self: self.served and not self.locks)
    def fetch_into_an_empty_cache(self, place, cut, is_awaited, is_dropped):
        """Lose everything but storage; bring a prefix back, and perhaps what is behind it.

        Meanwhile the cache may be asked to drop everything: the prefix stays.
        """
        namespace, tokens = self._served_at(place)
        self.settle()
        self.reset()
        if cut:
            self._fetch(namespace, tokens[: cut * PAGE])
            self._finish_all()
        self._fetch(namespace, tokens)
        if is_dropped:
            self.drop_all()
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
            # What is stored later may, or may not, be found.
            known = {place: set(parts) for place, parts in self.stored.items()}
            self.requests[request] = (namespace, tokens[: depth + asked], depth, known)

    def _finish_all(self):
        """Finish every prefetch; return the longest prefix that arrived."""
        return max([self._finish(request) for request in list(self.requests)], default=0)

    def _finish(self, request):
        namespace, tokens, depth, known = self.requests.pop(request)
        while not self.cache.check_prefetch_progress(request):
            pass
        pages = read_pages(self.cache)
        arrived = longest_arrival(
            known,
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
