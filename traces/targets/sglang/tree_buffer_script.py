"""Script of a release's own tree whose host memory is a buffer between device and storage.

Such a tree keeps nothing on the host: a node goes through the buffer to storage, and what a request
prefetched waits in the buffer until the request is admitted, which loads it into device slots. The
tree remembers which pages it believes to be stored, and stores them no more; what storage turns out
to lack it has to store again. So each sequence whose prefetch was disturbed is inserted afterwards.
"""

from collections.abc import Iterator
from typing import Any

from typing_extensions import override

from traces.schema.life import StateRecord
from traces.schema.model import DigestRecord, TreeMatch
from traces.targets.sglang.tree_client import TreeRequest, salt_of
from traces.targets.sglang.tree_driver import TokenSequence
from traces.targets.sglang.tree_prefetch import TreePrefetch
from traces.targets.sglang.tree_storage_script import TreeStorageScript


class TreeBufferScript(TreeStorageScript):
    """Drives a tree that hands what was prefetched to a request at its admission."""

    is_buffer = True

    @override
    def _anchor(self, match: Any) -> Any:
        return match.last_device_node

    @override
    def _prefetch(self, asked: TreePrefetch) -> Iterator[DigestRecord | StateRecord]:
        yield from super()._prefetch(asked)
        if asked.is_disturbed:
            self.driver.insert(asked.sequence)
            self.driver.acknowledge()
            yield from self._ledger.read(f"{asked.phase}: inserted again", is_final=True)

    @override
    def _set_limits(self, asked: TreePrefetch, tokens: int) -> None:
        super()._set_limits(asked, tokens)
        # A server fetches no window in parts.
        attachment = getattr(self._cache, "_storage_attachment", None)
        resolve = getattr(attachment, "resolve_prefetch_threshold", int)
        threshold = resolve(self._cache.prefetch_threshold)
        self._cache.prefetch_threshold = threshold
        self._stack.controller.prefetch_threshold = threshold

    @override
    def _admit(self, handle: Any, sequence: TokenSequence) -> None:
        self._finish(self._admitted(handle, sequence))

    @override
    def _load_back(self, sequence: TokenSequence) -> Iterator[DigestRecord]:
        self._empty()
        yield from super()._load_back(sequence)

    @override
    def _load(self, sequence: TokenSequence) -> TreeRequest:
        return self._admitted(self._fetched(sequence), sequence)

    @override
    def _run_prefetches(self) -> Iterator[DigestRecord | StateRecord]:
        yield from super()._run_prefetches()
        _, second = self._sequences()
        yield from self._admit_late(second)
        yield from self._wait_for_room(second)

    def _admit_late(self, sequence: TokenSequence) -> Iterator[DigestRecord | StateRecord]:
        """Admit requests behind a known half after the tree has changed, or never."""
        driver = self.driver
        for phase, change in (
            ("evicted meanwhile", driver.evict_device),
            ("inserted meanwhile", lambda: driver.insert(sequence)),
        ):
            handle = self._fetched_behind_half(sequence)
            yield from self._ledger.read_locks(f"{phase}: fetched")
            change()
            driver.acknowledge()
            self._admit(handle, sequence)
            yield from self._state_of(sequence, phase)
        handle = self._fetched_behind_half(sequence)
        self._cache.release_aborted_request(handle)
        yield from self._state_of(sequence, "aborted once fetched")

    def _wait_for_room(self, sequence: TokenSequence) -> Iterator[DigestRecord | StateRecord]:
        """Admit a request while the device is full, and again once there is room."""
        driver = self.driver
        handle = self._fetched_behind_half(sequence)
        taken = driver.slots.take(driver.slots.room())
        self._admit(handle, sequence)
        # What was fetched still lies in the buffer, for the request.
        yield self._match_of(sequence, "no room on the device")
        yield from self._ledger.read_locks("no room on the device")
        if taken is not None:
            driver.slots.return_slots(taken)
        self._admit(handle, sequence)
        yield from self._state_of(sequence, "room on the device")

    def _state_of(
        self, sequence: TokenSequence, phase: str
    ) -> Iterator[DigestRecord | StateRecord]:
        """Yield what a sequence has on the device, and the owners of all slots."""
        yield self._match_of(sequence, phase)
        yield from self._ledger.read(phase, is_final=True)

    def _match_of(self, sequence: TokenSequence, phase: str) -> TreeMatch:
        match = self._tree.match(self._tree.key(sequence.raw_tokens, sequence.namespace), None)
        return self._compare_match(sequence, match, phase=phase, is_on_device=True)

    def _fetched_behind_half(self, sequence: TokenSequence) -> Any:  # noqa: ANN401
        """Have the second half of a sequence fetched for a request; return its handle."""
        self._keep_half(sequence)
        return self._fetched(sequence)

    def _keep_half(self, sequence: TokenSequence) -> None:
        """Empty the tree but for the first half of a sequence."""
        self._empty()
        self.driver.insert(self._half(sequence))
        self.driver.acknowledge()

    def _fetched(self, sequence: TokenSequence) -> Any:  # noqa: ANN401
        """Have what the tree lacks fetched for a request; return its handle."""
        handle = self._asked(sequence)
        self._wait_for(handle)
        return handle

    def _asked(self, sequence: TokenSequence) -> Any:  # noqa: ANN401 - the release's own class
        """Ask for what the tree lacks, all of it; return the handle of the request."""
        return self._ask(TreePrefetch(phase="", sequence=sequence, policy="wait_complete"))

    def _wait_for(self, handle: Any) -> None:  # noqa: ANN401
        """Wait until what a request asked for has arrived, as far as it does."""
        self.driver.acknowledge()
        self._cache.check_prefetch_progress(handle)
        self.driver.acknowledge()

    def _admitted(self, handle: Any, sequence: TokenSequence) -> TreeRequest:  # noqa: ANN401
        """Admit a request, as a scheduler does that has room for it, and load what it fetched."""
        request, match = self._matched(handle, sequence)
        is_ready = self._cache.buffer_pipeline.prepare_staged_prefetch(request)
        if is_ready and request.needs_load_back:
            with self.driver.locked(request.last_node):
                self._tree.load_back(match, request)
        self.driver.acknowledge()
        return request

    def _matched(self, handle: Any, sequence: TokenSequence) -> tuple[TreeRequest, Any]:  # noqa: ANN401
        """Return a request with what the tree has of its tokens, and the match."""
        tree, request = self._tree, TreeRequest(getattr(handle, "rid", handle))
        request.cache_request_handle = handle
        request.extra_key, request.cache_salt = sequence.namespace, salt_of(sequence.namespace)
        match = tree.match(tree.key(sequence.raw_tokens, sequence.namespace), request)
        request.take_match(match)
        request.prefix_len = len(tree.device_slots(match))
        return request, match

    def _finish(self, request: TreeRequest) -> None:
        """End a request: its states are free again."""
        self._transfers.return_slots(self._states_held((request,)))
