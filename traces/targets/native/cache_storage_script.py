"""Script of a cache with its storage tier: what was stored comes back to an empty cache.

While pages are stored or fetched, everything is evicted that can be, a request is aborted, the
cache is reset and storage is detached. At every moment the locks of the nodes and the owners of
all slots are recorded.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

from typing_extensions import override

from assembler.cache.keys import RadixKey, token_ids
from assembler.cache.nodes import CacheNode
from assembler.cache.prefixes import MatchPrefixParams, MatchResult
from assembler.names import ComponentType
from assembler.owner import EvictParams
from traces.schema.life import StateRecord
from traces.schema.model import RoundTrip
from traces.schema.storage_records import StorageMatch
from traces.targets.common.content import poison
from traces.targets.native.builders import MODEL_NAME
from traces.targets.native.errors import NativeScenarioError
from traces.targets.native.pools import RankGroups
from traces.targets.native.rows import host_pools_by_name, tensors_of
from traces.targets.native.scenarios import NativeScenario
from traces.targets.native.script import MAX_POLLS, NativeScript
from traces.targets.native.states import CacheStates
from traces.targets.native.storage_script import BACKEND, OPTIONS, storage_folder

NAMESPACE = "tenant"

Records: TypeAlias = Iterator[StateRecord | StorageMatch | RoundTrip]


class CacheStorageScript(NativeScript):
    """The steps of one scenario whose cache stores and fetches pages."""

    def __init__(
        self, scenario: NativeScenario, *, device: str, groups: RankGroups | None = None
    ) -> None:
        """Prepare a run; ``groups`` are process groups, None for those of this process only."""
        super().__init__(scenario, device=device, namespace=NAMESPACE, groups=groups)
        self._folder = tempfile.mkdtemp(prefix="goldentrace-")
        # A scenario may end early: then its pages go with the script.
        self._remove_folder = weakref.finalize(self, shutil.rmtree, self._folder)
        self._steps = {
            "build": self._build,
            "store": self._store,
            "fetch": self._fetch,
            "abort": self._abort,
            "reset": self._reset_in_flight,
            "detach": self._detach_in_flight,
        }

    @override
    def _build(self) -> None:
        """Build the stack as every scenario does, and attach storage."""
        super()._build()
        self._attach()

    def _attach(self) -> None:
        with storage_folder(self._folder):
            self._controller.attach_storage_backend(
                BACKEND,
                prefetch_threshold=self._scenario.page_size,
                model_name=MODEL_NAME,
                storage_backend_extra_config=OPTIONS,
            )

    def _store(self) -> Records:
        """Store two requests that share a prefix; the node of the first is split on its way.

        Host slots are asked for while they are stored, and device slots are evicted.
        """
        states = CacheStates(self._cache, pools=self._device_pools, step="store")
        trunk = self._write("trunk", self._geometry.long_node)
        self._cache.write_backup(trunk.node)
        branch = self._write("branch", self._geometry.short_node, behind=trunk)
        self._cache.write_backup(branch.node)
        self._cache.writing_check(write_back=True)
        yield from states.read("storing", self._nodes(), is_final=False)
        self._evict_everything()
        yield from states.read("evicting_in_store", self._nodes(), is_final=False)
        self._finish_storing()
        yield from states.read("stored", self._nodes(), is_final=True)

    def _fetch(self) -> Records:
        """Lose everything but storage; fetch a prefix, then what is behind it, and load both."""
        self._empty()
        states = CacheStates(self._cache, pools=self._device_pools, step="fetch")
        trunk, branch = self._written
        page = self._scenario.page_size
        first = self._match(trunk.key)
        self._start("prefix", first.last_host_node, trunk.key, end=page)
        yield from states.read("fetching", self._nodes(), is_final=False)
        yield self._finish("fetch", "prefix", trunk.key, end=page)
        for name, written in (("trunk", trunk), ("branch", branch)):
            anchor = self._match(written.key).last_host_node
            self._start(name, anchor, written.key, end=len(written.key))
            if written is trunk:
                self._evict_everything()
            yield from states.read(f"fetching_{name}", self._nodes(), is_final=False)
            yield self._finish("fetch", name, written.key, end=len(written.key))
        yield from states.read("fetched", self._nodes(), is_final=True)
        yield from self._load_fetched()

    def _load_fetched(self) -> Iterator[RoundTrip]:
        """Load what was fetched and compare it with what was written before."""
        self._written = [
            replace(written, node=self._match(written.key).best_match_node)
            for written in self._written
        ]
        before = self._snapshot()
        for written in self._written:
            self._load(written, rule="what was fetched can be loaded")
        self._finish_loading()
        yield from self._compare_round_trips("fetch", before)

    def _abort(self) -> Records:
        """Abort a request while its pages are fetched."""
        self._empty()
        states = CacheStates(self._cache, pools=self._device_pools, step="abort")
        key = self._written[0].key
        self._start("lost", self._match(key).last_host_node, key, end=len(key))
        self._wait_for_threads()
        if not self._cache.release_aborted_request("lost"):
            raise NativeScenarioError("prefetch: must end when aborted; expected yes, got no")
        yield from states.read("aborted", self._nodes(), is_final=True)

    def _reset_in_flight(self) -> Records:
        """Reset the cache while a node is stored and others are fetched behind it."""
        states = CacheStates(self._cache, pools=self._device_pools, step="reset")
        self._operate("lost")
        yield from states.read("operating", self._nodes(), is_final=False)
        self._cache.reset()
        yield from states.read("reset", self._nodes(), is_final=True)

    def _detach_in_flight(self) -> Records:
        """Detach storage at such a moment; the cache goes on without it."""
        states = CacheStates(self._cache, pools=self._device_pools, step="detach")
        self._operate("kept")
        self._cache.detach_storage_backend()
        yield from states.read("detached", self._nodes(), is_final=True)
        self._evict_everything()
        yield from states.read("evicted", self._nodes(), is_final=True)
        self._controller.shutdown()
        self._remove_folder()

    def _operate(self, author: str) -> None:
        """Store a new node, and fetch behind it what storage does not have; see neither end."""
        written = self._write(author, self._geometry.short_node)
        self._cache.write_backup(written.node)
        self._cache.writing_check(write_back=True)
        # One after the other: the prefetch asks for the window of the node that is stored.
        self._wait_for_threads()
        tokens = token_ids(written.key.data).tolist()
        self._cache.prefetch_from_storage(author, written.node, tokens)
        self._wait_for_threads()

    def _wait_for_threads(self) -> None:
        """Wait until what was started has ended: how far a thread is would be another in every run.

        The cache does not know it yet: ``explore`` runs threads that are in the middle.
        """
        tier = self._controller.storage_tier
        assert tier is not None, "storage was attached"
        while not tier.is_idle:
            pass

    def _empty(self) -> None:
        """Lose every node, and what the host and the device hold of them."""
        self._cache.reset()
        self._poison("after", list(self._pools.values()))
        hosts = host_pools_by_name(self._group).values()
        poison([tensor for pool in hosts for tensor in tensors_of(pool)], "after")

    def _match(self, key: RadixKey) -> MatchResult:
        return self._cache.match_prefix(MatchPrefixParams(key))

    def _start(self, request: str, anchor: CacheNode, key: RadixKey, *, end: int) -> None:
        """Start fetching the tokens of a key behind a node, up to ``end``."""
        start = sum(len(node) for node in anchor.path())
        tokens = token_ids(key.data)[start:end].tolist()
        if not self._cache.prefetch_from_storage(request, anchor, tokens):
            raise NativeScenarioError(f"prefetch {request}: must start; expected yes, got no")

    def _finish(self, step: str, request: str, key: RadixKey, *, end: int) -> StorageMatch:
        """Wait for a prefetch; return what the cache then has of the first ``end`` tokens."""
        for _ in range(MAX_POLLS):
            if self._cache.check_prefetch_progress(request):
                break
        found = self._match(RadixKey(token_ids(key.data)[:end], key.extra_key))
        return StorageMatch(
            step=step,
            backend=BACKEND,
            sequence=request,
            phase="whole",
            asked=end,
            available=None,
            hits=None,
            arrived=found.host_hit_length,
            pools={},
            is_over=True,
            equal=None,
        )

    def _finish_storing(self) -> None:
        """Wait until every node is stored, and let the cache know."""
        self._wait_for_threads()
        self._cache.check_hicache_events()
        if left := list(self._cache.ongoing_backup):
            raise NativeScenarioError(f"storing: must finish; expected no node left, got {left}")

    def _evict_everything(self) -> None:
        """Ask for every slot, on both sides."""
        self._cache.evict(EvictParams(num_tokens=self._geometry.size))
        self._cache.evict_host(self._cache.host_pool_group.size, ComponentType.FULL)

    def _nodes(self) -> list[CacheNode]:
        return list(self._cache.nodes())
