"""Script of a release's own tree with storage: what was stored comes back to an empty tree.

The tree stores two sequences by its own policy. Then, each time from an empty tree, a request
prefetches one of them: whole, behind a prefix that the tree still has, with a page missing in the
middle or failing to arrive, with fewer hits than the threshold, in another namespace, or aborted
while storage is queried.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from typing_extensions import override

from traces.schema.life import StateRecord
from traces.schema.model import DigestRecord
from traces.schema.storage_records import StorageMatch
from traces.targets.common.round_trip import RoundTripComparison
from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.discovery import find_part
from traces.targets.sglang.pageable import pageable
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.signature_caller import accepted_arguments
from traces.targets.sglang.storage.threads import (
    capture_thread_errors,
    storage_paused,
    storage_working,
)
from traces.targets.sglang.storage_attachment import STEP as ATTACHMENT
from traces.targets.sglang.storage_attachment import (
    AttachmentLife,
    StorageClient,
    is_attachable,
)
from traces.targets.sglang.storage_driver import page_keys
from traces.targets.sglang.stored_tree_driver import WORK, StoredTreeDriver
from traces.targets.sglang.tree_client import TreeRequest, salt_of
from traces.targets.sglang.tree_driver import TokenSequence
from traces.targets.sglang.tree_ledger import TreeLedger
from traces.targets.sglang.tree_prefetch import (
    ANCHOR,
    ANCHOR_FAILS,
    WHOLE,
    TreePrefetch,
    disturbed_prefetches,
)
from traces.targets.sglang.tree_script import TreeScript
from traces.targets.sglang.tree_storage_life import StorageLife

STEP = WORK
_HANDLES = "sglang.srt.mem_cache.base_prefix_cache"
_NAMESPACE = "tenant"
_BEHIND = "behind its first half"


def later_steps(cache: Any) -> tuple[str, ...]:  # noqa: ANN401 - a tree of the release
    """Return the steps that come once a tree with storage was driven."""
    return (STEP, ATTACHMENT) if is_attachable(cache) else (STEP,)


class TreeStorageScript(TreeScript):
    """Drives a tree whose controller has opened the scenario's own storage."""

    driver: StoredTreeDriver
    is_buffer = False  # whether host memory is one

    def __init__(
        self,
        stack: AssembledStack,
        *,
        device: ScriptDevice,
        rows: RowContents,
        transfers: ControllerDriver,
    ) -> None:
        super().__init__(stack, device=device, rows=rows, transfers=transfers)
        self.driver = StoredTreeDriver(stack, device=device, rows=rows, transfers=transfers)
        self._tree = self.driver.tree
        self._step = STEP
        self._requests = 0

    @property
    def _storage(self) -> Any:  # noqa: ANN401 - the backend that the release opened last
        return self._stack.controller.storage_backend

    @override
    def run(self) -> Iterator[DigestRecord]:
        """Run the script of a tree, which stores what it has on the host."""
        with self._threads_watched(), pageable("zeros"):
            yield from super().run()

    def run_later_step(self, step: str, ledger: TreeLedger) -> Iterator[DigestRecord | StateRecord]:
        """Run one of :func:`later_steps` once :meth:`run` is over; none without a driven tree.

        ``ledger`` reads locks and slots while a query is on its way, and when all is over.
        """
        if not self.notes:
            self._ledger, self._step = ledger, step
            with self._threads_watched(), pageable("zeros"):
                yield from self._attach_again() if step == ATTACHMENT else self._run_step()

    def _run_step(self) -> Iterator[DigestRecord | StateRecord]:
        """Run every prefetch, then store nodes while they live on."""
        yield from self._run_prefetches()
        self._empty()
        yield from StorageLife(
            driver=self.driver,
            device=self._device,
            ledger=self._ledger,
            is_buffer=self.is_buffer,
        ).run()

    def _attach_again(self) -> Iterator[DigestRecord | StateRecord]:
        """Detach storage and attach it again."""
        client = StorageClient(
            ask=self._ask,
            prefetch=self._prefetch,
            load_back=self._load_back,
            empty=self.driver.flush,
        )
        self._empty()
        yield from AttachmentLife(
            self._stack,
            driver=self.driver,
            client=client,
            ledger=self._ledger,
            is_buffer=self.is_buffer,
        ).run()

    @contextmanager
    def _threads_watched(self) -> Iterator[None]:
        """Keep the errors of threads, which work only while the driver waits for them."""
        with capture_thread_errors() as self.driver.thread_errors, storage_paused():
            yield

    def _run_prefetches(self) -> Iterator[DigestRecord | StateRecord]:
        first, second = self._sequences()
        self._empty()
        yield from self._prefetch(TreePrefetch(phase=WHOLE, sequence=first))
        yield from self._load_back(first)
        # The tree has the half that both share.
        behind = TreePrefetch(phase=_BEHIND, sequence=second)
        yield from self._prefetch(behind)
        self._empty()
        yield from self._prefetch(TreePrefetch(phase="once more", sequence=first))
        yield from self._prefetch(
            replace(
                behind,
                phase=f"{_BEHIND} while the tree evicts",
                queried=self._storage.held_queries,
                is_evicted=True,
                policy="wait_complete",
            )
        )
        for asked in self._disturbances(first):
            self._empty()
            yield from self._prefetch(asked)
        # From a node of the tree on, which is locked meanwhile; an empty tree has only its root.
        for asked in self._disturbances(second, known=self.driver.part):
            self._empty()
            for _ in self._prefetch(TreePrefetch(phase=WHOLE, sequence=first)):
                pass
            yield from self._prefetch(replace(asked, phase=f"{_BEHIND}, {asked.phase}"))
        # From a node that ends where the first half does, with a state of its own.
        for asked in self._disturbances(second, known=self.driver.part):
            if asked.phase == ANCHOR_FAILS:
                self._empty()
                yield from self._insert(self._half(second))
                yield from self._prefetch(replace(asked, phase=f"behind a half, {asked.phase}"))
        yield from self._in_namespace(first)

    def _disturbances(self, sequence: TokenSequence, *, known: int = 0) -> Iterator[TreePrefetch]:
        """Yield what may go wrong behind ``known`` tokens; of any pool a page may be missing."""
        pools = () if known else entries_of(self._stack.group)
        return disturbed_prefetches(
            sequence,
            storage=self._storage,
            pools=tuple(dict.fromkeys((ANCHOR, *pools))),
            page_size=self._stack.page_size,
            known=known,
        )

    def _in_namespace(self, sequence: TokenSequence) -> Iterator[DigestRecord | StateRecord]:
        """Prefetch tokens in a namespace in which they were not stored, then in which they were."""
        other = replace(sequence, namespace=_NAMESPACE, parts=("tenant's", "tenant's other"))
        self._empty()
        yield from self._prefetch(TreePrefetch(phase="in another namespace", sequence=other))
        self._empty()
        yield from self._insert(replace(other, name="tenant"))
        self.driver.evict_device()
        self.driver.acknowledge()
        self._empty()
        yield from self._prefetch(TreePrefetch(phase="in its namespace", sequence=other))
        self._empty()
        yield from self._insert(self._half(other))
        behind = TreePrefetch(phase=f"in its namespace, {_BEHIND}", sequence=other)
        yield from self._prefetch(behind)

    def _half(self, sequence: TokenSequence) -> TokenSequence:
        """Return the first half of a sequence as one of its own."""
        return replace(self._beginning(sequence, 1), name=f"half of {sequence.name}")

    def _beginning(self, sequence: TokenSequence, parts: int) -> TokenSequence:
        """Return the first parts of a sequence as one of its own."""
        tokens = sequence.tokens[: parts * self.driver.part]
        boundary = (tokens[-1] + 1,) if self._tree.has_pairs else ()
        name = f"{parts} parts of {sequence.name}"
        known = replace(sequence, name=name, tokens=tokens, parts=sequence.parts[:parts])
        return replace(known, boundary=boundary)

    def _prefetch(self, asked: TreePrefetch) -> Iterator[DigestRecord | StateRecord]:
        """Ask for a sequence as a scheduler does; record what storage has and what arrived."""
        cache, sequence = self._cache, asked.sequence
        handle = self._next_handle()
        key = self._tree.key(sequence.raw_tokens, sequence.namespace)
        match = self._tree.match(key, None)
        known = len(self._tree.device_slots(match)) + int(match.host_hit_length)
        self._set_limits(asked, len(sequence.tokens) - known)
        given = self._given(handle, match, sequence, known)
        keys = page_keys(sequence.units, self._stack.page_size)
        spread = self._pools_by_page(keys)
        with asked.disturbed():
            is_known = not sequence.namespace and not asked.has_short_peer
            available = self._available(keys, spread) if is_known else None
            hits = self._query(given)
            with asked.queried():
                cache.prefetch_from_storage(
                    **accepted_arguments(cache.prefetch_from_storage, given)
                )
                is_held = asked.queried is not nullcontext
                if is_held:
                    with storage_working():
                        self._storage.wait_for_query()
                    yield from self._ledger.read_locks(f"{asked.phase}: queried")
                if asked.is_evicted:
                    self.driver.evict_device()
                    self.driver.evict_host()
                if asked.is_aborted:
                    cache.release_aborted_request(handle)
                is_over = bool(cache.check_prefetch_progress(handle)) if is_held else False
            self.driver.acknowledge()
            is_over = is_over if is_held else bool(cache.check_prefetch_progress(handle))
            cache.check_prefetch_progress(handle)
            self.driver.acknowledge()
        self._admit(handle, sequence)
        match = self._tree.match(key, None)
        there = len(self._tree.device_slots(match)) + int(match.host_hit_length)
        yield from self._ledger.read(asked.phase, is_final=True)
        yield from self._ledger.read_occupied(asked.phase)
        yield StorageMatch(
            step=self._step,
            backend="",
            sequence=sequence.name,
            phase=asked.phase,
            asked=len(sequence.tokens) - known,
            available=None if available is None else available - known,
            hits=hits,
            arrived=there - known,
            pools=self._host_hits(match),
            is_over=is_over,
            equal=None,
        )

    def _ask(self, asked: TreePrefetch) -> Any:  # noqa: ANN401 - the release's own class
        """Ask for what the tree lacks; return the handle of the request."""
        cache, sequence = self._cache, asked.sequence
        key = self._tree.key(sequence.raw_tokens, sequence.namespace)
        handle, match = self._next_handle(), self._tree.match(key, None)
        known = len(self._tree.device_slots(match)) + int(match.host_hit_length)
        self._set_limits(asked, 0)
        given = self._given(handle, match, sequence, known)
        cache.prefetch_from_storage(**accepted_arguments(cache.prefetch_from_storage, given))
        return handle

    def _pools_by_page(self, keys: list[str]) -> dict[str, bool]:
        """Return the pools that have pages of a sequence, and whether they have each of them."""
        pools = {ANCHOR: True, **dict.fromkeys(entries_of(self._stack.group), True)}
        stored = {pool: [self._storage.has_page(pool, key) for key in keys] for pool in pools}
        return {pool: all(found) for pool, found in stored.items() if any(found)}

    def _available(self, keys: list[str], spread: dict[str, bool]) -> int:
        """Return the longest prefix in tokens whose pages all arrive.

        Of a pool that has every page all of them are needed, of a pool that has the last page of
        each node that one. Of nothing that is stored nothing arrives.
        """
        storage = self._storage
        for length in range(len(keys) if spread else 0, 0, -1):
            if all(
                all(storage.hands_out(pool, key) for key in keys[:length])
                if is_spread
                else storage.hands_out(pool, keys[length - 1])
                for pool, is_spread in spread.items()
            ):
                return length * self._stack.page_size
        return 0

    def _given(
        self,
        handle: Any,  # noqa: ANN401
        match: Any,  # noqa: ANN401
        sequence: TokenSequence,
        known: int,
    ) -> dict[str, Any]:
        """Return the arguments of a prefetch behind the known tokens, whatever their names."""
        node, cache = self._anchor(match), self._cache
        last_hash = getattr(cache, "get_last_hash_value", None)
        prefix = getattr(cache, "get_prefix_hash_values", None)
        return {
            "request": handle,
            "req_id": handle,
            "last_host_node": node,
            "last_host_node_id": node,
            "new_input_tokens": self._tree.tokens(sequence.raw_tokens[known:]),
            "last_hash": node.get_last_hash_value() if last_hash is None else last_hash(node),
            "prefix_keys": None if prefix is None else prefix(node),
            "matched_prefix_tokens": self._tree.tokens(sequence.tokens[:known]),
            "extra_key": sequence.namespace,
            "cache_salt": salt_of(sequence.namespace),
        }

    def _query(self, given: dict[str, Any]) -> int | None:
        """Return the tokens that storage has for every pool; None where no release counts them."""
        query = getattr(self._cache, "query_storage_hit_length", None)
        return None if query is None else int(query(**accepted_arguments(query, given)))

    def _load_back(self, sequence: TokenSequence) -> Iterator[DigestRecord]:
        """Load what arrived into a poisoned device, and compare it with what was stored."""
        self._comparisons = {plane.name: RoundTripComparison() for plane in self._rows.planes}
        held = self._hold()
        self._rows.poison(self._step)
        before = self._rows.snapshot()
        loading, reading = self._load(sequence), TreeRequest("read")
        match = self._tree.match(self._tree.key(sequence.raw_tokens, sequence.namespace), reading)
        self._device.synchronize()
        with self._device.pause_interception():
            slots = self._tree.device_slots(match)
            self._compare(sequence, slots, (loading, reading), before, held)
        for plane in self._rows.planes:
            comparison = self._comparisons[plane.name]
            yield comparison.record(step=self._step, pool=plane.pool, plane=plane.plane)
        self._transfers.return_slots(self._states_held((loading, reading)))
        self._return_held(held)

    def _load(self, sequence: TokenSequence) -> TreeRequest:
        """Load what the host has of a sequence; return the request for it."""
        request = TreeRequest("load")
        match = self._tree.match(self._tree.key(sequence.raw_tokens, sequence.namespace), None)
        request.take_match(match)
        if match.host_hit_length:
            self._tree.load_back(match, request)
        self.driver.acknowledge()
        return request

    def _admit(self, handle: Any, sequence: TokenSequence) -> None:  # noqa: ANN401
        """Let a request run whose prefetch is over; what arrived is in the tree by then."""

    def _anchor(self, match: Any) -> Any:  # noqa: ANN401 - nodes of the release
        """Return the node behind which a prefetch begins."""
        return match.last_host_node

    def _empty(self) -> None:
        """Empty the tree and its pools, once everything is settled."""
        self.driver.acknowledge()
        self.driver.flush()

    def _set_limits(self, asked: TreePrefetch, tokens: int) -> None:
        threshold = 1 if asked.threshold is None else tokens + asked.threshold
        self._cache.prefetch_threshold = threshold
        self._stack.controller.prefetch_threshold = threshold
        if asked.policy and hasattr(self._cache, "prefetch_stop_policy"):
            self._cache.prefetch_stop_policy = asked.policy

    def _next_handle(self) -> Any:  # noqa: ANN401 - the release's own class, or text
        """Return the handle of another request."""
        self._requests += 1
        cls, name = find_part(_HANDLES, "CacheRequestHandle"), f"request-{self._requests}"
        return name if cls is None else cls(name, 0)

    @staticmethod
    def _host_hits(match: Any) -> dict[str, int]:  # noqa: ANN401
        """Return the tokens of each other pool that a match found on the host."""
        found = {"SWA": "swa_host_hit_length", "MAMBA": "mamba_host_hit_length"}
        hits = {pool: int(getattr(match, name, 0) or 0) for pool, name in found.items()}
        return {pool: num for pool, num in hits.items() if num}
