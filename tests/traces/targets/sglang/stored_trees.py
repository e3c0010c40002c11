"""Small trees with storage: a right one, and wrong ones that each differ from it in one thing."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch

from tests.traces.targets.sglang import test_tree_script as plain
from tests.traces.targets.sglang.test_tree_script import PAGE, PARAMS, Page, Pool, Slots
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.callbacks import EvictionLog
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.registry import registry
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.tree_ledger import TreeLedger, counted_pools
from traces.targets.sglang.tree_storage_script import STEP, TreeStorageScript


class RadixKey(plain.RadixKey):
    def __init__(self, token_ids: list[int], extra_key: str | None = None) -> None:
        super().__init__(token_ids)
        self.pages = [(extra_key, *page) for page in self.pages]  # type: ignore[misc]


CLASSES = {cls.__name__: cls for cls in (*PARAMS, RadixKey)}
"""The classes that a script asks a release for, by name."""


class FlushedSlots(Slots):
    def clear(self) -> None:
        self.free_slots = list(range(PAGE, self.size + PAGE))


class Storage:
    """Pages of one pool, by key."""

    def __init__(self) -> None:
        self.pages: dict[str, list[torch.Tensor]] = {}
        self.is_held = False
        self.was_fetched = False
        self._lost: set[str] = set()

    def has_page(self, pool: str, key: str) -> bool:
        return pool == "KV" and key in self.pages

    def hands_out(self, pool: str, key: str) -> bool:
        return self.has_page(pool, key) and key not in self._lost

    @contextmanager
    def without_page(self, _pool: str, key: str) -> Iterator[None]:
        page = self.pages.pop(key)
        yield
        self.pages[key] = page

    @contextmanager
    def failing_page(self, _pool: str, key: str) -> Iterator[None]:
        self._lost.add(key)
        yield
        self._lost.clear()

    def take_over(self, closed: "Storage") -> None:
        self.pages = closed.pages

    def wait_for_query(self) -> None:
        """Queries are held before they are asked."""

    @contextmanager
    def held_queries(self) -> Iterator[None]:
        self.is_held = True
        yield
        self.is_held = False


def digest(tokens: list[int], before: str | None) -> str:
    return f"{before or ''}/{tokens[0]}"


def chain(path: tuple[tuple[Any, ...], ...]) -> str:
    """The key of the last page of a path; a namespace is a part of the first one."""
    key = path[0][0] or ""
    for page in path:
        key = f"{key}/{page[1]}"
    return key


class Key:
    def __init__(self, token_ids: tuple[Any, ...]) -> None:
        self.token_ids = token_ids

    def __len__(self) -> int:
        return len(self.token_ids)


class StoredTree(plain.WriteThroughTree):
    """A trie that stores what it has on the host, and prefetches page by page."""

    @property
    def root_node(self) -> Any:
        """Nodes of a page each, with the locks of prefetches."""
        locked = self.locked()
        nodes: dict[tuple[Any, ...], Any] = {(): SimpleNamespace(children={})}
        for path, page in sorted(self._pages.items(), key=lambda item: len(item[0])):
            nodes[path] = SimpleNamespace(
                children={},
                key=Key(path[-1][1:]),
                value=page.device,
                host_ref_counter=int(path in locked),
            )
            nodes.get(path[:-1], nodes[()]).children[path] = nodes[path]
        return nodes[()]

    def __init__(self, pool: Pool, slots: Slots, storage: Storage) -> None:
        super().__init__(pool, slots)
        self.storage = storage
        self.controller: Any = None
        self.prefetch_threshold = 256
        self.prefetch_stop_policy = "timeout"
        self._asked: dict[str, list[tuple[tuple[Any, ...], ...]]] = {}
        self._done: dict[str, bool] = {}

    def check_hicache_events(self) -> None:
        super().check_hicache_events()
        for path, page in self._pages.items():
            if page.host is not None:
                self.storage.pages.setdefault(chain(path), page.host)
        for request, paths in [] if self.storage.is_held else list(self._asked.items()):
            del self._asked[request]
            self.fetch(paths)

    def reset(self) -> None:
        self.evict(plain.EvictParams(num_tokens=0))
        self._pages.clear()

    def evict_host(self, _num_tokens: int) -> None:
        locked = self.locked()
        for path, page in list(self._pages.items()):
            if page.device is None and path not in locked:
                del self._pages[path]

    def locked(self) -> set[tuple[tuple[Any, ...], ...]]:
        """The prefixes that prefetches are behind."""
        paths = [path for paths in self._asked.values() for path in paths]
        return {path[:length] for path in paths for length in range(len(path))}

    def query_storage_hit_length(
        self, last_host_node: list[Page], new_input_tokens: list[int], extra_key: str | None = None
    ) -> int:
        paths = self.paths(last_host_node, new_input_tokens, extra_key)
        return 0 if len(paths) * PAGE < self.prefetch_threshold else PAGE * self.hits(paths)

    def prefetch_from_storage(
        self,
        req_id: str,
        last_host_node: list[Page],
        new_input_tokens: list[int],
        last_hash: str | None = None,
        extra_key: str | None = None,
    ) -> None:
        del last_hash
        paths = self.paths(last_host_node, new_input_tokens, extra_key)
        if len(paths) * PAGE >= self.prefetch_threshold:
            self._asked[req_id] = paths

    def check_prefetch_progress(self, req_id: str) -> bool:
        if req_id in self._asked and self.prefetch_stop_policy == "wait_complete":
            return False
        self._asked.pop(req_id, None)
        return True

    def release_aborted_request(self, req_id: str) -> None:
        self._asked.pop(req_id, None)

    def get_last_hash_value(self, _node: list[Page]) -> None:
        return None

    def paths(
        self, node: list[Page], tokens: list[int], namespace: str | None
    ) -> list[tuple[tuple[Any, ...], ...]]:
        known = next((path for path, page in self._pages.items() if node and page is node[-1]), ())
        pages = tuple(RadixKey(tokens, namespace).pages)
        return [(*known, *pages[: number + 1]) for number in range(len(pages))]

    def hits(self, paths: list[tuple[tuple[Any, ...], ...]]) -> int:
        there = [self.storage.has_page("KV", chain(path)) for path in paths]
        return there.index(False) if False in there else len(there)

    def fetch(self, paths: list[tuple[tuple[Any, ...], ...]]) -> None:
        hits = self.hits(paths)
        if hits * PAGE < self.prefetch_threshold:
            return
        for path in paths[:hits]:
            if not self.storage.hands_out("KV", chain(path)):
                return
            self.keep(path)

    def keep(self, path: tuple[tuple[Any, ...], ...]) -> None:
        self._pages[path] = Page(device=None, host=self.storage.pages[chain(path)])


class KeepsWhatFailed(StoredTree):
    """Takes a partial success for a whole one."""

    def fetch(self, paths: list[tuple[tuple[Any, ...], ...]]) -> None:
        for path in paths[: self.hits(paths)]:
            self.keep(path)


class AgreesWithPeers(StoredTree):
    """Keeps what every rank has found, and then what every rank has fetched."""

    def fetch(self, paths: list[tuple[tuple[Any, ...], ...]]) -> None:
        paths = paths[: self.agreed(self.hits(paths) * PAGE) // PAGE]
        if len(paths) * PAGE < self.prefetch_threshold:
            return
        there = [self.storage.hands_out("KV", chain(path)) for path in paths]
        fetched = there.index(False) if False in there else len(there)
        self.storage.was_fetched = True
        for path in paths[: self.agreed(fetched * PAGE) // PAGE]:
            self.keep(path)

    def agreed(self, tokens: int) -> int:
        number = torch.tensor(tokens)
        torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MIN)
        return int(number)


class GoesOnAlone(AgreesWithPeers):
    """Asks its peers, and keeps what it has itself."""

    def agreed(self, tokens: int) -> int:
        super().agreed(tokens)
        return tokens


class HasNoThreshold(StoredTree):
    def hits(self, paths: list[tuple[tuple[Any, ...], ...]]) -> int:
        self.prefetch_threshold = 1
        return super().hits(paths)


class ForgetsNamespace(StoredTree):
    """Looks in the storage of requests without a namespace."""

    def hits(self, paths: list[tuple[tuple[Any, ...], ...]]) -> int:
        return super().hits([((None, *path[0][1:]), *path[1:]) for path in paths])

    def keep(self, path: tuple[tuple[Any, ...], ...]) -> None:
        other = ((None, *path[0][1:]), *path[1:])
        self._pages[path] = Page(device=None, host=self.storage.pages[chain(other)])

    def fetch(self, paths: list[tuple[tuple[Any, ...], ...]]) -> None:
        for path in paths[: self.hits(paths)]:
            self.keep(path)


class IsNeverWaitedFor(StoredTree):
    def check_prefetch_progress(self, req_id: str) -> bool:
        self.prefetch_stop_policy = "best_effort"
        return super().check_prefetch_progress(req_id)


class LocksNoPrefix(StoredTree):
    def locked(self) -> set[tuple[tuple[Any, ...], ...]]:
        return set()


class UnlocksNoPrefix(StoredTree):
    """Keeps the prefix of a prefetch that was aborted."""

    def __init__(self, pool: Pool, slots: Slots, storage: Storage) -> None:
        super().__init__(pool, slots, storage)
        self.kept: list[tuple[tuple[Any, ...], ...]] = []

    def release_aborted_request(self, req_id: str) -> None:
        self.kept += self._asked.get(req_id, [])
        super().release_aborted_request(req_id)

    def locked(self) -> set[tuple[tuple[Any, ...], ...]]:
        return super().locked() | {path[:2] for path in self.kept}


class StoresLastLayerTwice(StoredTree):
    def keep(self, path: tuple[tuple[Any, ...], ...]) -> None:
        rows = self.storage.pages[chain(path)]
        self._pages[path] = Page(device=None, host=[rows[-1] for _ in rows])


def play_tree(
    cls: type[StoredTree], script_class: type[TreeStorageScript], device: Any, *, step: str = STEP
) -> Any:
    """Return the records of a script that drives a tree of a class, and of one step behind it."""
    pool, slots, storage = Pool(), FlushedSlots(), Storage()
    cache = cls(pool, slots, storage)
    cache.controller = SimpleNamespace(storage_backend=storage)
    stack = AssembledStack(
        scenario=next(iter(registry().values())),
        cache=cache,
        group=None,
        controller=cache.controller,
        complete_tree=lambda: None,
        sidecars=(),
        kvcache=pool,
        full_allocator=slots,
        allocator=slots,
        device_pools={"KV": pool},
        req_to_token_pool=SimpleNamespace(clear=lambda: None),
        window=128,
        page_size=PAGE,
        draft_pools=(),
        pool_transfer=None,
        dropped=(),
        evictions=EvictionLog(),
    )
    script_device = ScriptDevice(device, pause_interception=nullcontext)
    transfers = ControllerDriver(stack)
    rows = RowContents(stack, device=script_device, transfers=transfers)
    script = script_class(stack, device=script_device, rows=rows, transfers=transfers)
    ledger = TreeLedger(stack, pools=tuple(counted_pools(stack)), step=step)
    return [*script.run(), *script.run_later_step(step, ledger)]
