"""Driver of a controller's storage: write pages, prefetch them, count what arrived."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.discovery import find_part
from traces.targets.sglang.errors import StageError
from traces.targets.sglang.host_pages import HostPages, HostTargets
from traces.targets.sglang.pageable import pageable
from traces.targets.sglang.signature_caller import (
    accepted_arguments,
    accepted_parameters,
    missing_parameters,
)
from traces.targets.sglang.storage.threads import StorageThreads, storage_paused

_UTILS = "sglang.srt.mem_cache.utils"
_STORAGE = "sglang.srt.mem_cache.hicache_storage"
_REQUEST = "sglang.srt.mem_cache.base_prefix_cache"
_ANCHOR = "KV"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The result of one prefetch.

    Attributes:
        pages: the host slots that it was given; the next prefetch of as many tokens gets them too.
        hits: tokens that storage has for every pool.
        arrived: tokens of the anchor that arrived.
        pools: pages that arrived of each pool with an account of its own.
    """

    pages: HostPages
    hits: int
    arrived: int
    pools: dict[str, int]

    def is_whole(self) -> bool:
        """Return whether everything that was asked for arrived."""
        return self.arrived == len(self.pages.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrefetch:
    """A request for the tokens of a node, from ``skipped`` pages on.

    ``threshold`` is the number of tokens below which a prefetch is not worth it; ``during`` is open
    while the release queries storage; ``is_aborted`` has the operation terminated meanwhile.
    """

    tokens: Sequence[int]
    skipped: int = 0
    threshold: int = 1
    during: Callable[[], AbstractContextManager[object]] = nullcontext
    is_aborted: bool = False


class StorageTierDriver:
    """Drives the storage threads of one stack, one operation at a time.

    The stack's controller has opened its storage; ``targets`` are where pages are fetched to. For
    ``thread_errors`` see :func:`~traces.targets.sglang.storage.threads.capture_thread_errors`.

    Attributes:
        threshold: the threshold that the controller keeps of the one it was given.
        prefix_keys: keys of pages that are said to lie before those that are written.
    """

    prefix_keys: tuple[str, ...] = ()

    def __init__(
        self,
        stack: AssembledStack,
        thread_errors: Mapping[threading.Thread, str],
        targets: HostTargets,
    ) -> None:
        self._stack = stack
        self._controller: Any = stack.controller
        self._threads = StorageThreads(stack.controller, thread_errors)
        self._entries = entries_of(stack.group)
        self._sources = dict(stack.sidecars)
        self._targets = targets
        self.threshold = int(self._controller.prefetch_threshold)

    def write(self, pages: HostPages, tokens: Sequence[int], *, lacking: str = "") -> int | None:
        """Write a node's pages, those of one pool left out, and wait for the acknowledgement.

        Returns:
            The tokens that the release counts as stored; None where it does not say.

        Raises:
            StageError: there is no acknowledgement.
        """
        keys = self.keys(tokens)
        write = self._controller.write_storage
        given = {
            "host_indices": pages.host,
            "token_ids": list(tokens),
            "hash_value": keys,
            "prefix_keys": list(self.prefix_keys),
            "extra_pools": self._transfers(pages, keys, lacking=lacking),
        }
        write(**accepted_arguments(write, given))
        self._threads.settle("write_storage")
        acknowledged = _drained(self._controller.ack_backup_queue)
        if not acknowledged:
            raise StageError("write_storage: must be acknowledged; expected it, got nothing")
        stored: int | None = getattr(acknowledged[-1], "completed_tokens", None)
        return stored

    def fetch(self, pages: HostPages, asked: TokenPrefetch) -> Fetched:
        """Prefetch what was written with ``pages`` into other host slots.

        Raises:
            StageError: the controller does not come to an end, or the host has no room.
        """
        with pageable("zeros"):
            target = self._targets.cleared(pages, known=asked.skipped * self._stack.page_size)
            # The one of the scenario would not fetch the few pages of a node.
            self._controller.prefetch_threshold = asked.threshold
            # What is aborted at once is aborted before a thread has looked at it.
            pause = storage_paused() if asked.is_aborted else nullcontext()
            with asked.during(), pause:
                operation = self._prefetch(target, asked)
                if asked.is_aborted:
                    self._controller.terminate_prefetch(operation)
            self._threads.settle("prefetch")
            hits, acknowledged = self._finish(operation, target.host)
            self._forget_releases()
        arrived = [ack.completed_tokens for ack in acknowledged if ack.completed_tokens is not None]
        return Fetched(
            pages=target,
            hits=hits,
            arrived=arrived[-1] if arrived else int(operation.completed_tokens),
            pools=self._pool_hits(operation, acknowledged),
        )

    def _forget_releases(self) -> None:
        """Drop what the controller hands back of host slots: they are the targets' to free."""
        _drained(getattr(self._controller, "host_mem_release_queue", None))
        for queue in getattr(self._controller, "extra_host_mem_release_queues", {}).values():
            _drained(queue)

    def keys(self, tokens: Sequence[int]) -> list[str]:
        """Return the keys of the pages of tokens; see :func:`page_keys`."""
        return page_keys(tokens, self._stack.page_size)

    def _prefetch(self, target: HostPages, asked: TokenPrefetch) -> Any:  # noqa: ANN401
        prefetch = self._controller.prefetch
        handle = find_part(_REQUEST, "CacheRequestHandle")
        keys, first = self.keys(asked.tokens), asked.skipped * self._stack.page_size
        name = f"tokens-{asked.tokens[0]}"
        given = {
            "request_id": name,
            "handle": None if handle is None else handle(name, 0),
            "host_indices": target.host,
            "new_input_tokens": list(asked.tokens[first:]),
            "last_hash": keys[asked.skipped - 1] if asked.skipped else None,
            "prefix_keys": keys[: asked.skipped] or None,
            "extra_pools": self._transfers(target, keys[asked.skipped :]),
        }
        unknown = missing_parameters(prefetch, given)
        if unknown:
            raise StageError(f"prefetch: must be playable; expected no {unknown[0]}, got one")
        return prefetch(**accepted_arguments(prefetch, given))

    def _finish(self, operation: Any, host: torch.Tensor) -> tuple[int, list[Any]]:  # noqa: ANN401
        """Process an operation to its end, as a scheduler does.

        Returns:
            The tokens that storage has, and acknowledgements where a release makes them.
        """
        controller = self._controller
        is_revoked = bool(_drained(getattr(controller, "prefetch_revoke_queue", None)))
        page = self._stack.page_size
        queried = getattr(controller, "prefetch_hit_queue", None)
        hits = len(operation.hash_value) * page
        if queried is not None:
            _drained(queried)
            hits = int(operation.storage_hit_count)
        is_enough = hits >= max(1, int(controller.prefetch_threshold))
        if queried is not None and is_enough and not is_revoked:
            # A scheduler takes host slots for the hits only, and for no fewer than the threshold.
            operation.host_indices = host[:hits]
            controller.prefetch_buffer.put(operation)
            self._threads.settle("prefetch")
        return hits, _drained(getattr(controller, "ack_prefetch_queue", None))

    def _pool_hits(self, operation: Any, acknowledged: Sequence[Any]) -> dict[str, int]:  # noqa: ANN401
        """Return the pages that arrived of each pool beside the anchor, by pool name.

        Beside them stands what the operation's result counts of the anchor.
        """
        result = getattr(operation, "pool_storage_result", None)
        hits = dict(getattr(result, "extra_pool_hit_pages", None) or {})
        for ack in acknowledged:
            hits |= ack.pool_hits or {}
        named = {_upper(name): int(num) for name, num in hits.items()}
        # Some releases tell of every pool that any model has.
        found = {name: named[name] for name in sorted(named) if name in self._entries}
        counted = getattr(result, "kv_hit_pages", None)
        return found if counted is None else {**found, f"{_ANCHOR} found": int(counted)}

    def _transfers(self, pages: HostPages, keys: list[str], *, lacking: str = "") -> list[Any]:
        """Return the sidecars' transfers: last pages for own slots, all pages for shared ones.

        That of one pool is left out, and with it those of the pools that follow it.
        """
        return [
            self._transfer(name, pages, keys)
            for name in self._entries
            if name != _ANCHOR and lacking not in (name, self._sources.get(name, _ANCHOR))
        ]

    def _transfer(self, name: str, pages: HostPages, keys: list[str]) -> Any:  # noqa: ANN401
        cls = self._stack.pool_transfer
        policy: Any = find_part(_STORAGE, "PoolHitPolicy")
        entry = self._entries[name]
        given: dict[str, Any] = {"name": entry.name}
        if name in pages.extra:
            own = pages.extra[name]
            width = getattr(entry.host_pool, "page_size", 1) or 1
            given |= {
                "host_indices": own,
                "keys": keys[-max(1, len(own) // width) :],
                "hit_policy": policy.TRAILING_PAGES,
            }
            return cls(**given)
        source = self._sources.get(name, _ANCHOR)
        own = pages.extra.get(source, pages.host)
        given |= {"host_indices": own, "hit_policy": policy.ALL_PAGES}
        if source in pages.extra:
            given["hit_policy"] = policy.TRAILING_PAGES
            given["keys"] = keys[-max(1, len(own) // self._stack.page_size) :]
        if "indices_from_pool" in accepted_parameters(cls):
            given["indices_from_pool"] = self._entries[source].name
        else:
            given.setdefault("keys", keys)
        return cls(**given)


def page_keys(units: Sequence[Any], page_size: int) -> list[str]:
    """Return the keys of the pages of tokens, or of pairs; each depends on the pages before it.

    Raises:
        StageError: the release has no function for them.
    """
    digest = find_part(_UTILS, "get_storage_hash_str") or find_part(_UTILS, "get_hash_str")
    digest = digest or find_part(_STORAGE, "get_hash_str")
    if digest is None:
        raise StageError("keys: a page must have one; expected get_hash_str, got none")
    keys: list[str] = []
    for first in range(0, len(units), page_size):
        page = list(units[first : first + page_size])
        keys.append(digest(page, keys[-1] if keys else None))
    return keys


def _drained(queue: Any) -> list[Any]:  # noqa: ANN401 - a queue of the controller
    """Take everything out of a queue; nothing where the release has no such queue."""
    found: list[Any] = []
    while queue is not None and queue.qsize():
        found.append(queue.get_nowait())
    return found


def _upper(name: Any) -> str:  # noqa: ANN401 - an enumeration of the release, or its value
    return str(getattr(name, "value", name)).upper()
