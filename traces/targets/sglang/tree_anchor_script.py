"""Script of a release's own tree whose prefetches lock the prefix that they begin behind.

What is read into a buffer belongs behind a prefix on the device, its anchor. The tree locks the
anchor once it begins to read, and unlocks it when the request is admitted or gives up. Here
requests give up in every way that there is, the tree changes before it begins to read, and each
pool in turn has no room. A lock that is given up too early, too late or never shows in the records
of locks, which are read after every step.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from typing_extensions import override

from traces.schema.life import EvictionCount, StateRecord
from traces.schema.model import DigestRecord
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.scenarios import HOST_BUFFER
from traces.targets.sglang.storage_driver import page_keys
from traces.targets.sglang.tree_buffer_script import TreeBufferScript
from traces.targets.sglang.tree_client import EVICT_ALL
from traces.targets.sglang.tree_driver import KV, MAMBA, TokenSequence
from traces.targets.sglang.tree_ledger import CountedPool
from traces.targets.sglang.tree_prefetch import TreePrefetch
from traces.targets.sglang.tree_script import TreeScript
from traces.targets.sglang.tree_storage_script import STEP, TreeStorageScript

_Records = Iterator[DigestRecord | StateRecord]

_NAMESPACE = "anchored"
# Numbers of the parts of sequences that nothing else stores.
_SHARED, _ONE, _MORE, _LATE, _LAST, _LONG = 41, 42, 43, 44, 45, 50
# Parts of the longest sequence, and how many prefixes of it are anchors.
_LONGEST, _ANCHORS = 6, 3


def script_of_tree(stack: AssembledStack, *, has_storage: bool) -> type[TreeScript]:
    """Return the script for a stack's tree, with storage or without."""
    if not has_storage:
        return TreeScript
    is_buffer = stack.scenario.host_memory == HOST_BUFFER
    return TreeAnchorScript if is_buffer else TreeStorageScript


class TreeAnchorScript(TreeBufferScript):
    """Drives a tree that locks the anchors of prefetches."""

    @override
    def _run_prefetches(self) -> _Records:
        yield from super()._run_prefetches()
        sequence = self.driver.sequence("anchored", shared=_SHARED, one=_ONE)
        own = replace(sequence, namespace=_NAMESPACE)
        for stored in (sequence, own):
            self._store(stored)
        yield from self._lose_first_page(sequence)
        yield from self._give_up(sequence)
        yield from self._change_before_reading(own)
        yield from self._wait_for_buffer(sequence)
        yield from self._load_beside(sequence)
        yield from self._load_without_room_beside(sequence)
        yield from self._lock_long_anchors()
        yield from self._store_without_room_beside()

    def _store(self, sequence: TokenSequence) -> None:
        """Have a sequence stored, and keep nothing of it."""
        self._empty()
        self.driver.insert(sequence)
        self.driver.insert_again(sequence)
        self.driver.acknowledge()
        self._empty()

    def _lose_first_page(self, sequence: TokenSequence) -> _Records:
        """Fetch a sequence whose first page fails to arrive, so that nothing of it is of use."""
        first = page_keys(sequence.units, self._stack.page_size)[0]
        yield from self._prefetch(
            TreePrefetch(
                phase="KV fails at its first page",
                sequence=sequence,
                disturbed=lambda: self._storage.failing_page(KV, first),
            )
        )

    def _give_up(self, sequence: TokenSequence) -> _Records:
        """End a request in every way while its pages are read, and the tree is asked to evict."""
        for phase, end in (
            ("admitted", self._admit),
            ("aborted", lambda handle, _: self._cache.release_aborted_request(handle)),
            ("not waited for", self._do_not_wait),
            ("loaded", self._load_at_once),
        ):
            moment = f"{phase} while its pages are read"
            self._keep_half(sequence)
            handle = self._asked(sequence)
            # Storage has answered; what it reads comes when its threads are waited for again.
            self.driver.poll()
            yield from self._evict(f"{moment}: reading")
            end(handle, sequence)
            yield from self._ledger.read_locks(f"{moment}: over")
            yield from self._end(handle, sequence, moment)

    def _end(self, handle: Any, sequence: TokenSequence, phase: str) -> _Records:  # noqa: ANN401
        """Wait for a request and abort it, and yield what is left."""
        self._wait_for(handle)
        self._cache.release_aborted_request(handle)
        self.driver.acknowledge()
        yield from self._state_of(sequence, phase)

    def _do_not_wait(self, handle: Any, sequence: TokenSequence) -> None:  # noqa: ANN401
        """Admit a request with what has arrived by now."""
        if hasattr(self._cache, "prefetch_stop_policy"):
            self._cache.prefetch_stop_policy = "best_effort"
        self._cache.check_prefetch_progress(handle)
        self._admit(handle, sequence)

    def _load_at_once(self, handle: Any, sequence: TokenSequence) -> None:  # noqa: ANN401
        """Load for a request that is not looked at before: nothing is there for it."""
        request, match = self._matched(handle, sequence)
        self._tree.load_back(match, request)

    def _change_before_reading(self, sequence: TokenSequence) -> _Records:
        """Change the tree between the request of a prefetch and the answer of storage."""
        driver = self.driver
        half = self._half(sequence)
        changes: tuple[tuple[str, Callable[[], None], Callable[[], object]], ...] = (
            ("its half is there before it is read", self._empty, lambda: driver.insert(half)),
            (
                "it is there before it is read",
                lambda: self._keep_half(sequence),
                lambda: driver.insert(sequence),
            ),
            (
                "its half is lost before it is read",
                lambda: self._keep_half(sequence),
                driver.evict_device,
            ),
        )
        for phase, prepare, apply in changes:
            prepare()
            handle = self._asked(sequence)
            apply()
            self._wait_for(handle)
            yield from self._evict(f"{phase}: read")
            self._admit(handle, sequence)
            yield from self._end(handle, sequence, phase)

    def _wait_for_buffer(self, sequence: TokenSequence) -> _Records:
        """Fetch while the buffer is full, and again once there is room."""
        for phase, change in (
            ("room in the buffer", lambda: None),
            ("room in the buffer, behind nothing", self.driver.evict_device),
        ):
            self._keep_half(sequence)
            with self._held(self._beside("host") or self._pools("host"), spare=0):
                handle = self._fetched(sequence)
                # What it tries in vain to take is given back at the next poll.
                yield self._match_of(sequence, f"{phase}: none")
                yield from self._ledger.read_locks(f"{phase}: none")
            change()
            self.driver.poll()
            yield from self._ledger.read_locks(f"{phase}: reading")
            self._wait_for(handle)
            yield from self._ledger.read_locks(f"{phase}: read")
            self._admit(handle, sequence)
            yield from self._end(handle, sequence, phase)

    def _load_beside(self, sequence: TokenSequence) -> _Records:
        """Fetch what lies beside the KV of a sequence, while a longer request keeps its KV."""
        driver, tree, phase = self.driver, self._tree, "what lies beside the KV is read"
        if not self._beside("device"):
            return
        self._empty()
        longer = driver.sequence("longer", shared=_SHARED, one=_ONE, more=_MORE)
        for one in (sequence, longer):
            driver.insert(one)
        driver.insert_again(sequence)
        driver.acknowledge()
        match = tree.match(tree.key(longer.raw_tokens, longer.namespace), None)
        with driver.locked(match.last_device_node):
            tree.evict(0, EVICT_ALL, windows=EVICT_ALL)
            yield self._match_of(sequence, f"{phase}: lost")
            handle = self._fetched(sequence)
            yield from self._evict(phase)
            self._admit(handle, sequence)
            yield self._match_of(sequence, f"{phase}: loaded")
        yield from self._end(handle, sequence, f"{phase}: over")

    def _load_without_room_beside(self, sequence: TokenSequence) -> _Records:
        """Admit a request while pools beside the KV have no room on the device for all of it."""
        pools = self._beside("device")
        if not pools:
            return
        handle = self._fetched_behind_half(sequence)
        self.driver.evict_device()
        self.driver.acknowledge()
        # A request has a state of its own beside that of its node: there is one for it.
        with self._held(pools, spare=int(MAMBA in self.driver.domains)):
            request = self._admitted(handle, sequence)
            yield from self._end(handle, sequence, "no room beside the KV on the device")
            self._finish(request)

    def _lock_long_anchors(self) -> _Records:
        """Fetch behind long anchors, for two requests each: a tree locks a part of its pool."""
        driver = self.driver
        self._empty()
        num = min(_LONGEST, driver.slots.room() // driver.part - 1)
        parts = {f"part {number}": _LONG + number for number in range(num)}
        sequence = driver.sequence("long", **parts)
        self._store(sequence)
        for known in range(max(1, num - _ANCHORS), num):
            phase = f"behind {known} parts of {num}"
            self._empty()
            driver.insert(self._beginning(sequence, known))
            driver.acknowledge()
            handles = [self._fetched(sequence) for _ in range(2)]
            yield from self._evict(f"{phase}: read")
            for handle in handles:
                self._cache.release_aborted_request(handle)
                driver.acknowledge()
                yield from self._ledger.read_locks(f"{phase}: aborted")
            yield from self._state_of(sequence, phase)

    def _store_without_room_beside(self) -> _Records:
        """Insert while the buffer has room for one page of each pool beside the KV."""
        pools = self._beside("host") or self._pools("host")
        phase = "stored with room for a page"
        self._empty()
        with self._held(pools, spare=1):
            self.driver.insert(self.driver.sequence("late", late=_LATE, last=_LAST))
            self.driver.acknowledge()
            yield from self._ledger.read_locks(phase)
        self.driver.acknowledge()
        yield from self._ledger.read(phase, is_final=True)

    def _evict(self, moment: str) -> Iterator[StateRecord]:
        """Ask the tree to evict everything on the device; yield what it counts, and the locks."""
        yield from self._ledger.read_locks(moment)
        for name, number in self.driver.evict_device().items():
            yield EvictionCount(step=STEP, moment=moment, name=name, number=number)

    def _pools(self, side: str) -> list[CountedPool]:
        return [pool for pool in self._ledger.pools if pool.side == side]

    def _beside(self, side: str) -> list[CountedPool]:
        """Return the pools beside the KV that have slots of their own."""
        return [pool for pool in self._pools(side) if pool.pool != KV]

    @contextmanager
    def _held(self, pools: list[CountedPool], *, spare: int) -> Iterator[None]:
        """Take all free slots of pools while the block runs, but for ``spare`` pages of each."""
        with ExitStack() as returned:
            for pool in pools:
                spared = spare * pool.page(self._stack)
                free = int(pool.allocator.available_size())
                if free <= spared:
                    continue
                slots = pool.allocator.alloc(free - spared)
                returned.callback(pool.allocator.free, slots)
                self._ledger.held[pool.side, pool.pool] += len(slots)
            yield
        for pool in pools:
            self._ledger.held[pool.side, pool.pool] = 0
