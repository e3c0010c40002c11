"""A small decode server copies rows of running requests: one that errs shows in the balances."""

import queue
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from traces.schema.pools import PoolAnswer
from traces.targets.sglang import decode_requests
from traces.targets.sglang.decode_requests import DecodeRequests, is_decode_server
from traces.targets.sglang.server_requests import DecodeBatch
from traces.targets.sglang.storage.threads import watched_queues
from traces.targets.sglang.tree_ledger import CountedPool

PAGE = 4
SLOTS = 32


class Slots:
    """Slots that are handed out in order."""

    def __init__(self, total):
        self.free_slots = list(range(total))

    def alloc(self, number):
        taken, self.free_slots = self.free_slots[:number], self.free_slots[number:]
        return taken

    def free(self, slots):
        self.free_slots += slots

    def available_size(self):
        return len(self.free_slots)


class Request:
    """A request whose rows lie in whole pages."""

    def __init__(self, name, tokens):
        self.name, self.origin_input_ids, self.output_ids = name, tokens, []
        self.finished_reason, self.extra_key, self.slots, self.room = None, "", [], 0
        self.last_node, self.lock = "root", None

    def finished(self):
        return self.finished_reason is not None

    def init_next_round_input(self, _tree):
        """The tree keeps no prefix."""


class Tree:
    """Locks prefixes for requests, and forgets the locks."""

    def lock(self, node):
        return node

    def unlock(self, lock):
        """Forget a lock."""


class TreeOfEarlierReleases:
    """Gives locks back node by node; those who match take none themselves."""

    def dec_lock_ref(self, node, params=None):
        """Forget a lock."""


class DecodeServer:
    """Copies whole pages behind the prompt's, and frees a request's slots behind its last copy."""

    def __init__(self):
        self.tree_cache = Tree()
        self.device, self.host = Slots(SLOTS), Slots(SLOTS)
        self.to_store, self.is_stored = queue.Queue(), queue.Queue()
        self.stored = []
        self.copied, self.copying = {}, []
        self.thread = threading.Thread(target=self._store, daemon=True)
        self.thread.start()

    def _store(self):
        while (pages := self.to_store.get()) is not None:
            self.is_stored.put(pages)

    def offload_kv_cache(self, request):
        prompt = len(request.origin_input_ids)
        first = self.copied.setdefault(request.name, prompt // PAGE * PAGE)
        whole = (prompt + len(request.output_ids) - 1) // PAGE * PAGE
        if whole == first:
            return False
        self.copied[request.name] = whole
        self.copying.append((request, self.host.alloc(whole - first)))
        self.free_early(request)
        return True

    def free_early(self, request):
        """Free nothing: the request goes on with its rows."""

    def check_offload_progress(self):
        copying, self.copying = self.copying, []
        for request, host in copying:
            self.to_store.put(host)
            if request.finished():
                self.release(request)
        while self.is_stored.qsize():
            self.forget(self.is_stored.get())

    def forget(self, host):
        self.host.free(host)

    def finalize_release_on_finish(self, request):
        if not any(copying is request for copying, _ in self.copying):
            self.release(request)

    def release(self, request):
        taken, request.slots = request.slots, []
        self.device.free(taken)
        self.unlock(request)

    def unlock(self, request):
        self.tree_cache.unlock(request.lock)


class NeverUnlocks(DecodeServer):
    def unlock(self, request):
        """Keep the prefix of the request locked."""


class UnlocksInEarlierReleases(DecodeServer):
    def __init__(self):
        super().__init__()
        self.tree_cache = TreeOfEarlierReleases()

    def unlock(self, request):
        self.tree_cache.dec_lock_ref(request.last_node, params="those of its lock")


class FreesPromptEarly(DecodeServer):
    def free_early(self, request):
        self.device.free(request.slots[:PAGE])
        del request.slots[:PAGE]


class FreesUnderCopy(DecodeServer):
    def finalize_release_on_finish(self, request):
        self.release(request)


class KeepsHostPages(DecodeServer):
    def forget(self, _host):
        """Keep the host's pages after they are stored."""


class LeaksLastRequest(DecodeServer):
    def release(self, request):
        if request.name != "given_up":
            super().release(request)


@pytest.fixture
def play(monkeypatch):
    """A function that returns the records of a server's balances, and those of its tree."""

    def give(batch):
        request = batch.reqs[0]
        length = len(request.origin_input_ids) + len(request.output_ids)
        while request.room < length:
            request.slots += request_server[0].device.alloc(PAGE)
            request.room += PAGE
        return torch.tensor(request.slots[:1])

    request_server = []
    batch = lambda _stack, request, tree: SimpleNamespace(reqs=[request], tree=tree)  # noqa: E731
    replaced = {
        "make_request": Request,
        "PrefillBatch": batch,
        "DecodeBatch": batch,
        "allocate": give,
        "allocate_next": give,
        "plan_prefill": lambda _request: None,
        "finish": lambda request, is_aborted: setattr(request, "finished_reason", is_aborted),
    }
    for name, value in replaced.items():
        monkeypatch.setattr(decode_requests, name, value)

    @contextmanager
    def serving(kind):
        with watched_queues():
            server = kind()
            request_server[:] = [server]
            yield server
            server.to_store.put(None)
            server.thread.join()

    def play_server(kind):
        with serving(kind) as server:
            stack = SimpleNamespace(
                cache=server, page_size=PAGE, controller=SimpleNamespace(thread=server.thread)
            )
            rows = SimpleNamespace(on_host=lambda slots: slots, write=lambda _slots, _author: None)
            pools = tuple(
                CountedPool(pool="KV", component="FULL", side=side, allocator=slots, total=SLOTS)
                for side, slots in (("device", server.device), ("host", server.host))
            )
            script = DecodeRequests(
                stack, rows=rows, transfers=SimpleNamespace(host_slots={}), pools=pools
            )
            records = list(script.run())
        answers = [one for one in records if isinstance(one, PoolAnswer)]
        balances = [one for one in records if not isinstance(one, PoolAnswer)]
        assert [one.moment for one in balances if one.is_final] == ["idle"] * 2
        return balances, answers

    return play_server


def unbalanced(balances):
    """Return the moments at which slots have no owner or two."""
    return [
        (one.side, one.moment) for one in balances if one.free + one.cached + one.held != one.total
    ]


def test_a_sound_server_frees_every_slot_when_its_request_is_over(play):
    balances, _ = play(DecodeServer)
    assert unbalanced(balances) == []


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (DecodeServer, [0, 0, 0, 0, 0, 1, 3, 3]),
        (UnlocksInEarlierReleases, [0, 0, 0, 0, 0, 1, 3, 3]),
        (NeverUnlocks, [0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_requests_that_give_the_lock_of_their_prefix_back_are_counted(play, kind, numbers):
    _, answers = play(kind)
    assert [one.values for one in answers] == [[number] for number in numbers]
    assert answers[0].method == "unlocked, admitted"
    assert {one.holder for one in answers} == {"tree"}


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        (FreesPromptEarly, ("device", "copying")),
        (FreesUnderCopy, ("device", "given_up")),
        (KeepsHostPages, ("host", "stored")),
        (LeaksLastRequest, ("device", "ended")),
    ],
)
def test_slots_that_a_server_frees_too_early_or_never_show(play, kind, first):
    balances, _ = play(kind)
    assert unbalanced(balances)[0] == first


def test_only_what_copies_the_rows_of_running_requests_is_a_decode_server():
    assert is_decode_server(SimpleNamespace(offload_kv_cache=len))
    assert not is_decode_server(SimpleNamespace(offload_kv_cache=None))
    assert not is_decode_server(SimpleNamespace())


@pytest.mark.parametrize("record", [True, False], ids=["in its record", "in the request"])
def test_the_row_of_a_request_is_found_where_the_release_keeps_it(record):
    table = SimpleNamespace(req_to_token=torch.zeros(3, 8))
    stack = SimpleNamespace(req_to_token_pool=table, allocator="allocator")
    request = SimpleNamespace(origin_input_ids=[1, 2, 3], output_ids=[4, 5])
    holder = SimpleNamespace() if record else request
    request.kv = holder
    holder.req_pool_idx = 2
    batch = DecodeBatch(stack, request, tree="tree")
    assert batch.req_pool_indices.tolist() == batch.req_pool_indices_cpu.tolist() == [2]
    # The last token that was computed has no slot yet.
    assert batch.seq_lens.tolist() == [4]
