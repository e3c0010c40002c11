"""Round trips through stacks over pools that share memory: what is written, moved and compared."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from traces.schema.life import PoolBalance
from traces.schema.model import RoundTrip, TreeMatch
from traces.targets.sglang import configured_trips
from traces.targets.sglang.configured_hosts import FullHosts
from traces.targets.sglang.configured_rows import (
    bytes_like,
    registrations,
    row_groups,
    share_memory,
    storages,
)
from traces.targets.sglang.configured_stacks import ConfiguredStack
from traces.targets.sglang.configured_trips import ConfiguredTrip, is_playable
from traces.targets.sglang.errors import StageError
from traces.targets.sglang.geometry import geometry_of
from traces.targets.sglang.registry import registry
from traces.targets.sglang.script_device import ScriptDevice

PAGE, PAGES, HEADS, DIM, HOST_PAGES = 2, 12, 1, 4, 8


def geometry():
    found = (one for one in registry().values() if one.configures_pools)
    return geometry_of(next(one for one in found if one.model == "gpt_oss"))


class Memory:
    """Rows of slots and of the windows behind them, token by token in one piece of memory."""

    def __init__(self, *, is_shared=True):
        sizes = geometry()
        ids = [sizes.global_ids(own) for own in (sizes.model.full_layers, sizes.model.swa_layers)]
        self.raw = torch.zeros(PAGES * PAGE * 2 * max(map(len, ids)) * DIM)
        self.layers = {}
        pools = []
        for own in ids:
            raw = self.raw if is_shared or not pools else self.raw.clone()
            entry = 2 * len(own) * DIM
            views = [
                raw.as_strided((PAGES * PAGE, HEADS, DIM), (entry, DIM, 1), part * DIM)
                for part in range(2 * len(own))
            ]
            pools.append(SimpleNamespace(views=views))
            self.layers |= {layer: views[2 * n : 2 * n + 2] for n, layer in enumerate(own)}
        self.full_kv_pool, self.swa_kv_pool = pools

    def get_key_buffer(self, layer):
        return self.layers[layer][0]

    def get_value_buffer(self, layer):
        return self.layers[layer][1]

    def translate_loc_from_full_to_swa(self, slots):
        # From the other end, so that no byte belongs to both kinds of rows.
        return slots // PAGE * PAGE + slots % PAGE

    def rows(self, slots):
        return Allocator.translate_kv_loc(slots), self.translate_loc_from_full_to_swa(slots)


class Allocator:
    """Hands out pages of numbers that stand for the mirrored places."""

    def __init__(self):
        self.pages = list(range(1, PAGES // 2 - 1))

    def available_size(self):
        return len(self.pages) * PAGE

    full_available_size = swa_available_size = available_size

    def alloc(self, need):
        taken, self.pages = self.pages[: need // PAGE], self.pages[need // PAGE :]
        return torch.cat([torch.arange(page * PAGE, (page + 1) * PAGE) for page in taken])

    def free(self, slots):
        self.pages += (slots[::PAGE] // PAGE).tolist()

    @staticmethod
    def translate_kv_loc(slots):
        return (PAGES - 1 - slots // PAGE) * PAGE + slots % PAGE


class Host:
    page_size = PAGE

    def __init__(self):
        self.pages = list(range(HOST_PAGES))
        self.asked = []

    def available_size(self):
        return len(self.pages) * PAGE

    def alloc(self, need):
        self.asked.append(need // PAGE)
        taken, self.pages = self.pages[: need // PAGE], self.pages[need // PAGE :]
        return torch.cat([torch.arange(page * PAGE, (page + 1) * PAGE) for page in taken])

    def free(self, slots):
        self.pages = sorted([*self.pages, *(slots[::PAGE] // PAGE).tolist()])


class ForgetsAPage(Host):
    def free(self, slots):
        super().free(slots[:-PAGE] if len(slots) > PAGE else slots)


class Tree:
    """A tree that copies the rows of one sequence to the host, and loads them into other slots."""

    def __init__(self, memory, allocator, host):
        self.memory, self.allocator, self.host = memory, allocator, host
        self.inserted = self.slots = self.copied = self.host_slots = None
        self.is_polled = 0

    def order(self, copied):
        return copied

    def into(self, slots):
        return slots

    def key(self, tokens, _namespace):
        return tokens

    def give_up(self):
        self.host.free(self.host_slots)
        self.host_slots = self.host_slots[:0]

    def insert(self, key, slots, _states, *, known):
        if not known:
            self.slots = slots
            if self.host.available_size() < len(slots):
                self.give_up()
            if self.host.available_size() >= len(slots):
                self.inserted, self.copied = key, None
                self.host_slots = self.host.alloc(len(slots))
        return SimpleNamespace(prefix_len=known, mamba_exist=False)

    def poll(self):
        self.is_polled += 1
        if self.slots is not None and self.copied is None:
            full, windows = self.memory.rows(self.slots)
            parts = self.memory.full_kv_pool.views, self.memory.swa_kv_pool.views
            self.copied = (
                [view[full].clone() for view in parts[0]],
                [view[windows].clone() for view in parts[1]],
            )

    def evict(self, _tokens, _windows):
        if self.slots is not None:
            self.allocator.free(self.slots)
        self.slots = None

    def match(self, key, _request):
        hit = len(self.host_slots) if key == self.inserted else 0
        return SimpleNamespace(last_device_node=None, host_hit_length=hit)

    def device_slots(self, _match):
        return torch.zeros(0).long() if self.slots is None else self.slots

    def load_back(self, _match, _request):
        self.slots = self.allocator.alloc(len(self.host_slots))
        full, windows = self.memory.rows(self.into(self.slots))
        for view, copied in zip(self.memory.full_kv_pool.views, self.copied[0], strict=True):
            view[full] = self.order(copied)
        for view, copied in zip(self.memory.swa_kv_pool.views, self.copied[1], strict=True):
            view[windows] = self.order(copied)

    def evict_host(self, _tokens):
        self.host.free(self.host_slots)


class LoadsInReverse(Tree):
    def order(self, copied):
        return copied.flip(0)


class LoadsBeside(Tree):
    def into(self, slots):
        return slots - PAGE


class GivesNothingUp(Tree):
    def give_up(self):
        pass


class LoadsNothing(Tree):
    def load_back(self, match, request):
        pass


@pytest.fixture
def play(device, monkeypatch):
    monkeypatch.setattr(configured_trips, "TreeClient", lambda cache: cache)

    def run(*, tree=Tree, host=Host):
        memory, allocator, own = Memory(), Allocator(), host()
        stack = ConfiguredStack(
            cache=tree(memory, allocator, own),
            group=SimpleNamespace(entries=[entry("kv", own)]),
            complete_tree=lambda: None,
            page_size=PAGE,
            geometry=geometry(),
            made={"requests": SimpleNamespace(), "allocator": allocator, "pool": memory},
        )
        script = ScriptDevice(device, pause_interception=nullcontext)
        return list(ConfiguredTrip(stack, device=script, step="flag").run())

    return run


def entry(name, pool):
    name = SimpleNamespace(value=name)
    return SimpleNamespace(name=name, host_pool=pool, device_pool=None)


def trips(records):
    found = [one for one in records if isinstance(one, RoundTrip)]
    return {one.rows: (one.equal, one.foreign_slots) for one in found}


def missing(records):
    return {one.sequence: one.missing for one in records if isinstance(one, TreeMatch)}


def balances(records):
    found = [one for one in records if isinstance(one, PoolBalance)]
    return {one.owner: one.total - one.free for one in found}


ROWS = ("KV.k", "KV.v", "SWA.k", "SWA.v")


def test_rows_come_back_in_every_plane_and_all_slots_are_free_again(play):
    records = play()
    assert trips(records) == dict.fromkeys(ROWS, (True, ""))
    assert balances(records) == {"device.KV": 0, "device.SWA": 0, "host.KV": 0}
    assert missing(records) == {"request": "", "next request": ""}


def test_rows_that_come_back_in_another_order_are_wrong(play):
    assert not any(equal for equal, _ in trips(play(tree=LoadsInReverse)).values())


def test_rows_that_are_loaded_into_slots_of_others_are_foreign(play):
    found = trips(play(tree=LoadsBeside))
    assert all(foreign for _, foreign in found.values())


def test_tokens_that_are_not_loaded_are_missing(play):
    assert missing(play(tree=LoadsNothing)) == {"request": "0-5", "next request": ""}


def test_a_request_that_finds_no_host_pages_while_the_pools_are_full_is_missing(play):
    assert missing(play(tree=GivesNothingUp)) == {"request": "", "next request": "0-5"}


def test_a_host_page_that_is_not_freed_is_missing_in_the_balance(play):
    assert balances(play(host=ForgetsAPage))["host.KV"] > 0


@pytest.mark.parametrize(("is_shared", "playable"), [(True, True), (False, False)])
def test_only_pools_that_share_memory_are_played(is_shared, playable):
    made = {
        "requests": SimpleNamespace(),
        "allocator": Allocator(),
        "pool": Memory(is_shared=is_shared),
    }
    stack = ConfiguredStack(
        cache=None,
        group=None,
        complete_tree=lambda: None,
        page_size=PAGE,
        geometry=geometry(),
        made=made,
    )
    assert (share_memory(geometry(), made), is_playable(stack)) == (playable, playable)


def test_the_translation_for_kernels_takes_precedence():
    allocator = Allocator()
    made = {"requests": None, "allocator": allocator, "pool": Memory()}
    slots = torch.arange(PAGE)
    assert row_groups(geometry(), made)[0].places_of(slots).tolist() == [22, 23]
    allocator.translate_kv_loc_for_kernel = lambda slots: slots * 3
    assert row_groups(geometry(), made)[0].places_of(slots).tolist() == [0, 3]


def test_values_that_are_a_part_of_the_keys_are_no_plane_of_their_own():
    memory = Memory()
    made = {"requests": None, "allocator": Allocator(), "pool": memory}
    layers = len(row_groups(geometry(), made)[0].buffers)
    memory.get_value_buffer = memory.get_key_buffer
    assert len(row_groups(geometry(), made)[0].buffers) * 2 == layers


def test_bytes_of_rows_that_lie_apart_are_found_in_a_copy_of_their_memory():
    memory = Memory()
    made = {"requests": None, "allocator": Allocator(), "pool": memory}
    group = row_groups(geometry(), made)[0]
    [piece] = storages([group])
    copy = piece.clone()
    bytes_like(group.buffers[1], copy)[3] = 7
    assert copy.sum() == 7 * DIM * 4
    piece.copy_(copy)
    assert not group.buffers[0].tensor.any()
    assert group.buffers[1].tensor[3].view(torch.uint8).tolist() == [[7] * DIM * 4]


def test_a_pool_registers_a_part_of_the_memory_with_the_length_of_an_item():
    piece = torch.zeros(64, dtype=torch.uint8)
    pool = SimpleNamespace(get_contiguous_buf_infos=lambda: ([piece.data_ptr() + 16], [40], [8]))
    [answer] = registrations({"KV": pool, "SWA": object()}, [piece], step="flag")
    [buffer] = answer.buffers
    assert (answer.holder, buffer.plane) == ("flag.KV", "memory")
    assert (buffer.offset, buffer.bytes, buffer.item_bytes, buffer.held_bytes) == (16, 40, 8, 48)


def test_a_pool_that_registers_nothing_is_recorded_with_the_reason():
    def refuse():
        raise NotImplementedError("no regions")

    pool = SimpleNamespace(get_contiguous_buf_infos=refuse)
    [answer] = registrations({"KV": pool}, [], step="flag")
    assert (answer.buffers, answer.reason) == ((), "NotImplementedError: no regions")


def test_hosts_run_full_in_pieces_in_turns_and_at_once_when_others_are_freed():
    pools = Host(), Host()
    pools[1].asked = pools[0].asked
    hosts = FullHosts(SimpleNamespace(entries=[entry("kv", pools[0]), entry("swa", pools[1])]))
    hosts.take_pages()
    hosts.run_full()
    # A page, halves of the rest, and at last what every other piece had.
    assert pools[0].asked == [1, 1, 4, 4, 2, 2, 1, 1, 3, 3]
    assert hosts.free() == {"KV": 0, "SWA": 0}
    hosts.return_slots()
    assert hosts.free() == {"KV": HOST_PAGES * PAGE, "SWA": HOST_PAGES * PAGE}


def test_a_host_pool_that_has_room_and_hands_out_nothing_ends_the_step():
    pool = Host()
    pool.alloc = lambda _: None
    with pytest.raises(StageError, match="KV: a pool with room must hand out slots"):
        FullHosts(SimpleNamespace(entries=[entry("kv", pool)])).take_pages()
