"""Prefetches of a small tree with storage: what is recorded, and that a wrong tree shows."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.traces.targets.sglang import test_tree_script as plain
from tests.traces.targets.sglang.test_tree_script import PAGE, PARAMS, Page, Pool, Slots
from traces.schema.life import NodeLocks, PoolBalance
from traces.schema.model import RoundTrip
from traces.schema.storage_records import StorageMatch
from traces.targets.sglang import storage_driver, tree_client
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


class FlushedSlots(Slots):
    def clear(self) -> None:
        self.free_slots = list(range(PAGE, self.size + PAGE))


class Storage:
    """Pages of one pool, by key."""

    def __init__(self) -> None:
        self.pages: dict[str, list[torch.Tensor]] = {}
        self.is_held = False
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


@pytest.fixture
def play(device, monkeypatch):
    classes = {cls.__name__: cls for cls in (*PARAMS, RadixKey)}
    monkeypatch.setattr(tree_client, "find_class", classes.__getitem__)
    monkeypatch.setattr(
        storage_driver, "find_part", lambda _, name: digest if "hash" in name else None
    )

    def played(cls=StoredTree):
        pool, slots, storage = Pool(), FlushedSlots(), Storage()
        stack = AssembledStack(
            scenario=next(iter(registry().values())),
            cache=cls(pool, slots, storage),
            group=None,
            controller=SimpleNamespace(storage_backend=storage),
            complete_tree=lambda: None,
            sidecars=(),
            kvcache=pool,
            full_allocator=slots,
            allocator=slots,
            device_pools={"KV": pool},
            req_to_token_pool=SimpleNamespace(clear=lambda: None),
            page_size=PAGE,
            draft_pools=(),
            pool_transfer=None,
            dropped=(),
            evictions=EvictionLog(),
        )
        script_device = ScriptDevice(device, pause_interception=nullcontext)
        transfers = ControllerDriver(stack)
        rows = RowContents(stack, device=script_device, transfers=transfers)
        script = TreeStorageScript(stack, device=script_device, rows=rows, transfers=transfers)
        ledger = TreeLedger(stack, pools=tuple(counted_pools(stack)), step=STEP)
        return [*script.run(), *script.run_prefetches(ledger)]

    return played


def matches(found):
    """Tokens asked for, available, hit and arrived, and whether it was over, by phase."""
    return {
        one.phase: (one.asked, one.available, one.hits, one.arrived, one.is_over)
        for one in found
        if isinstance(one, StorageMatch)
    }


RIGHT = {
    "whole": (16, 16, 16, 16, True),
    "behind its first half": (8, 8, 8, 8, True),
    "once more": (16, 16, 16, 16, True),
    "behind its first half while the tree evicts": (8, 8, 8, 8, False),
    "KV without a page": (16, 8, 8, 8, True),
    "KV fails at a page": (16, 8, 16, 8, True),
    "fewer hits than the threshold": (16, 8, 8, 0, True),
    "below the threshold": (16, 16, 0, 0, True),
    "aborted": (16, 16, 16, 0, True),
    "not waited for": (16, 16, 16, 0, True),
    "waited for": (16, 16, 16, 16, False),
    "behind its first half, KV without a page": (8, 0, 0, 0, True),
    "behind its first half, KV fails at a page": (8, 0, 8, 0, True),
    "behind its first half, fewer hits than the threshold": (8, 0, 0, 0, True),
    "behind its first half, below the threshold": (8, 8, 0, 0, True),
    "behind its first half, aborted": (8, 8, 8, 0, True),
    "behind its first half, not waited for": (8, 8, 8, 0, True),
    "behind its first half, waited for": (8, 8, 8, 8, False),
    "in another namespace": (16, None, 0, 0, True),
    "in its namespace": (16, None, 16, 16, True),
    "in its namespace, behind its first half": (8, None, 8, 8, True),
    "behind a half, KV fails at a page": (8, 0, 8, 0, True),
}


def trips(found):
    return [one.equal for one in found if isinstance(one, RoundTrip) and one.step == STEP]


def test_right_tree_keeps_what_arrived_and_nothing_else(play):
    found = play()
    assert matches(found) == RIGHT
    assert trips(found) == [True]


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (
            KeepsWhatFailed,
            {
                "KV fails at a page": (16, 8, 16, 16, True),
                "fewer hits than the threshold": (16, 8, 8, 8, True),
                "behind its first half, KV fails at a page": (8, 0, 8, 8, True),
                "behind a half, KV fails at a page": (8, 0, 8, 8, True),
            },
        ),
        (
            HasNoThreshold,
            {
                "fewer hits than the threshold": (16, 8, 8, 8, True),
            },
        ),
        (
            ForgetsNamespace,
            {
                "KV fails at a page": (16, 8, 16, 16, True),
                "fewer hits than the threshold": (16, 8, 8, 8, True),
                "behind its first half, KV fails at a page": (8, 0, 8, 8, True),
                "behind a half, KV fails at a page": (8, 0, 8, 8, True),
                "in another namespace": (16, None, 16, 16, True),
            },
        ),
        (
            IsNeverWaitedFor,
            {
                "waited for": (16, 16, 16, 0, True),
                "behind its first half, waited for": (8, 8, 8, 0, True),
                "behind its first half while the tree evicts": (8, 8, 8, 0, True),
            },
        ),
        (LocksNoPrefix, {"behind its first half while the tree evicts": (8, 8, 8, -8, False)}),
    ],
)
def test_wrong_tree_shows_in_the_phase_that_it_gets_wrong(play, cls, wrong):
    assert matches(play(cls)) == {**RIGHT, **wrong}


def test_page_that_comes_back_with_other_bytes_is_no_equal_round_trip(play):
    found = play(StoresLastLayerTwice)
    assert matches(found) == RIGHT
    assert trips(found) == [False]


def locks(found):
    """The moments at which nodes are locked on the host, with the first tokens of these nodes."""
    told: dict[str, list[str]] = {}
    for one in found:
        if isinstance(one, NodeLocks) and one.host:
            told.setdefault(one.moment, []).append(one.node.partition(",")[0])
    return told


HELD = [
    "behind its first half while the tree evicts: queried",
    "behind its first half, aborted: queried",
    "behind its first half, not waited for: queried",
    "behind its first half, waited for: queried",
]
PREFIX = ["1000-1003", "1000-1007"]


def test_nodes_in_front_of_a_prefetch_are_locked_while_it_is_queried(play):
    assert locks(play()) == dict.fromkeys(HELD, PREFIX)


def test_a_lock_that_is_not_taken_shows(play):
    assert locks(play(LocksNoPrefix)) == {}


def test_a_lock_that_is_never_given_up_shows_when_all_is_over(play):
    found = locks(play(UnlocksNoPrefix))

    assert found["behind its first half, aborted"] == PREFIX


def test_owners_of_slots_are_read_after_every_prefetch_and_while_storage_takes_nodes(play):
    balances = [one for one in play() if isinstance(one, PoolBalance)]

    assert {one.moment: one.is_final for one in balances} == {
        **dict.fromkeys(RIGHT, True),
        "storing": False,
        "evicting in storing": False,
        "stored": True,
        "evicted": True,
    }
    assert {one.free + (one.cached or 0) + one.held for one in balances} == {plain.SLOTS}
