"""A request that prefetches a sequence into a release's tree, and what is done to it meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from traces.targets.sglang.peers import peer_with_fewer
from traces.targets.sglang.storage_driver import page_keys
from traces.targets.sglang.tree_driver import TokenSequence

WHOLE = "whole"
ANCHOR = "KV"
ANCHOR_FAILS = f"{ANCHOR} fails at a page"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePrefetch:
    """A request that prefetches a sequence.

    ``disturbed`` is open during all of it, ``queried`` until it is submitted. ``threshold`` is how
    many tokens more than it asks for make a prefetch worth it, None where one token does. Meanwhile
    the request may be aborted, or the tree asked to evict everything. An empty policy is the one
    that the tree has. With ``has_short_peer`` another rank has less than this one.
    """

    phase: str
    sequence: TokenSequence
    disturbed: Callable[[], AbstractContextManager[object]] = nullcontext
    queried: Callable[[], AbstractContextManager[object]] = nullcontext
    threshold: int | None = None
    is_aborted: bool = False
    is_evicted: bool = False
    policy: str = "best_effort"
    has_short_peer: bool = False

    @property
    def is_disturbed(self) -> bool:
        """True where storage answers otherwise than it would."""
        return self.disturbed is not nullcontext


def disturbed_prefetches(
    sequence: TokenSequence,
    *,
    storage: Any,  # noqa: ANN401 - the backend that the release opened
    pools: tuple[str, ...],
    page_size: int,
    known: int,
) -> Iterator[TreePrefetch]:
    """Yield what may go wrong behind ``known`` tokens: with a page of each pool, and with none.

    Storage has the whole sequence.
    """
    keys = page_keys(sequence.units, page_size)
    middle = keys[len(keys) // 2]
    plain = TreePrefetch(phase=WHOLE, sequence=sequence)
    for pool in pools:
        key = middle if storage.has_page(pool, middle) else keys[-1]
        if storage.has_page(pool, key):
            for phase, how in (
                ("without a page", storage.without_page),
                ("fails at a page", storage.failing_page),
            ):
                yield replace(plain, phase=f"{pool} {phase}", disturbed=partial(how, pool, key))
    if storage.has_page(ANCHOR, middle):
        yield replace(
            plain,
            phase="fewer hits than the threshold",
            disturbed=partial(storage.without_page, ANCHOR, middle),
            threshold=0,
        )
    yield from _short_peers(plain, storage, len(sequence.tokens) - known, page_size)
    yield replace(plain, phase="below the threshold", threshold=1)
    # Before a storage thread has looked at it.
    yield replace(plain, phase="aborted at once", is_aborted=True)
    held = replace(plain, queried=storage.held_queries)
    yield replace(held, phase="aborted", is_aborted=True)
    yield replace(held, phase="not waited for")
    yield replace(held, phase="waited for", policy="wait_complete")


def _short_peers(
    plain: TreePrefetch,
    storage: Any,  # noqa: ANN401
    asked: int,
    page_size: int,
) -> Iterator[TreePrefetch]:
    """Yield prefetches of which a peer finds, or fetches, a page less than this rank."""
    short = replace(plain, has_short_peer=True)
    fewer = partial(peer_with_fewer, asked, page_size=page_size)
    yield replace(short, phase="a peer finds a page less", disturbed=fewer)

    def fetches_fewer() -> AbstractContextManager[None]:
        storage.was_fetched = False
        return fewer(is_short=lambda: storage.was_fetched)

    yield replace(short, phase="a peer fetches a page less", disturbed=fetches_fewer)
