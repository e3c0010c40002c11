"""Random traffic on real stacks: silent on sound code, loud on planted bugs."""

import inspect
import textwrap
from pathlib import Path

import pytest
import torch

from assembler.cache import moves
from assembler.cache.device_slots import ComponentAllocators
from assembler.cache.hierarchical import HierarchicalCache
from assembler.controller import hybrid
from assembler.controller.hybrid import HybridCacheController
from assembler.controller.layer_done import LayerDoneCounter
from assembler.controller.operations import CacheOperation
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.host_pools.base import HostKVCache
from assembler.names import ComponentType
from traces.explore import (
    POLICIES,
    TrafficConfig,
    draw_config,
    parse_replay,
    render_replay,
    run_steps,
)
from traces.explore.steps import (
    AbortRequest,
    Backup,
    CheckWrites,
    Evict,
    Forward,
    InjectFault,
    Insert,
    Launch,
    LoadBack,
    ReserveSlots,
)
from traces.explore.traffic_machine import find_violation
from traces.simulator.streams import SimStream
from traces.targets.native.explore.subject import NativeTrafficSubject
from traces.targets.native.scenarios import BUILDERS, registry, scenario_of_config

RUNS_TO_FIND = 60
REPLAYS = sorted((Path(__file__).parent / "replays").glob("*.json"))


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: threads would cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(builder, number, *, seed=0, shrinks=False):
    case = draw_config(
        scenarios=registry(), builder=builder, seed=seed, run=number, policies=POLICIES
    )
    return find_violation(case, open_subject=NativeTrafficSubject, step_num=20, shrinks=shrinks)


def first_violation(builder):
    found = (run(builder, number) for number in range(RUNS_TO_FIND))
    return next(replay for replay in found if replay is not None)


@pytest.mark.parametrize("builder", BUILDERS)
def test_no_invariant_is_violated(builder):
    for number in range(6):
        assert run(builder, number, seed=20) is None


def edited(function, module, old, new):
    """Return a function compiled from its source with one change."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1
    namespace = dict(vars(module))
    exec(source.replace(old, new), namespace)
    return namespace[function.__name__]


def without_wait_for(name):
    def plant(patch):
        wait_event = SimStream.wait_event

        def wait(self, event):
            if event.name != name:
                wait_event(self, event)

        patch.setattr(SimStream, "wait_event", wait)

    return plant


def without_waiting_readers(patch):
    patch.setattr(LayerDoneCounter, "wait_until", lambda self, threshold: None)


def with_ungated_index(patch):
    def getter(self, layer_id):
        return self.index_k_with_scale_buffer[layer_id - self.start_layer]

    patch.setattr(NSATokenToKVPool, "get_index_k_with_scale_buffer", getter)


def with_layers_done_early(patch):
    copy = "self._copier.load_layer(placed, layer=layer)"
    done = "events.complete(layer=layer, stream=self.load_stream)"
    start_loading = HybridCacheController.start_loading
    source = textwrap.dedent(inspect.getsource(start_loading))
    assert source.index(copy) < source.index(done)
    source = source.replace(done, "DONE").replace(copy, done).replace("DONE", copy)
    namespace = dict(vars(hybrid))
    exec(source, namespace)
    patch.setattr(HybridCacheController, "start_loading", namespace["start_loading"])


def with_locks_released_early(patch):
    def writing_check(self, *, write_back=False):
        for writing, lock in self.ongoing_write_through.values():
            self.dec_lock_ref(writing.nodes[-1], lock.to_dec_params())
        self.ongoing_write_through.clear()
        self.cache_controller.ack_write_queue.clear()

    patch.setattr(HierarchicalCache, "writing_check", writing_check)


def with_host_slots_freed_early(patch):
    """Free the host slots of a load when it is queued, as if it had been done."""
    load_back = HierarchicalCache.load_back

    def loaded(self, node):
        missing = node.missing_on_device()
        slots = load_back(self, node)
        if missing and slots is not None and node.lock_ref == 1:
            _, _, lock = self.ongoing_load_back[node.id]
            self.dec_lock_ref(node, lock.to_dec_params())
            self._room()._drop_from_host(node, ComponentType.FULL)
            self.inc_lock_ref(node)
        return slots

    patch.setattr(HierarchicalCache, "load_back", loaded)


def without_sidecars(patch):
    patch.setattr(moves, "sidecar_transfers", lambda specs, components: [])


def without_give_back(patch):
    patch.setattr(CacheOperation, "give_back", lambda self: None)


def without_undo(patch):
    patch.setattr(HierarchicalCache, "_undo_unlaunched_loads", lambda self: None)


def without_window_mapping(patch):
    patch.setattr(ComponentAllocators, "map_window", lambda self, full, window: None)


def with_reset_that_does_not_wait(patch):
    reset = HybridCacheController.reset
    changed = edited(reset, hybrid, "self.write_stream.synchronize()", "pass")
    patch.setattr(HybridCacheController, "reset", changed)


KV_ONLY, SHARED = "build_kv_only_stack", "build_shared_anchor_stack"
RACE = "conflicting accesses are ordered"
BYTES = "bytes served are the bytes written"
SLOTS = "every slot is free or has one owner"
ERROR = "only an injected failure raises"
PLANTS = {
    "write stream waits for write.start": (without_wait_for("write.start"), KV_ONLY, {RACE}),
    "load stream waits for load.start": (without_wait_for("load.start"), KV_ONLY, {RACE}),
    "readers wait for their layer": (without_waiting_readers, KV_ONLY, {RACE}),
    "readers of index keys wait": (with_ungated_index, SHARED, {RACE}),
    "a layer is done after its copy": (with_layers_done_early, KV_ONLY, {RACE}),
    "a node is locked until its backup is done": (with_locks_released_early, KV_ONLY, {RACE}),
    "host slots are kept until a load is done": (
        with_host_slots_freed_early,
        KV_ONLY,
        {RACE, BYTES},
    ),
    "sidecars move along": (without_sidecars, SHARED, {BYTES}),
    "a failed copy gives its slots back": (without_give_back, KV_ONLY, {SLOTS, ERROR}),
    "a failed load leaves the nodes": (without_undo, KV_ONLY, {SLOTS, ERROR}),
    "windows are mapped after a load": (without_window_mapping, "build_hybrid_swa_stack", {SLOTS}),
    "reset waits for copies": (with_reset_that_does_not_wait, KV_ONLY, {RACE, BYTES}),
}


@pytest.mark.parametrize("name", PLANTS)
def test_planted_bug_is_found_and_replayed(monkeypatch, name):
    plant, builder, invariants = PLANTS[name]
    with monkeypatch.context() as patch:
        plant(patch)
        replay = first_violation(builder)
        kept = parse_replay(render_replay(replay), name="file", scenario_of=scenario_of_config)
        again = run_steps(
            kept.traffic_config(scenario_of_config), kept.steps, open_subject=NativeTrafficSubject
        )

    assert replay.invariant in invariants
    # Host slots are handed out in turns: a slot that was freed early is not taken again at once.
    assert len(replay.steps) <= (20 if plant is with_host_slots_freed_early else 8)
    assert (again.invariant, str(again)) == (replay.invariant, replay.message)
    assert (
        run_steps(
            kept.traffic_config(scenario_of_config), kept.steps, open_subject=NativeTrafficSubject
        )
        is None
    )


def test_violation_is_shrunk_by_hypothesis(monkeypatch):
    without_wait_for("write.start")(monkeypatch)
    found = (run(KV_ONLY, number, shrinks=True) for number in range(RUNS_TO_FIND))
    replay = next(replay for replay in found if replay is not None)

    assert replay.steps == (Insert(node=0, pages=1), Backup(node=0))


@pytest.mark.parametrize("file", REPLAYS, ids=lambda file: file.stem)
def test_bug_that_was_found_does_not_come_back(file):
    kept = parse_replay(
        file.read_text(encoding="utf-8"), name=file.name, scenario_of=scenario_of_config
    )

    violation = run_steps(
        kept.traffic_config(scenario_of_config), kept.steps, open_subject=NativeTrafficSubject
    )
    assert violation is None, str(violation)


def scenario_of(builder, **axes):
    return next(
        scenario
        for scenario in registry().values()
        if scenario.builder == builder
        and all(getattr(scenario, axis) == value for axis, value in axes.items())
    )


AWAY = (
    Insert(node=0, pages=1),
    Backup(node=0),
    CheckWrites(wait=True),
    Evict(part="full", pages=6),
)
BACK = (LoadBack(node=0), Launch(), Forward(node=0))


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_round_trip_by_hand_is_sound(builder, policy):
    case = TrafficConfig(scenario=scenario_of(builder), seed=0, policy=policy)

    assert run_steps(case, (*AWAY, *BACK), open_subject=NativeTrafficSubject) is None


@pytest.mark.parametrize("site", ["host", "device", "host sidecar", "device sidecar"])
@pytest.mark.parametrize("builder", ["build_hybrid_swa_stack", "build_hybrid_mamba_stack"])
def test_failed_allocation_leaks_nothing(builder, site):
    case = TrafficConfig(scenario=scenario_of(builder), seed=0, policy="latest")
    fail = InjectFault(site=site, after=0, times=2)
    steps = (Insert(node=0, pages=1), fail, *AWAY[1:], fail, *BACK)

    assert run_steps(case, steps, open_subject=NativeTrafficSubject) is None


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("after", range(4))
def test_full_device_memory_leaks_no_slots_of_a_request(builder, after):
    """Regression: an index tensor that could not be allocated lost the slots it was for."""
    case = TrafficConfig(scenario=scenario_of(builder), seed=0, policy="latest")
    steps = (InjectFault(site="indices", after=after, times=1), AbortRequest(pages=1), *AWAY, *BACK)

    assert run_steps(case, steps, open_subject=NativeTrafficSubject) is None


TIGHT = ReserveSlots(side="device", part="full", spare=1)
ONE_MORE = Insert(node=1, pages=1)
FAILING = {
    "load": (*AWAY, TIGHT, InjectFault(site="copy", after=3, times=1), *BACK[:2], ONE_MORE),
    "write": (
        *(TIGHT, Insert(node=0, pages=1), InjectFault(site="copy", after=1, times=1)),
        *(Backup(node=0), Evict(part="full", pages=1), ONE_MORE),
    ),
}


@pytest.mark.parametrize(
    ("stream", "function"), [("load", "start_loading"), ("write", "start_writing")]
)
def test_failed_copy_must_be_waited_for(monkeypatch, stream, function):
    """The slots of a failed copy are handed out again at once."""
    scenario = scenario_of(KV_ONLY, io_backend="kernel", write_policy="write_through_selective")
    case = TrafficConfig(scenario=scenario, seed=0, policy="latest")
    assert run_steps(case, FAILING[stream], open_subject=NativeTrafficSubject) is None

    sound = getattr(HybridCacheController, function)
    changed = edited(sound, hybrid, f"self.{stream}_stream.synchronize()", "pass")
    monkeypatch.setattr(HybridCacheController, function, changed)

    violation = run_steps(case, FAILING[stream], open_subject=NativeTrafficSubject)
    assert violation.invariant == RACE


def test_wrong_bytes_on_the_host_are_found(monkeypatch):
    """Control of the model itself: a backup that moves nothing."""
    case = TrafficConfig(scenario=scenario_of(KV_ONLY), seed=0, policy="latest")
    assert run_steps(case, AWAY[:2], open_subject=NativeTrafficSubject) is None

    monkeypatch.setattr(HostKVCache, "backup_from_device_all_layer", lambda self, **_: None)

    violation = run_steps(case, AWAY[:2], open_subject=NativeTrafficSubject)
    assert violation.invariant == BYTES
    assert str(violation).startswith("node 0 on the host in KV.")


def test_race_names_both_operations_and_the_lines_that_led_there(monkeypatch):
    case = TrafficConfig(scenario=scenario_of(KV_ONLY), seed=0, policy="latest")
    without_wait_for("write.start")(monkeypatch)

    violation = run_steps(case, AWAY[:2], open_subject=NativeTrafficSubject)

    first, *_ = str(violation).splitlines()
    assert "'attention writes KV." in first
    assert "on stream write (assembler/transfer/engine.py:" in first
    assert "missing: stream write must wait for an event recorded on stream default" in first
    assert " < assembler/controller/hybrid.py:" in str(violation)
