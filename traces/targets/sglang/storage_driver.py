"""Driver of a controller's storage threads: write pages, prefetch them, wait for the results."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.discovery import find_part
from traces.targets.sglang.errors import StageError
from traces.targets.sglang.pageable import pageable_zeros
from traces.targets.sglang.signature_caller import (
    accepted_arguments,
    accepted_parameters,
    missing_parameters,
)

_UTILS = "sglang.srt.mem_cache.utils"
_STORAGE = "sglang.srt.mem_cache.hicache_storage"
_REQUEST = "sglang.srt.mem_cache.base_prefix_cache"
# Far more than any operation takes; the end of a thread is noticed at once.
_TIMEOUT_S = 20.0
_POLL_INTERVAL_S = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPages:
    """Host slots of a node."""

    host: torch.Tensor  # host slots of the anchor
    # Host slots of the sidecars with slots of their own, by pool name.
    extra: dict[str, torch.Tensor]


class StorageTierDriver:
    """Drives the storage threads of one stack, one operation at a time.

    The stack's controller has opened its storage. For ``thread_errors`` see
    :func:`capture_thread_errors`.
    """

    def __init__(
        self, stack: AssembledStack, thread_errors: Mapping[threading.Thread, str]
    ) -> None:
        self._stack = stack
        self._thread_errors = thread_errors
        self._controller: Any = stack.controller
        self._entries = entries_of(stack.group)
        self._sources = dict(stack.sidecars)
        # The default would not fetch the few pages of a node.
        self._controller.prefetch_threshold = 1

    def write(self, pages: HostPages, tokens: Sequence[int]) -> None:
        """Write a node's pages and wait for the acknowledgement.

        Raises:
            StageError: there is none.
        """
        keys = self._keys(tokens)
        write = self._controller.write_storage
        given = {
            "host_indices": pages.host,
            "token_ids": list(tokens),
            "hash_value": keys,
            "extra_pools": self._transfers(pages, keys),
        }
        write(**accepted_arguments(write, given))
        self._wait("write_storage", self._controller.ack_backup_queue.qsize, "backup_thread")
        self._controller.ack_backup_queue.get_nowait()

    def fetch(self, pages: HostPages, tokens: Sequence[int]) -> HostPages | None:
        """Prefetch what was written into other host slots; None where storage lacks a page.

        Raises:
            StageError: the controller does not acknowledge, or the host has no room.
        """
        target = HostPages(
            host=_take_slots(self._stack.group, len(pages.host)),
            extra={
                name: _take_slots(self._entries[name].host_pool, len(own))
                for name, own in pages.extra.items()
            },
        )
        with pageable_zeros():  # shims intercept one thread only
            operation = self._prefetch(target, tokens)
            is_fetched = self._is_fetched(operation, target.host)
        return target if is_fetched else None

    def _prefetch(self, target: HostPages, tokens: Sequence[int]) -> Any:  # noqa: ANN401
        prefetch = self._controller.prefetch
        handle = find_part(_REQUEST, "CacheRequestHandle")
        name = f"tokens-{tokens[0]}"
        given = {
            "request_id": name,
            "handle": None if handle is None else handle(name, 0),
            "host_indices": target.host,
            "new_input_tokens": list(tokens),
            "extra_pools": self._transfers(target, self._keys(tokens)),
        }
        unknown = missing_parameters(prefetch, given)
        if unknown:
            raise StageError(f"prefetch: must be playable; expected no {unknown[0]}, got one")
        return prefetch(**accepted_arguments(prefetch, given))

    def _is_fetched(self, operation: Any, host: torch.Tensor) -> bool:  # noqa: ANN401
        """Process an operation to its end, as a scheduler does; return whether all was fetched."""
        controller = self._controller
        hits = getattr(controller, "prefetch_hit_queue", None)
        revoked: Any = getattr(controller, "prefetch_revoke_queue", None)
        if hits is not None:
            self._wait("prefetch", lambda: _size(hits) + _size(revoked), "prefetch_thread")
            if _size(hits):
                hits.get_nowait()
        if hits is not None and not _size(revoked):
            if operation.storage_hit_count < len(host):
                return False
            operation.host_indices = host
            controller.prefetch_buffer.put(operation)
        acknowledged = getattr(controller, "ack_prefetch_queue", None)
        if acknowledged is not None:
            return self._acknowledged(acknowledged) == len(host)
        self._wait(
            "prefetch",
            lambda: _size(revoked) or operation.is_terminated() or self._is_whole(operation, host),
            "prefetch_io_aux_thread",
        )
        if _size(revoked):
            revoked.get_nowait()
            return False
        return bool(operation.completed_tokens == len(host))

    def _acknowledged(self, queue: Any) -> int:  # noqa: ANN401
        """Return the number of fetched tokens after the last acknowledgement."""
        tokens = 0
        while True:
            self._wait("prefetch", queue.qsize, "prefetch_sync_thread")
            ack = queue.get_nowait()
            tokens = ack.completed_tokens if ack.completed_tokens is not None else tokens
            if ack.completed_req:
                return tokens

    @staticmethod
    def _is_whole(operation: Any, host: torch.Tensor) -> bool:  # noqa: ANN401
        is_done = getattr(operation, "pool_transfers_done", True)
        return bool(is_done and operation.completed_tokens == len(host))

    def _wait(self, what: str, happened: Callable[[], object], thread: str) -> None:
        """Poll until ``happened`` returns true.

        Raises:
            StageError: the controller's thread ended first, or the time is over.
        """
        end = time.monotonic() + _TIMEOUT_S
        while not happened():
            worker = getattr(self._controller, thread, None)
            has_begun = worker is not None and worker.ident is not None
            if worker is not None and has_begun and not worker.is_alive() and not happened():
                got = self._thread_errors.get(worker, "its end")
                rule = f"{what}: must be acknowledged"
                raise StageError(f"{rule}; expected {thread} to go on, got {' '.join(got.split())}")
            if time.monotonic() > end:
                raise StageError(
                    f"{what}: must be acknowledged; expected it in {_TIMEOUT_S:g} s, got nothing"
                )
            time.sleep(_POLL_INTERVAL_S)

    def _keys(self, tokens: Sequence[int]) -> list[str]:
        """Return the keys of the pages of tokens; each key depends on the pages before it."""
        digest = find_part(_UTILS, "get_storage_hash_str") or find_part(_UTILS, "get_hash_str")
        digest = digest or find_part(_STORAGE, "get_hash_str")
        if digest is None:
            raise StageError("keys: a page must have one; expected get_hash_str, got none")
        keys: list[str] = []
        page = self._stack.page_size
        for first in range(0, len(tokens), page):
            keys.append(digest(list(tokens[first : first + page]), keys[-1] if keys else None))
        return keys

    def _transfers(self, pages: HostPages, keys: list[str]) -> list[Any]:
        """Return the sidecars' transfers: last pages for own slots, all pages for shared ones."""
        return [self._transfer(name, pages, keys) for name in self._entries if name != "KV"]

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
        source = self._sources.get(name, "KV")
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


@contextmanager
def capture_thread_errors() -> Iterator[Mapping[threading.Thread, str]]:
    """Yield a mapping that receives the exception of each thread that ends in the block."""
    errors: dict[threading.Thread, str] = {}

    def keep(end: threading.ExceptHookArgs) -> None:
        if end.thread is not None:
            errors[end.thread] = f"{end.exc_type.__name__}: {end.exc_value}"

    with patch.object(threading, "excepthook", keep):
        yield errors


def _take_slots(pool: Any, need: int) -> torch.Tensor:  # noqa: ANN401 - any class of host pools
    slots = pool.alloc(need)
    if slots is None:
        raise StageError(f"storage: a roomy host must take a node; expected {need} slots, got none")
    found: torch.Tensor = slots
    return found


def _size(queue: Any) -> int:  # noqa: ANN401 - a queue of the controller
    return 0 if queue is None else int(queue.qsize())
