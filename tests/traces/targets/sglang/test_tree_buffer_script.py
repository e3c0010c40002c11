"""A small tree whose host memory is a buffer: what is played, and that a wrong one shows."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.traces.targets.sglang.stored_trees import (
    CLASSES,
    StoredTree,
    chain,
    digest,
    play_tree,
)
from tests.traces.targets.sglang.test_tree_script import PAGE, Page
from traces.schema.life import PoolBalance
from traces.schema.model import RoundTrip, TreeMatch
from traces.schema.storage_records import StorageMatch
from traces.targets.sglang import storage_driver, tree_client
from traces.targets.sglang.tree_buffer_script import TreeBufferScript
from traces.targets.sglang.tree_storage_script import STEP


@dataclass
class InitLoadBackParams:
    best_match_node: Any
    host_hit_length: int
    req: Any


class BufferedTree(StoredTree):
    """Stores what it does not believe to be stored; requests load what was fetched for them."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.buffer_pipeline = SimpleNamespace(prepare_staged_prefetch=self.prepare)
        self.believed: set[str] = set()
        self.fetched: dict[str, list[tuple[Any, ...]]] = {}
        self.stored: list[str] = []

    def check_hicache_events(self) -> None:
        self.store()
        for request, paths in [] if self.storage.is_held else list(self._asked.items()):
            del self._asked[request]
            self.fetch_for(request, paths)

    def store(self) -> None:
        for path, page in self._pages.items():
            if chain(path) not in self.believed:
                self.believed.add(chain(path))
                self.stored.append(chain(path))
                rows = [buffer[page.device].clone() for buffer in self._pool.k_buffer]
                self.storage.pages[chain(path)] = rows

    def evict(self, params: Any) -> None:
        super().evict(params)
        self._pages.clear()

    def fetch_for(self, request: str, paths: list[tuple[Any, ...]]) -> None:
        keys = [chain(path) for path in paths]
        arrived = [self.storage.hands_out("KV", key) for key in keys]
        first = arrived.index(False) if False in arrived else len(keys)
        self.doubt(keys[first:])
        if self.hits(paths) * PAGE >= self.prefetch_threshold:
            self.fetched[request] = paths[:first]

    def doubt(self, keys: list[str]) -> None:
        self.believed -= set(keys)

    def release_aborted_request(self, req_id: str) -> None:
        super().release_aborted_request(req_id)
        self.fetched.pop(req_id, None)

    def prepare(self, request: Any) -> bool:
        paths = self.fetched.get(request.cache_request_handle, [])
        start = request.prefix_len // PAGE
        is_ready = bool(paths) and len(paths[0]) <= start + 1
        request.host_hit_length = PAGE * len(paths) if is_ready else 0
        return is_ready

    def init_load_back(self, params: Any) -> None:
        paths = self.fetched[params.req.cache_request_handle]
        slots = self._slots.alloc(PAGE * len(paths))
        if len(slots) < PAGE * len(paths):
            self._slots.free(slots)
            return
        del self.fetched[params.req.cache_request_handle]
        for path, own in zip(paths, slots.split(PAGE), strict=True):
            if path in self._pages:
                self._slots.free(own)
                continue
            for buffer, rows in zip(self._pool.k_buffer, self.rows(path), strict=True):
                buffer[own] = rows
            self._pages[path] = Page(device=own)

    def rows(self, path: tuple[Any, ...]) -> list[torch.Tensor]:
        return self.storage.pages[chain(path)]

    def ready_to_load_host_cache(self) -> None:
        """Loads have ended where they are asked for."""

    def inc_lock_ref(self, _node: Any) -> None:
        """Nothing is evicted meanwhile."""

    def dec_lock_ref(self, _node: Any) -> None:
        """As above."""


class NeverDoubts(BufferedTree):
    """Believes that pages are stored which failed to arrive."""

    def doubt(self, keys: list[str]) -> None:
        """Keep them."""


class DoubtsAPageTooFew(BufferedTree):
    def doubt(self, keys: list[str]) -> None:
        super().doubt(keys[1:])


class LoadsLastLayerTwice(BufferedTree):
    def rows(self, path: tuple[Any, ...]) -> list[torch.Tensor]:
        rows = super().rows(path)
        return [rows[-1] for _ in rows]


class LosesSlotsWithoutRoom(BufferedTree):
    def init_load_back(self, params: Any) -> None:
        if self._slots.available_size() < PAGE:
            del self.fetched[params.req.cache_request_handle]
            return
        super().init_load_back(params)


@pytest.fixture
def play(device, monkeypatch):
    return player_of(TreeBufferScript, device, monkeypatch)


def player_of(script, device, monkeypatch):
    """Return a function that plays a script on a tree of a class."""
    classes = {**CLASSES, "InitLoadBackParams": InitLoadBackParams}
    monkeypatch.setattr(tree_client, "find_class", classes.__getitem__)
    monkeypatch.setattr(
        storage_driver, "find_part", lambda _, name: digest if "hash" in name else None
    )

    def played(cls=BufferedTree):
        trees = []

        def made(*parts):
            trees.append(cls(*parts))
            return trees[0]

        return play_tree(made, script, device), trees[0]

    return played


def arrived(found):
    return {one.phase: one.arrived for one in found if isinstance(one, StorageMatch)}


def has(found, phase):
    (one,) = [one for one in found if isinstance(one, TreeMatch) and one.phase == phase]
    return one.found


def trips(found):
    return [one.equal for one in found if isinstance(one, RoundTrip) and one.step == STEP]


def test_a_request_gets_what_was_fetched_for_it_when_it_is_admitted(play):
    found, _ = play()
    phases = arrived(found)
    assert {phase: phases[phase] for phase in ("whole", "aborted", "below the threshold")} == {
        "whole": 16,
        "aborted": 0,
        "below the threshold": 0,
    }
    assert trips(found) == [True]
    assert trips(play(LoadsLastLayerTwice)[0]) == [False]


@pytest.mark.parametrize(
    ("cls", "times"),
    [
        (BufferedTree, {"/1000": 1, "/1000/1004": 1, "/1000/1004/2000": 4}),
        (NeverDoubts, {"/1000": 1, "/1000/1004": 1, "/1000/1004/2000": 1}),
        (DoubtsAPageTooFew, {"/1000": 1, "/1000/1004": 1, "/1000/1004/2000": 1}),
    ],
)
def test_pages_that_failed_to_arrive_are_stored_again(play, cls, times):
    _, tree = play(cls)
    assert {key: tree.stored.count(key) for key in times} == times


def test_a_request_waits_for_room_on_the_device(play):
    found, _ = play()
    assert (has(found, "no room on the device"), has(found, "room on the device")) == (False, True)
    lost, _ = play(LosesSlotsWithoutRoom)
    assert (has(lost, "no room on the device"), has(lost, "room on the device")) == (False, False)


def test_every_slot_has_an_owner_behind_every_phase(play):
    found, _ = play()
    final = [one for one in found if isinstance(one, PoolBalance) and one.is_final]
    assert len(final) > 20
    assert all(one.free + one.cached + one.held == one.total for one in final)
