from traces.diff import diff
from traces.schema.verdict import Kind, Level


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
        tensors=(records.tensor(f"device.{name}", "kv_buffer", shape, object=f"{name}#1"),),
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
