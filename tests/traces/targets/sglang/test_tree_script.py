"""The tree step on a small tree of its own: what it records, and that it notices a wrong one."""

from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from traces.schema.model import RoundTrip, TreeMatch
from traces.targets.sglang import tree_client
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.callbacks import EvictionLog
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.registry import registry
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.tree_driver import TreeDriver
from traces.targets.sglang.tree_script import TreeScript, is_tree

PAGE = 4
SLOTS = 64
LAYERS = 2


class RadixKey:
    def __init__(self, token_ids: list[int]) -> None:
        self.pages = [tuple(token_ids[i : i + PAGE]) for i in range(0, len(token_ids), PAGE)]


class LimitedKey(RadixKey):
    """Stands for so many of its tokens."""

    def __init__(self, token_ids: list[int], limit: int | None = None) -> None:
        super().__init__(token_ids[:limit])


class BoundlessKey(RadixKey):
    """Forgets its limit."""

    def __init__(self, token_ids: list[int], limit: int | None = None) -> None:
        del limit
        super().__init__(token_ids)


@dataclass
class MatchPrefixParams:
    key: RadixKey


@dataclass
class InsertParams:
    key: RadixKey
    value: torch.Tensor
    prev_prefix_len: int = 0


@dataclass
class EvictParams:
    num_tokens: int


@dataclass
class InitLoadBackParams:
    best_match_node: Any
    host_hit_length: int


PARAMS = (RadixKey, MatchPrefixParams, InsertParams, EvictParams, InitLoadBackParams)


@dataclass
class Page:
    device: torch.Tensor | None
    host: list[torch.Tensor] | None = None


class Slots:
    def __init__(self) -> None:
        self.size = SLOTS
        self.free_slots = list(range(PAGE, SLOTS + PAGE))

    def available_size(self) -> int:
        return len(self.free_slots)

    def alloc(self, need: int) -> torch.Tensor:
        taken, self.free_slots = self.free_slots[:need], self.free_slots[need:]
        return torch.tensor(taken)

    def free(self, slots: torch.Tensor) -> None:
        self.free_slots += slots.tolist()


class Pool:
    def __init__(self) -> None:
        self.k_buffer = [torch.zeros(SLOTS + PAGE, 8) for _ in range(LAYERS)]


class WriteThroughTree:
    """A trie of pages that writes everything through to the host."""

    load_back_threshold = 256

    def __init__(self, pool: Pool, slots: Slots) -> None:
        self._pool = pool
        self._slots = slots
        self._pages: dict[tuple[tuple[int, ...], ...], Page] = {}

    def match_prefix(self, params: MatchPrefixParams) -> Any:
        path = self._path(params.key)
        on_device = [page.device for page in path if page.device is not None]
        return SimpleNamespace(
            device_indices=torch.cat([*on_device, torch.zeros(0).long()]),
            last_device_node=path[: len(on_device)],
            last_host_node=path,
            host_hit_length=PAGE * (len(path) - len(on_device)),
        )

    def insert(self, params: InsertParams) -> Any:
        known = len(self._path(params.key))
        for number in range(known, len(params.key.pages)):
            own = params.value[number * PAGE : (number + 1) * PAGE].clone()
            self._pages[tuple(params.key.pages[: number + 1])] = Page(device=own)
        return SimpleNamespace(prefix_len=known * PAGE, mamba_exist=False)

    def check_hicache_events(self) -> None:
        for page in self._pages.values():
            if page.device is not None and page.host is None:
                page.host = [buffer[page.device].clone() for buffer in self._pool.k_buffer]

    def evict(self, params: EvictParams) -> None:
        del params
        for page in self._pages.values():
            if page.device is not None:
                self._slots.free(page.device)
                page.device = None

    def init_load_back(self, params: InitLoadBackParams) -> None:
        assert self.load_back_threshold <= params.host_hit_length
        self.load([page for page in params.best_match_node if page.device is None])

    def ready_to_load_host_cache(self) -> int:
        return 0

    def load(self, pages: list[Page]) -> None:
        for page in pages:
            page.device = self._slots.alloc(PAGE)
            self.put(page.device, page.host)

    def put(self, slots: torch.Tensor, rows: list[torch.Tensor] | None) -> None:
        assert rows is not None
        for buffer, row in zip(self._pool.k_buffer, rows, strict=True):
            buffer[slots] = row

    def _path(self, key: RadixKey) -> list[Page]:
        found = []
        for number in range(len(key.pages)):
            page = self._pages.get(tuple(key.pages[: number + 1]))
            if page is None:
                break
            found.append(page)
        return found


class SwapsPages(WriteThroughTree):
    """Brings the first page of a load to the second one's slots, and the other way round."""

    def load(self, pages: list[Page]) -> None:
        super().load(pages)
        one, other = pages[:2]
        self.put(one.device, other.host)
        self.put(other.device, one.host)


class LosesLastLayer(WriteThroughTree):
    def put(self, slots: torch.Tensor, rows: list[torch.Tensor] | None) -> None:
        assert rows is not None
        super().put(slots, [*rows[:-1], self._pool.k_buffer[-1][slots]])


class WritesBeside(WriteThroughTree):
    def put(self, slots: torch.Tensor, rows: list[torch.Tensor] | None) -> None:
        super().put(slots, rows)
        self._pool.k_buffer[0][1] = 1


class NeverFrees(WriteThroughTree):
    def evict(self, params: EvictParams) -> None:
        del params


class LoadsNothing(WriteThroughTree):
    def init_load_back(self, params: InitLoadBackParams) -> None:
        del params


class WithoutHost(WriteThroughTree):
    ready_to_load_host_cache = None  # type: ignore[assignment]
    init_load_back = None  # type: ignore[assignment]


@pytest.fixture
def play(device, monkeypatch):
    classes = {cls.__name__: cls for cls in PARAMS}
    monkeypatch.setattr(tree_client, "find_class", classes.__getitem__)

    def played(cls=WriteThroughTree, complete_tree=lambda: None, key=RadixKey):
        classes["RadixKey"] = key
        pool, slots = Pool(), Slots()
        cache = cls(pool, slots)
        stack = AssembledStack(
            scenario=next(iter(registry().values())),
            cache=cache,
            group=None,
            controller=None,
            complete_tree=complete_tree,
            sidecars=(),
            kvcache=pool,
            full_allocator=slots,
            allocator=slots,
            device_pools={"KV": pool},
            req_to_token_pool=None,
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
        found = TreeScript(stack, device=script_device, rows=rows, transfers=transfers)
        return list(found.run()), found.notes, slots

    return played


def trip(plane: str, *, wrong: str = "", foreign: str = "") -> RoundTrip:
    return RoundTrip(
        step="tree",
        pool="KV",
        plane=plane,
        equal=not wrong,
        wrong_slots=wrong,
        foreign_slots=foreign,
    )


def match(sequence: str, phase: str, *, missing: str = "", elsewhere: str = "") -> TreeMatch:
    return TreeMatch(
        step="tree",
        sequence=sequence,
        phase=phase,
        found=not missing,
        missing=missing,
        elsewhere=elsewhere,
    )


MATCHES = [
    match("first", "inserted"),
    match("second", "inserted"),
    match("first", "evicted"),
    match("second", "evicted"),
    match("second", "loaded"),
]
WHOLE = [*MATCHES, trip("k_buffer"), match("third", "inserted")]


def test_a_good_tree_matches_where_it_should_and_brings_every_row_back(play):
    trips, notes, slots = play()

    assert trips == WHOLE
    assert notes == []
    # What the second and the third sequence have on the device at the end, and nothing else.
    assert slots.available_size() == SLOTS - 8 * PAGE


def test_rows_in_the_wrong_order_are_reported(play):
    trips, _, _ = play(SwapsPages)

    assert trips[:-2] == MATCHES
    assert not trips[-2].equal
    assert trips[-2].wrong_slots != ""


def test_a_layer_that_is_not_brought_back_is_reported(play):
    trips, _, _ = play(LosesLastLayer)

    assert not trips[-2].equal


def test_a_write_beside_the_loaded_slots_is_reported(play):
    trips, _, _ = play(WritesBeside)

    assert trips[-2] == trip("k_buffer", foreign="1")


def test_a_tree_that_frees_nothing_is_reported_by_what_it_matches(play):
    trips, _, _ = play(NeverFrees)

    assert trips[2] == match("first", "evicted", missing="0-15", elsewhere="0-15")


def test_a_tree_that_loads_nothing_is_reported_by_what_it_matches(play):
    trips, _, _ = play(LoadsNothing)

    assert trips[4] == match("second", "loaded", missing="0-15", elsewhere="0-15")


def test_a_key_with_a_limit_matches_as_many_tokens(play):
    trips, _, _ = play(key=LimitedKey)

    assert trips == [*WHOLE, match("third", "in part", missing="8-15")]


def test_a_key_that_forgets_its_limit_is_reported(play):
    trips, _, _ = play(key=BoundlessKey)

    assert trips == [*WHOLE, match("third", "in part")]


def test_a_tree_that_cannot_be_told_its_policy_is_noted(play):
    trips, notes, _ = play(complete_tree=None)

    assert trips == []
    assert len(notes) == 1
    assert notes[0].startswith("not played: WriteThroughTree was attached to its stack")


def test_a_tree_without_a_host_is_noted(play):
    trips, notes, _ = play(WithoutHost)

    assert trips == []
    assert notes == ["not played: WithoutHost has no init_load_back"]


def test_what_stands_in_for_a_tree_is_none():
    assert is_tree(WriteThroughTree(Pool(), Slots()))
    assert not is_tree(SimpleNamespace(page_size=PAGE))
    assert not is_tree(None)


def test_units_of_a_tree_with_pairs_are_pairs_that_equal_parts_share():
    driver = object.__new__(TreeDriver)
    driver.part = 4
    driver.tree = SimpleNamespace(has_pairs=True)

    one, other = (driver.sequence("", shared=1, own=number) for number in (2, 3))

    assert one.tokens == [1000, 1001, 1002, 1003, 1004, 2001, 2002, 2003]
    assert one.raw_tokens == [*one.tokens, 2004]
    assert one.units[:4] == other.units[:4] == [
        (1000, 1001), (1001, 1002), (1002, 1003), (1003, 1004),
    ]  # fmt: skip
    assert one.units[4:] == [(1004, 2001), (2001, 2002), (2002, 2003), (2003, 2004)]
    assert set(one.units[4:]).isdisjoint(other.units[4:])


def test_units_of_other_trees_are_tokens():
    driver = object.__new__(TreeDriver)
    driver.part = 2
    driver.tree = SimpleNamespace(has_pairs=False)

    sequence = driver.sequence("", shared=1, own=2)

    assert sequence.tokens == sequence.raw_tokens == sequence.units == [1000, 1001, 2000, 2001]
