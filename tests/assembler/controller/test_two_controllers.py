"""Two ranks over one simulated device: a stack, a controller and a host thread for each."""

from dataclasses import dataclass

import pytest
import torch

from assembler.controller.hybrid import HybridCacheController
from assembler.device import Device, tensor_access
from assembler.device.host_threads.thread_group import ThreadQueue
from assembler.host_pools.group import HostPoolGroup, PoolTransfer
from assembler.names import PoolName
from tests.assembler.small_models import (
    buffers_of,
    fill,
    mla_pool,
    nsa_pool,
    params_of,
    rows_as_bytes,
)
from tests.assembler.stacks.builder_calls import kv_only, shared_anchor
from traces.simulator import ReplayedSchedule, Schedule, SchedulePolicy, SimDevice

ROUNDS = 2


def new_device(policy, seed):
    schedule = Schedule(seed=seed, policy=policy)
    return SimDevice(schedule=schedule, capacity_bytes=None, raise_races=False)


@dataclass
class Rank:
    """A stack under traffic; ``said`` is what all ranks did, in order."""

    name: str
    device: Device
    group: HostPoolGroup
    controller: HybridCacheController
    said: list

    @property
    def pool(self):
        return self.controller.mem_pool_device

    def transfers(self):
        names = [entry.name for entry in self.group.entries if entry.name is not PoolName.KV]
        return [PoolTransfer(name, indices_from_pool=PoolName.KV) for name in names]

    def overwrite(self, value, label):
        """Write all rows of the device pool in the forward pass."""
        buffers = tuple(tensor_access(buffer) for buffer in buffers_of(self.pool).values())
        self.device.launch(
            lambda: fill(self.pool, value), label=f"{label} {self.name}", reads=(), writes=buffers
        )

    def attend(self):
        """Return the rows of every layer as the forward pass reads them."""
        seen = {}
        for (plane, layer), buffer in buffers_of(self.pool).items():
            self.pool.wait_for_layer(self.pool.start_layer + layer)
            copied = self.device.empty(tuple(buffer.shape), buffer.dtype)
            self.device.launch(
                lambda copied=copied, buffer=buffer: copied.copy_(buffer),
                label=f"attend {self.name}",
                reads=(tensor_access(buffer),),
                writes=(tensor_access(copied),),
            )
            seen[plane, layer] = copied
        self.device.current_stream().synchronize()
        for copied in seen.values():
            self.device.host_access(label="compare", reads=(tensor_access(copied),), writes=())
        return {key: rows_as_bytes(copied) for key, copied in seen.items()}

    def back_up(self, value):
        """Write rows, back 8 slots up, and return device slots and host slots."""
        slots = self.controller.mem_pool_device_allocator.alloc(8)
        self.overwrite(value, "forward")
        host_slots = self.controller.write(slots, extra_pools=self.transfers())
        self.said.append(f"{self.name} backs {value} up")
        return slots, host_slots

    def serve(self, value):
        """Take slots through backup, poison and load, and compare what is served."""
        slots, host_slots = self.back_up(value)
        written = slots.tolist()
        ack = self.controller.ack_write_queue.pop()
        while not ack.finish_event.query():
            self.said.append(f"{self.name} asks")
        self.controller.evict_device(slots)
        self.overwrite(99, "poison")
        loaded = self.controller.load(host_slots, extra_pools=self.transfers())
        self.controller.layer_done_counter.set_consumer(self.controller.start_loading())
        served = self.attend()
        self.said.append(f"{self.name} is served {value}")
        self.check(served, expected=value, written=written, loaded=loaded.tolist())
        self.controller.ack_load_queue.pop()
        self.controller.evict_device(loaded)
        self.controller.evict_host(host_slots)

    def check(self, served, *, expected, written, loaded):
        assert written != loaded
        reference = {key: torch.empty_like(rows) for key, rows in served.items()}
        for number, rows in enumerate(reference.values()):
            flat = rows.view(-1)
            flat.copy_((torch.arange(flat.numel()) + 31 * number + expected) % 127)
        for (plane, layer), rows in served.items():
            unit = 4 if plane == "index_k" else 1
            here, there = ([slot // unit for slot in slots] for slots in (written, loaded))
            assert torch.equal(rows[there], reference[plane, layer][here])


def new_rank(device, name, said):
    """Build the NSA stack with its indexer for the one rank, a plain one for the other."""
    pool = nsa_pool(device) if name == "rank0" else mla_pool(device)
    build = shared_anchor if name == "rank0" else kv_only
    group, controller = build(params_of(pool))
    return Rank(name=name, device=device, group=group, controller=controller, said=said)


def two_ranks(device):
    """Serve rounds of traffic on two ranks; return what they said, the races and the decisions."""
    said = []

    def traffic(name, first):
        rank = new_rank(device, name, said)
        for value in range(first, first + ROUNDS):
            rank.serve(value)
        rank.controller.reset()

    with device.threads() as threads:
        threads.start(lambda: traffic("rank0", 10), name="rank0")
        threads.start(lambda: traffic("rank1", 20), name="rank1")
    device.synchronize()
    return said, [str(race) for race in device.races], device.schedule.log()


@pytest.mark.parametrize(
    ("policy", "seed"),
    [("latest", 0), ("earliest", 0), *(("starve", n) for n in range(3))]
    + [("random", n) for n in range(4)],
)
def test_both_ranks_are_served_what_they_wrote(policy, seed):
    said, races, _ = two_ranks(new_device(policy, seed))

    assert races == []
    for name, first in (("rank0", 10), ("rank1", 20)):
        mine = [what for what in said if what.startswith(name) and "asks" not in what]
        assert mine == [
            f"{name} {what}"
            for value in (first, first + 1)
            for what in (f"backs {value} up", f"is served {value}")
        ]


PROGRAM = """
from tests.assembler.controller.test_two_controllers import new_device, two_ranks
print(two_ranks(new_device("random", 4)))
"""


def test_same_seed_is_the_same_execution_in_every_process(outputs_of):
    outputs = outputs_of(PROGRAM)

    assert outputs == {f"{two_ranks(new_device('random', 4))}\n"}


def test_other_seeds_are_other_executions():
    executions = [two_ranks(new_device("random", seed)) for seed in range(3)]

    assert len({tuple(said) for said, _, _ in executions}) == 3
    assert len({log for _, _, log in executions}) == 3


def test_log_replays_both_controllers():
    said, races, log = two_ranks(new_device("random", 7))
    schedule = ReplayedSchedule(log)
    again = SimDevice(schedule=schedule, capacity_bytes=None, raise_races=False)

    assert two_ranks(again) == (said, races, log)


def storage_tier(device, *, is_waited_for, is_handed_over):
    """Back up in one thread and read the host rows in another one; return the races."""
    rank = new_rank(device, "rank1", [])
    host_pool = rank.group.get_pool(PoolName.KV)
    rows = []

    with device.threads() as threads:
        backups: ThreadQueue[int] = threads.queue(name="backups")

        def store():
            if is_handed_over:
                backups.get()
            rank.device.host_access(
                label="store", reads=(tensor_access(host_pool.kv_buffer),), writes=()
            )
            rows.append(host_pool.kv_buffer.clone())

        threads.start(store, name="storage")
        rank.back_up(5)
        if is_waited_for:
            rank.controller.ack_write_queue[0].finish_event.synchronize()
        backups.put(1)
    device.synchronize()
    return [race.missing_edge for race in device.races]


@pytest.mark.parametrize("policy", list(SchedulePolicy))
@pytest.mark.parametrize(
    ("is_waited_for", "is_handed_over", "is_racy"),
    [(True, True, False), (True, False, True), (False, True, True)],
)
def test_storage_thread_needs_both_the_event_and_the_hand_over(
    policy, is_waited_for, is_handed_over, is_racy
):
    """Scenario: a thread of the storage tier reads host rows that another thread backed up."""
    for seed in range(2):
        races = storage_tier(
            new_device(policy, seed),
            is_waited_for=is_waited_for,
            is_handed_over=is_handed_over,
        )

        assert bool(races) is is_racy


def test_missing_hand_over_to_the_storage_thread_is_named():
    edges = storage_tier(new_device("latest", 0), is_waited_for=False, is_handed_over=True)

    assert edges[0].startswith(
        "thread storage must synchronise with stream write after 'backup MLA"
    )
