"""A small coordinator of sparse rows: one that errs shows in rows, numbers of slots or races."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.testing._internal.distributed.fake_pg import FakeStore

from traces.schema.model import RoundTrip
from traces.schema.pools import PoolAnswer
from traces.targets.sglang import hisparse_script
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.callbacks import EvictionLog
from traces.targets.sglang.hisparse_script import HisparseScript
from traces.targets.sglang.registry import registry
from traces.targets.sglang.script_device import ScriptDevice

PAGE, BUFFER, SLOTS, LAYERS = 16, 64, 512, 2


class Slots:
    def __init__(self, size, page=PAGE):
        self.size, self.page = size, page
        self.free_pages = list(range(1, size // page + 1))

    def available_size(self):
        return len(self.free_pages) * self.page

    def alloc(self, need):
        number = -(-need // self.page)
        taken, self.free_pages = self.free_pages[:number], self.free_pages[number:]
        pages = torch.tensor(taken)[:, None] * self.page + torch.arange(self.page)
        return pages.flatten()

    def free(self, slots):
        self.free_pages += sorted({int(slot) // self.page for slot in slots})


class Host(Slots):
    """Rows of every layer, by host slot."""

    def __init__(self):
        super().__init__(SLOTS)
        self.rows = torch.zeros(LAYERS, SLOTS + PAGE, 8)

    def alloc_paged_token_slots(self, table, lengths, row, start, number):
        if start + number > int(lengths[row]):
            new = -(-(start + number - int(lengths[row])) // PAGE) * PAGE
            table[row, int(lengths[row]) : int(lengths[row]) + new] = self.alloc(new)
            lengths[row] += new
        return table[row, start : start + number]

    def backup_from_device_all_layer(self, pool, host, device, io_backend):
        assert io_backend == "kernel"
        for layer, rows in enumerate(pool.kv_buffer):
            self.rows[layer, host] = rows[device]


class Allocator:
    """Slots of requests, and those of the device behind them."""

    def __init__(self):
        self.logical_attn_allocator, self.hisparse_attn_allocator = Slots(2 * SLOTS), Slots(SLOTS)
        self.behind = torch.zeros(2 * SLOTS + PAGE, dtype=torch.int64)

    def get_last_loc_hisparse_device(self, slots):
        return self.behind[slots]

    def free_hisparse(self, slots):
        device = self.behind[slots]
        self.hisparse_attn_allocator.free(device[device > 0])
        self.behind[slots] = 0


class Coordinator:
    """Keeps a buffer of rows of each request on the device, and all of them on the host."""

    def __init__(self, pool, allocator):
        self.mem_pool_device, self.mem_pool_host = pool, Host()
        self.allocator = allocator
        self.req_to_host_pool = torch.full((8, 256), -1)
        self.req_to_host_pool_allocated_len = torch.zeros(8, dtype=torch.int64)
        self.buffers, self.copying, self.uncopied = {}, [], {}
        self.num_real_reqs = torch.zeros(1)

    def _host(self, row, start, number):
        return self.mem_pool_host.alloc_paged_token_slots(
            self.req_to_host_pool, self.req_to_host_pool_allocated_len, row, start, number
        )

    def admit_request_into_staging(self, request):
        length = len(request.origin_input_ids)
        device = self.allocator.behind[request.slots]
        host = self._host(request.req_pool_idx, 0, length)
        self.copy(host, device)
        self.copying.append(request)

    def copy(self, host, device):
        pool = self.mem_pool_device
        self.mem_pool_host.backup_from_device_all_layer(pool, host, device, io_backend="kernel")

    def abort_staging_request(self, request):
        self.copying.remove(request)
        self.allocator.free_hisparse(request.slots)
        self.free_host(request.req_pool_idx)

    def free_host(self, row):
        held = self.req_to_host_pool[row]
        self.mem_pool_host.free(held[held >= 0])
        self.req_to_host_pool[row] = -1
        self.req_to_host_pool_allocated_len[row] = 0

    def collect_ready_reqs(self):
        number = torch.tensor(len(self.copying))
        torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MIN)
        ready, self.copying = self.copying[: int(number)], self.copying[int(number) :]
        for request in ready:
            self.allocator.free_hisparse(request.slots)
            self.take_buffer(request)
        return ready

    def take_buffer(self, request):
        slots = self.allocator.hisparse_attn_allocator.alloc(BUFFER + PAGE)
        self.buffers[request.req_pool_idx] = slots

    def admit_request_direct(self, request):
        self.take_buffer(request)

    def map_last_loc_to_buffer(self, seq_lens, out_cache_loc, req_pool_indices):
        row, position = int(req_pool_indices), int(seq_lens) - 1
        self.keep_previous(row)
        place = self.buffers[row][BUFFER]
        self.allocator.behind[out_cache_loc] = place
        self.uncopied[row] = (position, place)

    def keep_previous(self, row):
        if row in self.uncopied:
            position, place = self.uncopied.pop(row)
            self.copy(self._host(row, position, 1), place.reshape(1))

    def swap_in_selected_pages(self, req_pool_indices, seq_lens, top_k_result, layer_id):
        tokens = top_k_result[:, : int((top_k_result >= 0).sum())]
        return self.naive_load_topk(req_pool_indices, seq_lens, tokens, layer_id)

    def naive_load_topk(self, req_pool_indices, seq_lens, top_k_tokens, layer_id):
        row, last = int(req_pool_indices), int(seq_lens) - 1
        tokens, buffer = top_k_tokens[0].long(), self.buffers[row]
        found = buffer[: len(tokens)].clone()
        is_last = tokens == last
        host = self.req_to_host_pool[row, tokens[~is_last]]
        device = self.mem_pool_device.kv_buffer[layer_id]
        device[found[~is_last]] = self.mem_pool_host.rows[layer_id, host]
        found[is_last] = buffer[BUFFER]
        return found[None]

    def retract_req(self, request):
        self.request_finished(request)

    def request_finished(self, request):
        row = request.req_pool_idx
        self.allocator.hisparse_attn_allocator.free(self.buffers.pop(row))
        self.free_host(row)


class ForgetsComputedTokens(Coordinator):
    def keep_previous(self, row):
        if row in self.uncopied:
            position, _ = self.uncopied.pop(row)
            self._host(row, position, 1)


class KeepsHostPages(Coordinator):
    def retract_req(self, request):
        self.allocator.hisparse_attn_allocator.free(self.buffers.pop(request.req_pool_idx))


class IsReadyBeforePeers(Coordinator):
    def collect_ready_reqs(self):
        ready, self.copying = self.copying, []
        for request in ready:
            self.allocator.free_hisparse(request.slots)
            self.take_buffer(request)
        return ready


class Requests:
    """Stands for the release's own functions."""

    def __init__(self, stack):
        self.stack, self.rows = stack, iter(range(1, 8))

    def make_request(self, name, tokens):
        return SimpleNamespace(
            rid=name,
            origin_input_ids=tokens,
            output_ids=[],
            prefix_len=0,
            req_pool_idx=next(self.rows),
            slots=torch.zeros(0, dtype=torch.int64),
            init_next_round_input=lambda _tree: None,
        )

    def allocate(self, batch):
        (request,) = batch.reqs
        own = self.stack.allocator
        number = len(request.origin_input_ids)
        slots = own.logical_attn_allocator.alloc(number)
        request.pages = slots
        request.slots = slots[:number]
        own.behind[request.slots] = own.hisparse_attn_allocator.alloc(number)[:number]
        return request.slots

    def allocate_next(self, batch):
        (request,) = batch.reqs
        length = len(request.origin_input_ids) + len(request.output_ids) - 1
        while len(request.pages) <= length:
            more = self.stack.allocator.logical_attn_allocator.alloc(1)
            request.pages = torch.cat([request.pages, more])
        return request.pages[length : length + 1]

    def release_slots(self, request, _tree, *, is_kept):
        assert not is_kept
        self.stack.allocator.logical_attn_allocator.free(request.pages)


@pytest.fixture
def play(device, monkeypatch):
    def played(cls):
        pool = SimpleNamespace(
            kv_buffer=[torch.zeros(SLOTS + PAGE, 8) for _ in range(LAYERS)], start_layer=0
        )
        allocator = Allocator()
        coordinator = cls(pool, allocator)
        stack = AssembledStack(
            scenario=next(s for s in registry().values() if s.short_name == "hisparse"),
            cache=None,
            group=coordinator.mem_pool_host,
            controller=coordinator,
            complete_tree=None,
            sidecars=(),
            kvcache=pool,
            full_allocator=allocator.hisparse_attn_allocator,
            allocator=allocator,
            device_pools={"KV": pool},
            req_to_token_pool=SimpleNamespace(req_to_token=torch.zeros(8, 256)),
            window=128,
            page_size=PAGE,
            draft_pools=(),
            pool_transfer=None,
            dropped=(),
            evictions=EvictionLog(),
        )
        requests = Requests(stack)
        for name in ("make_request", "allocate", "allocate_next", "release_slots"):
            monkeypatch.setattr(hisparse_script, name, getattr(requests, name))
        for name in ("plan_prefill", "commit"):
            monkeypatch.setattr(hisparse_script, name, lambda _request: None)
        monkeypatch.setattr(hisparse_script, "finish", lambda _request, is_aborted: None)
        script = HisparseScript(stack, device=ScriptDevice(device, pause_interception=nullcontext))
        return [record for step in script.steps for record in script.run_step(step)]

    return played


def trips(found):
    return {(one.step, one.plane): one.equal for one in found if isinstance(one, RoundTrip)}


def told(found):
    return {(one.holder, one.method): one.values for one in found if isinstance(one, PoolAnswer)}


RIGHT = dict.fromkeys(
    [
        *(("decode", f"{name}.{number}") for name in ("short", "long") for number in (0, 1)),
        *(("direct", f"{name}.2") for name in ("short", "long", "far")),
        *(("loop", f"{name}.0") for name in ("short", "long", "far")),
    ],
    True,
)


@pytest.fixture(autouse=True)
def ranks():
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    torch.distributed.destroy_process_group()


def test_attention_gets_the_rows_that_were_written_and_every_slot_comes_back(play):
    found = play(Coordinator)
    assert trips(found) == RIGHT
    numbers = told(found)
    assert numbers["hisparse", "ready before a peer"] == []
    assert numbers["hisparse", "ready"] == ["short", "long"]
    assert numbers["device KV", "available_size: ended far"] == [SLOTS]
    assert numbers["host KV", "available_size: ended far"] == [SLOTS]
    assert numbers["device requests", "available_size: ended far"] == [2 * SLOTS]


def test_a_computed_token_that_is_never_copied_to_the_host_shows_in_its_row(play):
    far = {("direct", "far.2"): True, ("loop", "far.0"): True}
    assert trips(play(ForgetsComputedTokens)) == {**dict.fromkeys(RIGHT, False), **far}


def test_host_pages_that_are_never_freed_show_in_the_numbers_of_slots(play):
    found = play(KeepsHostPages)
    assert trips(found) == RIGHT
    assert told(found)["host KV", "available_size: ended far"] == [SLOTS - 144 - 64]


def test_a_request_that_is_ready_before_it_is_on_every_rank_shows(play):
    found = told(play(IsReadyBeforePeers))
    assert found["hisparse", "ready before a peer"] == ["short", "long"]
    assert found["hisparse", "ready"] == []
