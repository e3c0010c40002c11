"""Worker class that measures our radix tree and that of a release of sglang, in one process."""

from array import array
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tools.bench.small_pool import small_mha_pool
from tools.workers.protocol import Handlers, Task

if TYPE_CHECKING:
    import torch

    from assembler.cache.unified import UnifiedRadixCache
    from tools.bench.tree_times import MeasuredTree

OURS, THEIRS = "assembler", "sglang"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureTrees(Task[dict[str, Any]]):
    """Requests to measure the trees on.

    Attributes:
        workload: name of the requests.
        page_size: tokens of a page, in both trees.
    """

    workload: str
    page_size: int
    requests: int
    seed: int


class TreeWorker:
    """Measures prefix trees, beside a release of sglang that lies under ``root``."""

    def __init__(self, root: Path) -> None:
        from traces.targets.sglang.runtime import open_runtime

        del root
        # Its shims stand for what the release cannot import without a GPU.
        self._runtime = open_runtime("sim")

    @property
    def handlers(self) -> Handlers:
        """The task types this class handles."""
        return {MeasureTrees: self.measure}

    def measure(self, task: MeasureTrees) -> dict[str, Any]:
        """Return times and memory of both trees on one workload."""
        import torch

        from tools.bench.tree_times import bytes_per_node, time_trees
        from traces.targets.common.fork import run_in_fork

        torch.set_num_threads(1)
        with self._runtime.pause_interception():
            memory = {
                name: bytes_per_node(
                    tree, workload=task.workload, requests=task.requests, seed=task.seed
                )
                for name, tree in _new_trees(task.page_size).items()
            }
            # In a fork as well: memory that this process had used and freed would be filled again
            # by the next workload, and not be counted there.
            times = run_in_fork(
                lambda: time_trees(
                    _new_trees(task.page_size),
                    workload=task.workload,
                    requests=task.requests,
                    seed=task.seed,
                )
            )
        return {
            "times": {name: msgspec.to_builtins(one) for name, one in times.items()},
            "memory": memory,
        }


class _OurTree:
    """The radix cache of ``assembler``, which keeps no bytes here: it has no stack."""

    def __init__(self, page_size: int) -> None:
        from assembler.cache.keys import RadixKey
        from assembler.cache.prefixes import InsertParams, MatchPrefixParams

        self._cache = _empty_cache(page_size)
        self._key, self._match, self._insert = RadixKey, MatchPrefixParams, InsertParams

    def match(self, tokens: "array[int]") -> int:
        """Look tokens up; return how many of them are cached."""
        return self._cache.match_prefix(self._match(self._key(tokens))).device_prefix_len

    def insert(self, tokens: "array[int]", slots: "torch.Tensor", *, cached: int) -> None:
        """Insert tokens of which ``cached`` were found before."""
        self._cache.insert(self._insert(key=self._key(tokens), value=slots, prev_prefix_len=cached))

    def node_num(self) -> int:
        """Return the number of nodes that have tokens."""
        return sum(1 for _ in self._cache.nodes())


class _ReleaseTree:
    """The radix cache of the release, without pools."""

    def __init__(self, page_size: int) -> None:
        # Of the package under ``root``, which only this process can import.
        release: Any = import_module("sglang.srt.mem_cache.radix_cache")
        self._cache = release.RadixCache.create_simulated(page_size=page_size)
        self._key = release.RadixKey
        self._match, self._insert = release.MatchPrefixParams, release.InsertParams

    def match(self, tokens: "array[int]") -> int:
        """Look tokens up; return how many of them are cached."""
        found = self._cache.match_prefix(self._match(key=self._key(tokens)))
        length: int = found.device_prefix_len
        return length

    def insert(self, tokens: "array[int]", slots: "torch.Tensor", *, cached: int) -> None:
        """Insert tokens of which ``cached`` were found before."""
        self._cache.insert(self._insert(key=self._key(tokens), value=slots, inserted_len=cached))

    def node_num(self) -> int:
        """Return the number of nodes that have tokens."""
        waiting, number = [self._cache.root_node], -1
        while waiting:
            number += 1
            waiting.extend(waiting.pop().children.values())
        return number


def new_tree(*, page_size: int) -> "MeasuredTree":
    """Return an empty tree of ours."""
    return _OurTree(page_size)


def _new_trees(page_size: int) -> "dict[str, MeasuredTree]":
    return {OURS: new_tree(page_size=page_size), THEIRS: _ReleaseTree(page_size)}


def _empty_cache(page_size: int) -> "UnifiedRadixCache":
    """Return a cache over a pool of two pages; insertions bring slots of their own."""
    import torch

    from assembler import CacheInitParams, UnifiedRadixCache
    from assembler.allocators.base import PagedTokenToKVPoolAllocator
    from assembler.device import get_device

    device, size = get_device("cpu"), 2 * page_size
    pool = small_mha_pool(device, size=size, page_size=page_size)
    allocator = PagedTokenToKVPoolAllocator(
        size=size, page_size=page_size, dtype=torch.bfloat16, device=device, kvcache=pool
    )
    return UnifiedRadixCache(
        CacheInitParams(
            disable=False,
            req_to_token_pool=None,
            token_to_kv_pool_allocator=allocator,
            page_size=page_size,
        )
    )
