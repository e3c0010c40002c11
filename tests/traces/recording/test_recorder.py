import functools
import warnings

import pytest
import torch
from tinystack import pools, stack

from traces import record
from traces.schema.canonical import parse, render
from traces.schema.model import (
    Allocation,
    Argument,
    Digest,
    EventAwaited,
    EventRecorded,
    Failure,
    Message,
    Outcome,
    Release,
    RoundTrip,
    ScenarioRecord,
    Transfer,
)

OPTIONS = stack.Options()


def build(**changes):
    """Build a stack with matching widths; 16 = 8 * scale 2."""
    arguments = {"options": OPTIONS, "width": 16, **changes}
    pool = pools.WideDevicePool(8, scale=2)
    return stack.build_stack(pool, **arguments)


def callees(recorder) -> list[str]:
    return [call.callee for call in recorder.calls]


def arguments(recorder, label: str) -> list[tuple]:
    (call,) = [call for call in recorder.calls if call.call == label]
    return [(one.name, one.value, one.given) for one in call.arguments]


def test_build_records_calls_with_parents_and_roles(tiny):
    with record(target=tiny) as recorder:
        build()

    assert [(one.call, one.parent, one.role) for one in recorder.calls] == [
        ("WideDevicePool#1", "", "constructor"),
        ("build_stack#1", "", "builder"),
        ("build_host#1", "build_stack#1", "builder"),
        ("HostPool#1", "build_host#1", "constructor"),
        ("PoolEntry#1", "build_stack#1", "constructor"),
        ("Group#1", "build_stack#1", "constructor"),
        ("Controller#1", "build_stack#1", "constructor"),
    ]
    assert recorder.calls[1].returns == [{"ref": "Group#1"}, {"ref": "Controller#1"}]


def test_given_and_defaulted_arguments_differ(tiny):
    with record(target=tiny) as recorder:
        pool = pools.DevicePool(8, width=4)
        stack.build_host(device_pool=pool)
        stack.build_host(device_pool=pool, width=None)

    assert arguments(recorder, "build_host#1")[1] == ("width", None, False)
    assert arguments(recorder, "build_host#2")[1] == ("width", None, True)


def test_variable_arguments_and_keywords_are_flattened(tiny):
    with record(target=tiny) as recorder:
        stack.build_stack(
            pools.WideDevicePool(8, scale=2), "a", "b", options=OPTIONS, zeta=1, alpha=(1, 2)
        )

    assert arguments(recorder, "build_stack#1") == [
        ("device_pool", {"ref": "WideDevicePool#1"}, True),
        ("names[0]", "a", True),
        ("names[1]", "b", True),
        ("options", {"object": "Options", "fields": {"ratio": 2.0, "backend": "kernel"}}, True),
        ("width", None, False),
        ("extra.alpha", [1, 2], True),
        ("extra.zeta", 1, True),
    ]


def test_default_factory_is_recorded_as_what_it_made(tiny):
    with record(target=tiny) as recorder:
        build()

    assert ("tags", [], False) in arguments(recorder, "PoolEntry#1")


def test_arguments_are_those_at_the_time_of_the_call(tiny):
    entries: list = []
    with record(target=tiny) as recorder:
        stack.Group(entries)
        entries.append("later")

    assert arguments(recorder, "Group#1") == [("entries", [], True)]


def test_constructor_is_recorded_once_an_object_with_what_the_caller_gave(tiny):
    with record(target=tiny) as recorder:
        group, _ = build()
        stack.EagerController(group)

    assert "DevicePool" not in callees(recorder)
    assert arguments(recorder, "WideDevicePool#1") == [("size", 8, True), ("scale", 2, True)]
    assert callees(recorder).count("Controller") == 1
    assert arguments(recorder, "EagerController#1") == [("group", {"ref": "Group#1"}, True)]


def test_method_called_through_super_is_one_call(tiny):
    with record(target=tiny) as recorder:
        group, _ = build()
        stack.EagerController(group).write(torch.arange(2))

    assert callees(recorder)[-1] == "EagerController.write"
    assert "Controller.write" not in callees(recorder)


def test_subclass_outside_the_target_counts_as_its_base(tiny):
    class Local(pools.DevicePool):
        def __init__(self):
            super().__init__(3, width=5)

    with record(target=tiny) as recorder:
        stack.build_host(device_pool=Local())

    assert arguments(recorder, "DevicePool#1") == [
        ("size", 3, True),
        ("width", 5, True),
        ("layers", 2, False),
    ]
    assert arguments(recorder, "build_host#1")[0][1] == {"ref": "DevicePool#1"}


@pytest.mark.parametrize(
    "call",
    [
        stack.REGISTRY["stack"],
        functools.partial(stack.build_stack),
        [stack.build_stack][0].__call__,
    ],
)
def test_builder_is_seen_however_it_is_reached(tiny, call):
    with record(target=tiny) as recorder:
        call(pools.DevicePool(8, width=16), options=OPTIONS)

    assert callees(recorder).count("build_stack") == 1


def test_class_methods_and_static_methods_can_be_probes(tiny):
    from traces.recording.probes import CallProbe

    class WithMore(type(tiny)):
        def probes(self):
            of_one = vars(stack.Group)["of_one"].__func__
            return [
                *super().probes(),
                CallProbe(
                    function=of_one,
                    callee="Group.of_one",
                    role="builder",
                    part="",
                    method="of_one",
                    names_pools=None,
                ),
                CallProbe(
                    function=stack.Group.describe,
                    callee="Group.describe",
                    role="builder",
                    part="",
                    method="",
                    names_pools=None,
                ),
            ]

    with record(target=WithMore()) as recorder:
        group, _ = build()
        stack.Group.of_one(group.entries[0])
        stack.Group.describe(group.entries[0])

    assert arguments(recorder, "Group.of_one#1") == [("entry", {"ref": "PoolEntry#1"}, True)]
    assert recorder.calls[-1].returns == "KV"
    assert recorder.calls[-2].parent == "Group.of_one#1"


def test_tensors_have_owners_from_entries_and_aliases(tiny):
    with record(target=tiny) as recorder:
        build()

    assert [(one.owner, one.name, one.aliases) for one in recorder.tensors] == [
        ("device.KV", "k_buffer[0]", ""),
        ("device.KV", "k_buffer[1]", ""),
        ("host.KV", "kv_buffer", ""),
        ("host.KV", "first_layer", "host.KV.kv_buffer"),
    ]


def test_pool_made_before_the_recording_is_read_when_it_is_seen(tiny):
    pool = pools.DevicePool(8, width=4)
    with record(target=tiny) as recorder:
        stack.build_host(device_pool=pool)

    assert recorder.tensors[0].owner == "device.DevicePool"
    assert callees(recorder) == ["build_host", "HostPool"]


def test_events_are_in_program_order_with_pools_slots_and_labels(tiny):
    with record(target=tiny) as recorder:
        with recorder.step("build"):
            _, controller = build()
        with recorder.step("write"):
            controller.write(torch.arange(2, 6))
            controller.write(torch.tensor([7]))

    moved = {
        "step": "write",
        "direction": "backup",
        "pool": "KV",
        "device_pool": "KV",
        "plane": "kv",
        "device_slots": "2-5",
        "host_slots": "0-3",
        # four rows of 16 float32
        "rows": 4,
        "row_bytes": 64,
        "bytes": 256,
        "backend": "kernel",
        "stream": "default",
    }
    assert recorder.events[:5] == (
        Allocation(step="write", owner="host.KV", pool="KV", need=4, slots="0-3"),
        Transfer(layer=0, **moved),
        Transfer(layer=1, **moved),
        EventRecorded(step="write", name="write.finish#1", stream="write", layer=None),
        EventAwaited(step="write", name="write.finish#1", stream="host"),
    )
    assert recorder.events[8].name == "write.finish#2"


def test_allocator_of_allocators_is_told_by_its_parts(tiny):
    with record(target=tiny) as recorder:
        device_pool = pools.DevicePool(4, width=4)
        left, right = (
            pools.HostPool(device_pool=device_pool),
            pools.HostPool(device_pool=device_pool),
        )
        pair = pools.PairPool(left=left, right=right)
        pair.free(pair.alloc(2))
        pair.alloc(5)

    assert recorder.events == (
        Allocation(step="", owner="host.HostPool#2", pool="HostPool#2", need=2, slots="0-1"),
        Allocation(step="", owner="host.HostPool", pool="HostPool", need=2, slots="0-1"),
        Release(step="", owner="host.HostPool#2", pool="HostPool#2", slots="0-1"),
        Release(step="", owner="host.HostPool", pool="HostPool", slots="0-1"),
        Allocation(step="", owner="host.HostPool#2", pool="HostPool#2", need=5, slots=None),
        Allocation(step="", owner="host.HostPool", pool="HostPool", need=5, slots=None),
    )


def test_allocator_of_allocators_that_refuses_by_itself_is_told(tiny):
    with record(target=tiny) as recorder:
        device_pool = pools.DevicePool(4, width=4)
        host_pool = pools.HostPool(device_pool=device_pool)
        pools.PairPool(left=host_pool, right=host_pool).alloc(1001)

    assert recorder.events == (
        Allocation(step="", owner="host.PairPool", pool="PairPool", need=1001, slots=None),
    )


def test_only_the_outermost_of_nested_waits_is_told(tiny):
    with record(target=tiny) as recorder:
        pools.Stream("load").synchronize()

    assert recorder.events == (EventAwaited(step="", name="stream:load", stream="host"),)


def test_warnings_and_log_records_become_messages_in_order(tiny):
    with warnings.catch_warnings(), record(target=tiny) as recorder:
        warnings.simplefilter("ignore")
        build(options=stack.Options(backend="direct"))

    assert recorder.events == (
        Message(step="", level="warning", text="direct is slow"),
        Message(step="", level="warning", text="switching layout"),
    )


def test_warning_points_where_it_does_without_a_recorder(tiny):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build(options=stack.Options(backend="direct"))
        with record(target=tiny):
            build(options=stack.Options(backend="direct"))

    # Issued with stacklevel=2: the line that called the builder.
    assert [warning.filename for warning in caught] == [__file__] * 2
    assert caught[0].lineno == caught[1].lineno


def test_exception_is_told_by_every_call_it_left_and_by_the_outcome(tiny):
    wanted = pytest.raises(ValueError, match="ratio")
    with wanted, record(target=tiny) as recorder, recorder.step("build"):
        build(options=stack.Options(ratio=0.5))

    failure = Failure(type="ValueError", message="ratio must be at least 1; got 0.5")
    assert recorder.calls[-1].raises == failure
    assert recorder.trace.outcome == Outcome(ok=False, failed_step="build", failure=failure)


def test_exception_that_is_handled_inside_is_no_failed_outcome(tiny):
    with record(target=tiny) as recorder, pytest.raises(ValueError, match="ratio"):
        build(options=stack.Options(ratio=0.5))

    assert recorder.trace.outcome == Outcome(ok=True, failed_step="", failure=None)


def test_outcome_can_be_said(tiny):
    said = Outcome(ok=False, failed_step="load", failure=Failure(type="X", message="y"))
    with record(target=tiny) as recorder:
        build()
        recorder.outcome(said)

    assert recorder.trace.outcome == said


def test_call_that_cannot_bind_is_recorded_with_the_error_it_raises(tiny):
    with record(target=tiny) as recorder, pytest.raises(TypeError, match="wide"):
        stack.build_host(wide=3)

    (call,) = recorder.calls
    assert call.arguments == (Argument(name="wide", value=3, given=True),)
    assert call.raises.type == "TypeError"


def test_scenario_and_digests_are_kept(tiny):
    digests = (
        Digest(step="build", owner="host.KV", pool="KV", sha256="0" * 16),
        RoundTrip(step="load", pool="KV", plane="", equal=True, wrong_slots="", foreign_slots=""),
    )
    with record(target=tiny) as recorder:
        recorder.scenario("one", {"page_size": 64, "shape": (1, 2)})
        for digest in digests:
            recorder.digest(digest)

    assert recorder.digests == digests
    assert recorder.trace.scenario == ScenarioRecord(
        name="one", config={"page_size": 64, "shape": [1, 2]}
    )


def test_inner_step_counts_and_the_outer_one_returns(tiny):
    with record(target=tiny) as recorder, recorder.step("outer"):
        with recorder.step("inner"):
            pools.DevicePool(1, width=1)
        pools.DevicePool(1, width=1)

    assert [call.step for call in recorder.calls] == ["inner", "outer"]


def test_recording_twice_gives_the_same_bytes_and_survives_the_file(tiny):
    texts = []
    for _ in range(2):
        with record(target=tiny) as recorder:
            _, controller = build()
            controller.write(torch.arange(4))
        texts.append(render(recorder.trace))

    assert texts[0] == texts[1]
    assert render(parse(texts[0])) == texts[0]


def test_sites_point_at_the_nearest_line_of_the_target(tiny):
    with record(target=tiny) as recorder:
        _, controller = build()
        controller.write(torch.arange(2))

    sites = recorder.sites
    assert sites.calls["HostPool#1"].file == "tinystack/stack.py"
    assert sites.calls["build_stack#1"].file == "tests/traces/recording/test_recorder.py"
    assert sites.definitions["HostPool"].file == "tinystack/pools.py"
    # The generated constructor of a dataclass is found at its class.
    assert sites.definitions["PoolEntry"].file == "tinystack/stack.py"
    assert {site.file for site in sites.events} == {"tinystack/stack.py"}
    lines = (tiny.root / "tinystack" / "stack.py").read_text().splitlines()
    assert "return HostPool(" in lines[sites.calls["HostPool#1"].line - 1]
    assert "class PoolEntry" in "".join(lines[sites.definitions["PoolEntry"].line - 1 :][:2])
