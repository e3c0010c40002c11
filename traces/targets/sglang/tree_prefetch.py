"""A request that prefetches a sequence into a release's tree, and what is done to it meanwhile."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from traces.targets.sglang.tree_driver import TokenSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePrefetch:
    """A request that prefetches a sequence.

    ``disturbed`` is open during all of it, ``queried`` until it is submitted. ``threshold`` is how
    many tokens more than it asks for make a prefetch worth it, None where one token does. Meanwhile
    the request may be aborted, or the tree asked to evict everything. An empty policy is the one
    that the tree has.
    """

    phase: str
    sequence: TokenSequence
    disturbed: Callable[[], AbstractContextManager[object]] = nullcontext
    queried: Callable[[], AbstractContextManager[object]] = nullcontext
    threshold: int | None = None
    is_aborted: bool = False
    is_evicted: bool = False
    policy: str = "best_effort"

    @property
    def is_disturbed(self) -> bool:
        """True where storage answers otherwise than it would."""
        return self.disturbed is not nullcontext


def disturbance(
    how: Callable[[str, str], AbstractContextManager[object]], pool: str, key: str
) -> Callable[[], AbstractContextManager[object]]:
    """Return what disturbs a page of a pool each time that it is called."""
    return lambda: how(pool, key)
