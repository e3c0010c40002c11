from collections import Counter
from types import FunctionType

import pytest
import torch

import assembler.stacks
from assembler import HostPoolGroup
from assembler.device import get_device
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.groups import LocalGroup
from traces import record
from traces.errors import RecorderError
from traces.recording.encode import Encoder
from traces.recording.object_ids import ObjectIds
from traces.recording.probes import CallProbe, ThreadProbe
from traces.schema.canonical import parse, render
from traces.schema.model import Allocation, EventAwaited, EventRecorded, Message, Release, Transfer
from traces.targets import get_target
from traces.targets.native.run import run_scenario, run_unrecorded
from traces.targets.native.scenarios import NativeScenario
from traces.targets.native.script import NativeScript
from traces.targets.native.target import NativeTarget, builders


def scenario(**changes) -> NativeScenario:
    """A scenario of one's own, so that the registry may change."""
    fields = {
        "builder": "attach_hybrid_pool_to_unified_cache",
        "model": "llama3_8b",
        "layout": "layer_first",
        "io_backend": "kernel",
        "write_policy": "write_through",
        "page_size": 16,
        "sizing": "ratio",
        "storage_backend": None,
        "groups": "tp1",
        "draft": False,
    }
    return NativeScenario(**{**fields, **changes})


@pytest.fixture(scope="module")
def nsa_fp8():
    """The shared-anchor stack with fp8 rows of 656 bytes and a draft pool."""
    played = scenario(
        builder="build_shared_anchor_stack",
        model="dsv32_fp8",
        layout="page_first_direct",
        io_backend="direct",
        page_size=64,
        draft=True,
    )
    return run_scenario(played, device="cpu")


def probes_by_callee() -> dict[str, CallProbe]:
    probes = NativeTarget().probes()
    return {probe.callee: probe for probe in probes if isinstance(probe, CallProbe)}


def test_builders_are_found_by_their_names():
    assert builders() == (
        "attach_hybrid_nsa_pool_to_hiradix_cache",
        "attach_hybrid_pool_to_mamba_cache",
        "attach_hybrid_pool_to_unified_cache",
        "build_hybrid_mamba_stack",
        "build_hybrid_swa_stack",
        "build_kv_only_stack",
        "build_shared_anchor_stack",
    )
    assert get_target("native").builders() == builders()


def test_builder_added_later_is_found_and_watched(monkeypatch):
    def build_new_stack():
        return None

    def wrapper():
        return build_new_stack()

    monkeypatch.setattr(assembler.stacks, "build_new_stack", build_new_stack, raising=False)
    monkeypatch.setattr(assembler.stacks, "attach_decorated", wrapper, raising=False)

    assert {"build_new_stack", "attach_decorated"} <= set(builders())
    assert probes_by_callee()["attach_decorated"].function is wrapper


def test_every_probe_is_one_plain_function():
    probes = NativeTarget().probes()
    functions = [probe.function for probe in probes if not isinstance(probe, ThreadProbe)]

    assert len(functions) == len(probes) - 1
    assert all(isinstance(function, FunctionType) for function in functions)
    assert max(Counter(functions).values()) == 1


def test_everything_the_contract_names_is_a_probe():
    callees = probes_by_callee()

    assert {
        "build_kv_host_pool",
        "build_pool_entry",
        "MHATokenToKVPoolHost",
        "MLATokenToKVPoolHost",
        "NSAIndexerPoolHost",
        "MambaPoolHost",
        "MHATokenToKVPool",
        "MLATokenToKVPool",
        "NSATokenToKVPool",
        "SWAKVPool",
        "MambaPool",
        "HybridReqToTokenPool",
        "HybridLinearKVPool",
        "PoolEntry",
        "HostPoolGroup",
        "HybridCacheController",
    } <= callees.keys()
    assert {name for name in callees if name.startswith("HybridCacheController.")} == {
        "HybridCacheController.evict_device",
        "HybridCacheController.evict_host",
        "HybridCacheController.load",
        "HybridCacheController.reset",
        "HybridCacheController.set_draft_kv_pool",
        "HybridCacheController.shutdown",
        "HybridCacheController.start_loading",
        "HybridCacheController.start_writing",
        "HybridCacheController.write",
    }


def test_nsa_stack_has_the_buffers_of_every_pool_under_its_name(nsa_fp8):
    owners = {record.owner for record in nsa_fp8.trace.tensors}
    (host,) = [record for record in nsa_fp8.trace.tensors if record.owner == "host.KV"]

    assert owners == {
        "device.KV",
        "device.DRAFT",
        "host.KV",
        "host.INDEXER",
        "host.DRAFT",
    }
    # 512 bytes of fp8 latent, 4 float32 scales, 64 bfloat16 rope elements: 512 + 16 + 128.
    assert host.shape[-1] == 656
    assert host.layout == "page_first_direct"
    assert host.pinned
    device = [record for record in nsa_fp8.trace.tensors if record.owner == "device.KV"]
    assert {record.name.partition("[")[0] for record in device} == {
        "kv_buffer",
        "index_k_with_scale_buffer",
    }
    assert not any(record.pinned for record in device)


def test_nsa_stack_records_the_whole_chain_of_the_override(nsa_fp8):
    given = {
        (call.callee, call.parent.partition("#")[0]): argument.value
        for call in nsa_fp8.trace.calls
        for argument in call.arguments
        if argument.name == "override_kv_cache_dim" and argument.given
    }

    assert given[("build_shared_anchor_stack", "")] == 656
    assert given[("build_kv_host_pool", "build_shared_anchor_stack")] == 656
    assert given[("MLATokenToKVPoolHost", "build_kv_host_pool")] == 656


def test_transfers_name_pool_plane_slots_and_stream(nsa_fp8):
    moved = [event for event in nsa_fp8.trace.events if isinstance(event, Transfer)]

    assert {(event.direction, event.pool, event.plane, event.stream) for event in moved} == {
        (direction, pool, plane, stream)
        for direction, stream in (("backup", "write"), ("load", "load"))
        for pool, plane in (("KV", "kv"), ("INDEXER", "index_k"), ("DRAFT", "kv"))
    }
    assert {event.backend for event in moved} == {"direct"}


def test_every_event_that_is_awaited_was_recorded_before(nsa_fp8):
    recorded = set()
    for event in nsa_fp8.trace.events:
        if isinstance(event, EventRecorded):
            recorded.add(event.name)
        elif isinstance(event, EventAwaited) and not event.name.startswith("stream:"):
            assert event.name in recorded


def test_allocations_and_frees_are_told_by_their_pools():
    trace = run_scenario(scenario(model="gpt_oss"), device="cpu").trace

    owners = {one.owner for one in trace.events if isinstance(one, Allocation | Release)}
    assert owners == {"device.KV", "device.SWA", "host.KV", "host.SWA"}


@pytest.mark.parametrize(
    "played",
    [
        scenario(builder="build_kv_only_stack"),
        scenario(builder="attach_hybrid_pool_to_mamba_cache", model="nemotron_h"),
        scenario(
            builder="attach_hybrid_nsa_pool_to_hiradix_cache", model="dsv32_fp8", page_size=64
        ),
    ],
    ids=lambda played: played.builder,
)
def test_trace_is_the_same_every_time_and_survives_its_file(played):
    texts = [render(run_scenario(played, device="cpu").trace) for _ in range(2)]

    assert texts[0] == texts[1]
    assert render(parse(texts[0])) == texts[0]
    assert "0x" not in texts[0]


def test_places_are_lines_of_the_assembler(nsa_fp8):
    sites = nsa_fp8.sites

    assert sites.definitions["build_shared_anchor_stack"].file.startswith("assembler/")
    assert sites.definitions["PoolEntry"].file == "assembler/host_pools/group.py"
    # The states of a cache are looked at: no line makes them.
    lines = [site for site in sites.events if site is not None]
    assert {site.file.partition("/")[0] for site in lines} <= {"assembler", "traces"}


def test_layout_switch_is_a_message():
    played = scenario(
        builder="UnifiedRadixCache.init_hicache",
        model="qwen3_8b",
        layout="page_first",
        io_backend="direct",
    )
    events = run_scenario(played, device="cpu").trace.events

    assert [event.level for event in events if isinstance(event, Message)] == ["warning"]


def new_encoder() -> Encoder:
    labels = ObjectIds()
    encoder = Encoder(
        labels, on_reference=lambda value: labels.label(value, labels.name_of(type(value)))
    )
    NativeTarget().register_types(encoder)
    return encoder


def test_accelerator_objects_are_the_same_on_every_device():
    device, encoder = get_device("cpu"), new_encoder()

    assert encoder.encode(device, "f.x") == {"device": "accelerator"}
    assert encoder.encode(device.new_stream("write"), "f.x") == {"stream": "write"}
    assert encoder.encode(device.new_event("load.start"), "f.x") == {"event": "load.start#1"}


def test_groups_are_told_by_members_and_place():
    encoder = new_encoder()

    assert encoder.encode(LocalGroup("attn_cp", (0, 2), 1), "f.x") == {
        "group": "attn_cp",
        "ranks": [0, 2],
        "rank": 1,
    }


def test_torch_groups_are_told_by_members_and_place():
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        encoded = new_encoder().encode(torch.distributed.group.WORLD, "f.x")
    finally:
        torch.distributed.destroy_process_group()

    assert encoded == {"group": "ProcessGroup#1", "ranks": [0], "rank": 0}


def test_user_code_can_be_recorded_without_a_scenario():
    device = get_device("cpu")

    with record() as recorder:
        pool = MHATokenToKVPool(
            size=8,
            page_size=1,
            dtype=torch.float16,
            head_num=2,
            head_dim=4,
            v_head_dim=4,
            layer_num=1,
            device=device,
            start_layer=0,
            end_layer=0,
        )

    # (8 + 1) rows of 2 heads with 4 elements of 2 bytes
    assert [(one.owner, one.name, one.bytes) for one in recorder.tensors] == [
        ("device.MHATokenToKVPool", "k_buffer[0]", 144),
        ("device.MHATokenToKVPool", "v_buffer[0]", 144),
    ]
    assert recorder.tensors[0].shape == tuple(pool.k_buffer[0].shape) == (9, 2, 4)


def test_unknown_type_is_an_error_that_names_the_argument():
    class Foreign:
        layout = "layer_first"

    wanted = pytest.raises(RecorderError, match=r"HostPoolGroup\.entries\[0\]: type must be known")
    with wanted, record(), pytest.raises(AttributeError):
        HostPoolGroup([Foreign()])


def test_only_a_recorded_run_replaces_code(monkeypatch):
    """`goldentrace bench recorder` measures what recording costs; unrecorded runs cost nothing."""
    function, seen = HostPoolGroup.__init__, []
    code, steps = function.__code__, NativeScript.run_step

    def run_step(script, step):
        seen.append(function.__code__ is code)
        yield from steps(script, step)

    monkeypatch.setattr(NativeScript, "run_step", run_step)
    run_unrecorded(scenario(), device="cpu")
    assert set(seen) == {True}
    seen.clear()
    run_scenario(scenario(), device="cpu")
    assert set(seen) == {False}
