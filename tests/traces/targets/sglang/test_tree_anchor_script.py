"""A small tree that locks the anchors of prefetches: what is played, and that a wrong one shows."""

from typing import Any

import pytest

from tests.traces.targets.sglang.test_tree_buffer_script import BufferedTree, player_of
from traces.schema.life import NodeLocks, PoolBalance
from traces.schema.model import TreeMatch
from traces.targets.sglang.tree_anchor_script import TreeAnchorScript

READING = "while its pages are read"
# Pages from the root of the tree to one of them.
Path = tuple[tuple[Any, ...], ...]


class AnchoredTree(BufferedTree):
    """Reads at one poll what storage has told at the one before, and locks the anchor meanwhile."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.buffer_pipeline.has_staged = self.fetched.__contains__
        self.reading: dict[str, list[Path]] = {}
        self.anchors: dict[str, Path] = {}

    def check_hicache_events(self) -> None:
        self.store()
        for request, paths in [] if self.storage.is_held else list(self.reading.items()):
            del self.reading[request]
            self.fetch_for(request, paths)
        for request, paths in [] if self.storage.is_held else list(self._asked.items()):
            del self._asked[request]
            known = paths[0][:-1]
            if not known or known in self._pages:
                self.reading[request] = paths
                there = [path for path in paths if path in self._pages]
                self.lock(request, max(there, key=len, default=known))

    def evict(self, _params: Any) -> None:
        locked = self.locked()
        for path, page in list(self._pages.items()):
            if path not in locked:
                self._slots.free(page.device)
                del self._pages[path]

    def reset(self) -> None:
        for requests in (self._asked, self.reading, self.fetched, self.anchors):
            requests.clear()
        super().reset()

    def locked(self) -> set[Path]:
        anchors = self.anchors.values()
        return {path[: end + 1] for path in anchors for end in range(len(path))}

    def lock(self, request: str, anchor: Path) -> None:
        self.anchors[request] = anchor

    def unlock(self, request: str) -> None:
        self.anchors.pop(request, None)

    def fetch_for(self, request: str, paths: list[Path]) -> None:
        super().fetch_for(request, paths)
        if not self.fetched.get(request):
            self.unlock(request)

    def check_prefetch_progress(self, req_id: str) -> bool:
        is_over = req_id not in self.reading and req_id not in self._asked
        if not is_over and self.prefetch_stop_policy == "wait_complete":
            return False
        if not is_over:
            self.give_up(req_id)
        return True

    def release_aborted_request(self, req_id: str) -> None:
        self.fetched.pop(req_id, None)
        self.give_up(req_id)

    def give_up(self, request: str) -> None:
        self._asked.pop(request, None)
        self.reading.pop(request, None)
        self.unlock(request)

    def init_load_back(self, params: Any) -> None:
        request = params.req.cache_request_handle
        if request in self.fetched:
            super().init_load_back(params)
        if request not in self.fetched:
            self.unlock(request)


class LocksNothing(AnchoredTree):
    def lock(self, request: str, anchor: Path) -> None:
        """The tree may evict it."""


class UnlocksOnceRead(AnchoredTree):
    def fetch_for(self, request: str, paths: list[Path]) -> None:
        super().fetch_for(request, paths)
        self.unlock(request)


class KeepsWhatIsGivenUp(AnchoredTree):
    def give_up(self, request: str) -> None:
        self._asked.pop(request, None)
        self.reading.pop(request, None)


class KeepsWhatIsLoadedFor(AnchoredTree):
    def init_load_back(self, params: Any) -> None:
        anchor = self.anchors.get(params.req.cache_request_handle)
        super().init_load_back(params)
        if anchor is not None:
            self.lock(params.req.cache_request_handle, anchor)


@pytest.fixture
def play(device, monkeypatch):
    return player_of(TreeAnchorScript, device, monkeypatch)


def locks(found, *, part):
    """Return the moments of locks whose names have a part."""
    return {one.moment for one in found if isinstance(one, NodeLocks) and part in one.moment}


ENDS = ("admitted", "aborted", "not waited for", "loaded")
RIGHT = {f"{end} {READING}: reading" for end in ENDS} | {f"admitted {READING}: over"}
LEFT = {f"{end} {READING}: over" for end in ("aborted", "not waited for")}
KEPT = LEFT | {f"{end} {READING}" for end in ("admitted", "aborted", "not waited for")}


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (AnchoredTree, RIGHT),
        (LocksNothing, set()),
        (UnlocksOnceRead, RIGHT - {f"admitted {READING}: over"}),
        (KeepsWhatIsGivenUp, RIGHT | KEPT),
        (KeepsWhatIsLoadedFor, RIGHT | {f"loaded {READING}: over"}),
    ],
)
def test_locks_are_read_while_pages_are_read_and_behind_every_end(play, cls, expected):
    found, _ = play(cls)
    assert locks(found, part=READING) == expected


HALF = "its half is there before it is read"


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (AnchoredTree, {f"{HALF}: read"}),
        (UnlocksOnceRead, set()),
        (LocksNothing, set()),
    ],
)
def test_locks_are_read_once_pages_have_arrived(play, cls, expected):
    found, _ = play(cls)
    assert locks(found, part=HALF) == expected


@pytest.mark.parametrize(("cls", "expected"), [(AnchoredTree, True), (LocksNothing, False)])
def test_a_request_gets_its_pages_behind_an_anchor_that_was_to_be_evicted(play, cls, expected):
    found, _ = play(cls)
    (match,) = [
        one for one in found if isinstance(one, TreeMatch) and one.phase == "evicted meanwhile"
    ]
    assert match.found is expected


@pytest.mark.parametrize(("cls", "expected"), [(AnchoredTree, 1), (KeepsWhatIsGivenUp, 2)])
def test_two_requests_lock_one_anchor_until_each_is_aborted(play, cls, expected):
    found, _ = play(cls)
    moments = [one.moment for one in found if isinstance(one, NodeLocks)]
    # Three parts are six nodes of a page each.
    assert moments.count("behind 3 parts of 6: read") == 6
    assert moments.count("behind 3 parts of 6: aborted") == 6 * expected


def test_every_slot_has_an_owner_behind_every_phase(play):
    found, _ = play()
    final = [one for one in found if isinstance(one, PoolBalance) and one.is_final]
    assert len(final) > 35
    assert all(one.free + one.cached + one.held == one.total for one in final)
