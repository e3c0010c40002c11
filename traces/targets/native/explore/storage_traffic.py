"""Storage steps of random traffic: prefetches, their ends, and threads that die."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from assembler.cache.keys import RadixKey
from assembler.cache.prefixes import MatchPrefixParams, MatchResult
from assembler.errors import DeadlockError
from traces.explore import steps
from traces.targets.native.explore.faults import FaultInjector
from traces.targets.native.explore.page_store import StorageThreadDiedError
from traces.targets.native.explore.small_stack import SmallStack
from traces.targets.native.explore.traffic_model import ModelNode, TrafficModel

StorageStep = (
    steps.Fetch | steps.CheckFetch | steps.AbortFetch | steps.CheckStorage | steps.DetachStorage
)


class StorageTraffic:
    """Takes the storage steps on a stack; ``reset`` is what a server does when a thread died."""

    def __init__(
        self,
        stack: SmallStack,
        *,
        model: TrafficModel,
        faults: FaultInjector,
        reset: Callable[[], None],
    ) -> None:
        self._stack = stack
        self._cache = stack.cache
        self._model = model
        self._faults = faults
        self._reset = reset

    def apply(self, step: StorageStep) -> None:
        """Take a step; nothing where there is no storage tier."""
        if self._stack.store is None:
            return
        with self.survived():
            match step:
                case steps.Fetch() if step.node in self._model.written:
                    self._fetch(step.node)
                case steps.CheckFetch() if step.node in self._model.requests:
                    self._check(step.node)
                case steps.AbortFetch() if step.node in self._model.requests:
                    if self._cache.release_aborted_request(self._model.requests[step.node]):
                        del self._model.requests[step.node]
                case steps.CheckStorage():
                    self._cache.check_hicache_events()
                case steps.DetachStorage():
                    self._model.requests.clear()
                    self._cache.detach_storage_backend()
                    self._stack.attach_storage()
                case _:
                    pass

    def finish(self) -> None:
        """Wait for every prefetch and for every node that is stored."""
        with self.survived():
            for number in tuple(self._model.requests):
                while number in self._model.requests:
                    self._check(number)
            while self._cache.ongoing_write_through or self._cache.ongoing_backup:
                self._cache.check_hicache_events()

    @contextmanager
    def survived(self) -> Iterator[None]:
        """Reset the cache where a thread was ended by the injector; pass other errors on."""
        try:
            yield
        except (StorageThreadDiedError, DeadlockError):
            if not self._faults.has_killed:
                raise
            # The thread's error is raised once more where nobody has waited for it.
            with suppress(StorageThreadDiedError):
                self._reset()
            self._faults.has_killed = False
            if self._stack.controller.storage_tier is None:
                self._stack.attach_storage()

    def _fetch(self, number: int) -> None:
        if number in self._model.requests:
            return
        anchor = self._match(number).last_host_node
        depth = sum(len(part) for part in anchor.path())
        tokens = self._model.written[number].tokens[depth:]
        if self._cache.prefetch_from_storage(str(number), anchor, tokens):
            self._model.requests[number] = str(number)

    def _check(self, number: int) -> None:
        """Take a node in that came back, perhaps in part."""
        if not self._cache.check_prefetch_progress(self._model.requests[number]):
            return
        del self._model.requests[number]
        known = self._model.written[number]
        node = self._match(number).best_match_node
        if node.parent is not None and number not in self._model.nodes:
            self._model.nodes[number] = ModelNode(
                node=node, content=known.content, tokens=known.tokens
            )

    def _match(self, number: int) -> MatchResult:
        key = RadixKey(self._model.written[number].tokens)
        return self._cache.match_prefix(MatchPrefixParams(key))
