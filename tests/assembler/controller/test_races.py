"""Every wait and record of the controller is needed: without it the simulation finds a race."""

import pytest
import torch

from assembler.device import tensor_access
from tests.assembler.controller.slots import SOURCE, take
from tests.assembler.small_models import buffers_of, mha_pool, params_of
from tests.assembler.stacks.builder_calls import kv_only
from traces.simulator import Schedule, SchedulePolicy, SimDevice
from traces.simulator.streams import SimEvent, SimStream


def overwrite(device, pool, value):
    """Let the forward pass write every row of a pool, on the current stream."""
    for (plane, layer), buffer in buffers_of(pool).items():
        target = buffer.view(torch.uint8)
        device.launch(
            lambda target=target: target.fill_(value),
            label=f"forward writes {plane} {layer}",
            reads=(),
            writes=(tensor_access(target),),
        )


def attend(device, pool):
    """Let the forward pass read every layer once its load is done."""
    for layer in range(pool.layer_num):
        device.launch(
            lambda: None,
            label=f"forward reads layer {layer}",
            reads=tuple(map(tensor_access, pool.get_kv_buffer(pool.start_layer + layer))),
            writes=(),
        )


def serve(device, pool, build):
    """Compute, back up, reuse the slots when told, load elsewhere, read."""
    params = params_of(pool)
    _, controller = build(params)
    slots = take(params, SOURCE)
    overwrite(device, pool, 3)
    host_slots = controller.write(slots)
    while not controller.ack_write_queue[0].finish_event.query():
        pass
    overwrite(device, pool, 9)
    loaded = controller.load(host_slots)
    controller.layer_done_counter.set_consumer(controller.start_loading())
    attend(device, pool)
    device.synchronize()
    return [bool(buffer[loaded].view(torch.uint8).eq(3).all()) for buffer in pool.k_buffer]


def new_device(policy, *, seed=0):
    schedule = Schedule(seed=seed, policy=policy)
    return SimDevice(schedule=schedule, capacity_bytes=None, raise_races=False)


@pytest.mark.parametrize("policy", list(SchedulePolicy))
def test_nothing_races_with_all_edges_in_place(policy):
    for seed in range(3):
        device = new_device(policy, seed=seed)

        assert serve(device, mha_pool(device), kv_only) == [True, True, True]
        assert [str(race) for race in device.races] == []


@pytest.mark.parametrize("policy", list(SchedulePolicy))
@pytest.mark.parametrize(
    ("method", "event", "first", "second"),
    [
        ("wait", "write.start", "forward writes k 0", "backup MHATokenToKVPoolHost k layer 0"),
        ("wait", "load.start", "forward writes k 0", "load MHATokenToKVPoolHost k layer 0"),
        ("wait", "load.layer1", "load MHATokenToKVPoolHost k layer 1", "forward reads layer 1"),
        ("record", "write.start", "forward writes k 0", "backup MHATokenToKVPoolHost k layer 0"),
        ("record", "write.finish", "backup MHATokenToKVPoolHost k layer 0", "forward writes k 0"),
        ("record", "load.start", "forward writes k 0", "load MHATokenToKVPoolHost k layer 0"),
        ("record", "load.layer1", "load MHATokenToKVPoolHost k layer 1", "forward reads layer 1"),
    ],
)
def test_every_removed_edge_is_a_race(monkeypatch, policy, method, event, first, second):
    wait, record = SimStream._wait_event, SimEvent._record
    if method == "wait":
        monkeypatch.setattr(
            SimStream,
            "_wait_event",
            lambda self, awaited: None if awaited.name == event else wait(self, awaited),
        )
    else:
        monkeypatch.setattr(
            SimEvent,
            "_record",
            lambda self, stream: None if self.name == event else record(self, stream),
        )
    device = new_device(policy, seed=1)

    serve(device, mha_pool(device), kv_only)

    assert (first, second) in {(race.first.label, race.second.label) for race in device.races}


def test_site_of_a_race_leads_to_the_controller(monkeypatch):
    monkeypatch.setattr(SimStream, "_wait_event", lambda self, awaited: None)
    device = new_device("latest")

    serve(device, mha_pool(device), kv_only)

    race = next(race for race in device.races if race.second.label.startswith("backup"))
    assert race.second.site.line.startswith("assembler/transfer/engine.py:")
    assert "assembler/controller/hybrid.py:" in race.second.site.path
