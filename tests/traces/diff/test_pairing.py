"""Refactors that change no behaviour, each beside a control that does."""

import msgspec

from traces.diff import diff
from traces.schema.model import Location, Sites
from traces.schema.verdict import Kind, Level


def stack(records, *, layer="", callers=None, order=("kv", "swa"), **edits):
    """A two-pool stack; ``layer`` is a builder between the stack and its host pools."""
    callers = callers or {"kv": "build_kv_host_pool", "swa": "build_kv_host_pool"}
    calls = [
        records.call("MHATokenToKVPool#1", size=512),
        records.call("MHATokenToKVPool#2", size=128),
        records.builder("build_hybrid_swa_stack#1", page_size=64),
    ]
    parent = "build_hybrid_swa_stack#1"
    if layer:
        calls.append(records.builder(f"{layer}#1", parent=parent))
        parent = f"{layer}#1"
    device = {"kv": {"ref": "MHATokenToKVPool#1"}, "swa": {"ref": "MHATokenToKVPool#2"}}
    host = {}
    for ordinal, name in enumerate(order, start=1):
        caller = callers[name]
        builder = f"{caller}#{ordinal}" if caller else parent
        if caller:
            calls.append(records.builder(builder, parent=parent, kv_pool=device[name]))
        label = f"MHATokenToKVPoolHost#{ordinal}"
        pool = records.call(label, parent=builder, device_pool=device[name], page_size=64)
        calls.append(edits.get(name, lambda call: call)(pool))
        host[name] = {"ref": label}
    for ordinal, name in enumerate(("kv", "swa"), start=1):
        entry = records.call(
            f"PoolEntry#{ordinal}",
            parent="build_hybrid_swa_stack#1",
            name=name,
            host_pool=host[name],
            device_pool=device[name],
        )
        calls.append(entry)
    return records.trace(*calls)


def with_page_size(value):
    def edit(call):
        first, _ = call.arguments
        changed = msgspec.structs.replace(call.arguments[1], value=value)
        return msgspec.structs.replace(call, arguments=(first, changed))

    return edit


def levels(causes):
    return {cause.level for cause in causes}


def test_layer_in_between_is_interface_only(records):
    (cause,) = diff(stack(records), stack(records, layer="build_pools"))

    assert (cause.kind, cause.level) == (Kind.CALL_ADDED, Level.INTERFACE)
    assert cause.callee == "build_pools"


def test_layer_in_between_that_loses_a_value_is_behaviour(records):
    causes = diff(stack(records), stack(records, layer="build_pools", swa=with_page_size(1)))

    assert causes[0].level == Level.BEHAVIOUR
    assert (causes[0].callee, causes[0].parameter) == ("MHATokenToKVPoolHost", "page_size")
    assert (causes[0].before, causes[0].after) == (64, 1)


def test_helper_made_part_of_its_caller_is_interface_only(records):
    causes = diff(stack(records), stack(records, callers={"kv": "", "swa": ""}))

    assert levels(causes) == {Level.INTERFACE}
    assert {cause.kind for cause in causes} == {Kind.CALL_REMOVED}


def test_helper_extracted_is_interface_only(records):
    causes = diff(stack(records, callers={"kv": "", "swa": ""}), stack(records))

    assert levels(causes) == {Level.INTERFACE}
    assert {cause.kind for cause in causes} == {Kind.CALL_ADDED}


def test_constructor_moved_to_another_builder_is_interface_only(records):
    def moved(parent):
        return records.trace(
            records.builder("build_a_stack#1"),
            records.builder("build_b#1", parent="build_a_stack#1"),
            records.call("HostPoolGroup#1", parent=parent),
        )

    (cause,) = diff(moved("build_a_stack#1"), moved("build_b#1"))

    assert (cause.kind, cause.level) == (Kind.CALL_REORDERED, Level.INTERFACE)
    assert (cause.before, cause.after) == ("build_a_stack", "build_b")


def test_pools_built_in_another_order_are_interface_only(records):
    causes = diff(stack(records), stack(records, order=("swa", "kv")))

    assert levels(causes) == {Level.INTERFACE}
    assert {cause.kind for cause in causes} == {Kind.CALL_REORDERED}


def test_pools_built_in_another_order_with_another_value_are_behaviour(records):
    causes = diff(stack(records), stack(records, order=("swa", "kv"), swa=with_page_size(1)))

    assert causes[0].level == Level.BEHAVIOUR


def test_device_pools_swapped_between_two_host_pools_are_not_an_order(records):
    base = stack(records)
    crossed = {
        "MHATokenToKVPool#1": "MHATokenToKVPool#2",
        "MHATokenToKVPool#2": "MHATokenToKVPool#1",
    }

    def swapped(call):
        if call.callee not in ("build_kv_host_pool", "MHATokenToKVPoolHost"):
            return call
        first, *rest = call.arguments
        device = {"ref": crossed[first.value["ref"]]}
        return msgspec.structs.replace(
            call, arguments=(msgspec.structs.replace(first, value=device), *rest)
        )

    head = msgspec.structs.replace(base, calls=tuple(swapped(call) for call in base.calls))
    (cause,) = diff(base, head)

    assert (cause.kind, cause.level) == (Kind.ARGUMENT_CHANGED, Level.BEHAVIOUR)
    assert (cause.callee, cause.parameter) == ("MHATokenToKVPoolHost", "kv_pool")
    assert cause.builder == "build_hybrid_swa_stack"


def test_object_that_shifts_all_ordinals_is_only_itself_a_difference(records):
    base = stack(records)
    extra = records.call("MHATokenToKVPool#1", size=9)
    text = msgspec.json.encode(base).decode()
    text = text.replace("TokenToKVPool#2", "TokenToKVPool#3").replace(
        "TokenToKVPool#1", "TokenToKVPool#2"
    )
    shifted = msgspec.json.decode(text, type=type(base))
    head = msgspec.structs.replace(shifted, calls=(extra, *shifted.calls))

    (cause,) = diff(base, head)

    assert (cause.kind, cause.callee) == (Kind.CALL_ADDED, "MHATokenToKVPool")
    assert cause.consequences == ()


def test_operations_in_another_order_are_behaviour(records):
    write, load = records.operation("Controller.write#1"), records.operation("Controller.load#1")

    (cause,) = diff(records.trace(write, load), records.trace(load, write))

    assert (cause.kind, cause.level) == (Kind.CALL_REORDERED, Level.BEHAVIOUR)


def test_explicit_default_is_interface_only(nsa):
    (cause,) = diff(nsa(), nsa("explicit default"))

    assert (cause.kind, cause.level) == (Kind.ARGUMENT_ADDED, Level.INTERFACE)
    assert cause.parameter == "model_name"
    assert cause.before is cause.after is None


def test_dropped_default_is_interface_only(nsa):
    (cause,) = diff(nsa(), nsa("drop layout"))

    assert (cause.kind, cause.level) == (Kind.ARGUMENT_DROPPED, Level.INTERFACE)
    assert (cause.before, cause.after) == ("layer_first", "layer_first")
    assert cause.headline().startswith('argument_dropped: layout still "layer_first", in ')


def test_dropped_default_never_explains_behaviour(nsa):
    first, second = diff(nsa(), nsa("drop layout", "drop wait in read"))

    assert (first.kind, first.level) == (Kind.ORDER_EDGE_REMOVED, Level.BEHAVIOUR)
    assert (second.kind, second.level) == (Kind.ARGUMENT_DROPPED, Level.INTERFACE)
    assert second.consequences == ()


def test_keyword_order_is_only_format(nsa):
    (cause,) = diff(nsa(), nsa("keyword order"))

    assert (cause.kind, cause.level) == (Kind.FORMAT_CHANGED, Level.FORMAT)


def test_positional_instead_of_keyword_gives_the_same_trace(nsa):
    """Arguments are bound by name before they are recorded; lines are never compared."""
    base = nsa()
    assert base.sites is not None
    moved = {label: Location(file="assembler/other.py", line=1) for label in base.sites.calls}
    sites = Sites(calls=moved, definitions={}, events=base.sites.events)

    assert diff(base, msgspec.structs.replace(base, sites=sites)) == ()


def test_extra_layer_in_a_whole_stack_disturbs_nothing(nsa):
    (cause,) = diff(nsa(), nsa("extra layer"))

    assert (cause.kind, cause.level) == (Kind.CALL_ADDED, Level.INTERFACE)


def test_extra_layer_that_drops_a_keyword_has_both_causes(nsa):
    first, second = diff(nsa(), nsa("extra layer", "drop override in attach"))

    assert (first.kind, first.parameter) == (Kind.ARGUMENT_DROPPED, "override_kv_cache_dim")
    assert (second.kind, second.level) == (Kind.CALL_ADDED, Level.INTERFACE)


def test_builder_with_a_new_name_is_one_interface_difference(nsa):
    (cause,) = diff(nsa(), nsa("rename build_kv_host_pool"))

    assert (cause.kind, cause.level) == (Kind.RENAMED, Level.INTERFACE)
    assert (cause.before, cause.after) == ("build_kv_host_pool", "build_anchor_host_pool")


def test_builder_with_a_new_name_that_loses_a_keyword_has_both_causes(nsa):
    first, second = diff(nsa(), nsa("rename build_kv_host_pool", "drop override in stack"))

    assert (first.kind, first.level) == (Kind.ARGUMENT_DROPPED, Level.BEHAVIOUR)
    assert first.parameter == "override_kv_cache_dim"
    assert (second.kind, second.level) == (Kind.RENAMED, Level.INTERFACE)


def pools(records, name, shape):
    return records.trace(
        records.call(f"{name}#1", size=512),
        records.call("Host#1", device_pool={"ref": f"{name}#1"}),
        tensors=(
            records.tensor(
                f"device.{name}", "kv_buffer", shape, object=f"{name}#1", is_named=False
            ),
        ),
    )


def test_pool_class_with_a_new_name_and_equal_records_is_interface(records):
    (cause,) = diff(pools(records, "OldPool", (4, 2)), pools(records, "NewPool", (4, 2)))

    assert (cause.kind, cause.level) == (Kind.RENAMED, Level.INTERFACE)


def test_pool_class_with_a_new_name_and_other_buffers_is_behaviour(records):
    causes = diff(pools(records, "OldPool", (4, 2)), pools(records, "NewPool", (4, 3)))

    assert [cause.kind for cause in causes] == [Kind.SHAPE_CHANGED, Kind.RENAMED]
    assert causes[0].level == Level.BEHAVIOUR


def test_class_with_other_parameters_is_another_class(records):
    base = records.trace(records.call("MLAHost#1", size=1, dim=656))
    head = records.trace(records.call("MHAHost#1", size=1))

    (cause,) = diff(base, head)

    assert (cause.kind, cause.level) == (Kind.CALL_REMOVED, Level.BEHAVIOUR)
    assert [one.kind for one in cause.consequences] == [Kind.CALL_ADDED]


def test_parameter_with_a_new_name_over_the_whole_chain_is_one_cause(records):
    """sglang 0.5.20 to 0.5.21: transfer_layer_num became transfer_layer_id_max."""

    def stack(name, value):
        return records.trace(
            records.builder("build_kv_only_stack#1", **{name: value}),
            records.call("Controller#1", parent="build_kv_only_stack#1", **{name: value}),
        )

    (cause,) = diff(stack("transfer_layer_num", 61), stack("transfer_layer_id_max", 61))

    assert (cause.kind, cause.level, cause.count) == (Kind.RENAMED, Level.INTERFACE, 2)
    assert (cause.before, cause.after) == ("transfer_layer_num", "transfer_layer_id_max")


def test_parameter_with_another_name_and_value_is_no_rename(records):
    base = records.trace(records.call("Controller#1", pp_rank=0))
    head = records.trace(records.call("Controller#1", pp_group={"group": "pp", "ranks": [0]}))

    assert [cause.kind for cause in diff(base, head)] == [
        Kind.PARAMETER_ADDED,
        Kind.PARAMETER_REMOVED,
    ]
