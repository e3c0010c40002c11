import msgspec
import pytest

from traces.diff import diff
from traces.schema.model import Failure, Outcome
from traces.schema.verdict import Kind, Level

HOST = "MLATokenToKVPoolHost#1"


def pool(records, *tensors, layer_num=2):
    return records.trace(
        records.builder("build_kv_only_stack#1"),
        records.call(HOST, parent="build_kv_only_stack#1", layer_num=layer_num),
        tensors=tensors,
    )


def kv(records, **fields):
    shape = fields.pop("shape", (2, 320, 1, 656))
    return records.tensor("host.KV", "kv_buffer", shape, object=HOST, **fields)


def layers(records, count, shape=(320, 1, 656)):
    return [
        records.tensor("device.KV", f"k_buffer[{layer}]", shape, object=HOST)
        for layer in range(count)
    ]


def wheres(cause):
    return [(one.kind.value, one.where) for one in cause.consequences]


@pytest.mark.parametrize(
    ("fields", "kind", "where"),
    [
        ({"shape": (2, 320, 1, 576)}, Kind.SHAPE_CHANGED, "host.KV.kv_buffer"),
        ({"dtype": "bfloat16"}, Kind.DTYPE_CHANGED, "host.KV.kv_buffer"),
        ({"stride": (4, 3, 2, 1)}, Kind.STRIDE_CHANGED, "host.KV.kv_buffer"),
        ({"bytes": 2}, Kind.BYTES_CHANGED, "host.KV.kv_buffer"),
        ({"layout": "page_first"}, Kind.STRIDE_CHANGED, "host.KV.kv_buffer.layout"),
        ({"pinned": True}, Kind.STRIDE_CHANGED, "host.KV.kv_buffer.pinned"),
        ({"aliases": "host.KV.x"}, Kind.STRIDE_CHANGED, "host.KV.kv_buffer.aliases"),
    ],
)
def test_buffer_that_differs_by_itself_is_a_cause_of_its_class(records, fields, kind, where):
    (cause,) = diff(pool(records, kv(records)), pool(records, kv(records, **fields)))

    assert (cause.kind, cause.level, cause.where) == (kind, Level.BEHAVIOUR, where)
    assert (cause.builder, cause.callee) == ("build_kv_only_stack", "MLATokenToKVPoolHost")
    assert cause.parameter is None


def test_fields_of_one_buffer_are_one_cause(records):
    head = kv(records, shape=(2, 320, 1, 576), bytes=2)

    (cause,) = diff(pool(records, kv(records)), pool(records, head))

    assert cause.kind == Kind.SHAPE_CHANGED
    assert wheres(cause) == [("bytes_changed", "host.KV.kv_buffer")]


def test_more_buffers_of_a_list_are_other_layers(records):
    (cause,) = diff(pool(records, *layers(records, 3)), pool(records, *layers(records, 2)))

    assert (cause.kind, cause.where) == (Kind.LAYERS_CHANGED, "device.KV.k_buffer[*]")
    assert (cause.before, cause.after) == (3, 2)


def test_layer_axis_is_known_by_the_number_of_layers(records):
    base = pool(records, kv(records, shape=(3, 320, 1, 656), layer_num=3), layer_num=3)
    head = pool(records, kv(records, shape=(2, 320, 1, 656), layer_num=2), layer_num=2)

    (cause,) = diff(base, head)

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_CHANGED, "layer_num")
    assert wheres(cause) == [("layers_changed", "host.KV.kv_buffer")]


def test_other_axis_is_no_layer_axis(records):
    base = pool(records, kv(records, shape=(3, 320, 1, 656), layer_num=3), layer_num=3)
    head = pool(records, kv(records, shape=(3, 320, 1, 576), layer_num=2), layer_num=2)

    (cause,) = diff(base, head)

    assert wheres(cause) == [("shape_changed", "host.KV.kv_buffer")]


def test_all_layers_that_differ_are_counted_together(records):
    base = pool(records, *layers(records, 3))
    head = pool(records, *layers(records, 3, shape=(320, 1, 576)))

    (cause,) = diff(base, head)

    assert (cause.kind, cause.count) == (Kind.SHAPE_CHANGED, 3)


def test_owner_without_buffers_is_a_removed_pool(records):
    (cause,) = diff(pool(records, kv(records), *layers(records, 2)), pool(records, kv(records)))

    assert (cause.kind, cause.where) == (Kind.POOL_REMOVED, "device.KV")
    assert (cause.before, cause.after) == ({"buffers": 2, "bytes": 2}, None)


def test_owner_with_its_first_buffers_is_an_added_pool(records):
    (cause,) = diff(pool(records, kv(records)), pool(records, kv(records), *layers(records, 2)))

    assert (cause.kind, cause.where) == (Kind.POOL_ADDED, "device.KV")


def test_single_buffer_that_is_lost_changed_its_shape_to_nothing(records):
    scale = records.tensor("host.KV", "scale", (8,), object=HOST)

    (cause,) = diff(pool(records, kv(records), scale), pool(records, kv(records)))

    assert (cause.kind, cause.where) == (Kind.SHAPE_CHANGED, "host.KV.scale")
    assert (cause.before, cause.after) == ([8], None)


def test_pool_that_lost_its_entry_is_removed_and_not_new_under_another_name(records):
    lost = records.tensor("host.MLATokenToKVPoolHost", "kv_buffer", (2, 320, 1, 656), object=HOST)

    (cause,) = diff(pool(records, kv(records)), pool(records, lost))

    assert (cause.kind, cause.where, cause.consequences) == (Kind.POOL_REMOVED, "host.KV", ())


def test_two_classes_that_differ_by_themselves_are_two_causes(records):
    def pools(kv_shape, index_shape):
        return records.trace(
            records.call(HOST, dim=1),
            records.call("NSAIndexerPoolHost#1", dim=1),
            tensors=(
                kv(records, shape=kv_shape),
                records.tensor("host.INDEXER", "k", index_shape, object="NSAIndexerPoolHost#1"),
            ),
        )

    causes = diff(pools((2,), (4,)), pools((3,), (5,)))

    assert [cause.callee for cause in causes] == ["MLATokenToKVPoolHost", "NSAIndexerPoolHost"]


def test_buffers_missing_after_an_exception_are_consequences(records):
    base = pool(records, kv(records))
    failure = Failure(type="RuntimeError", message="boom")
    failed = Outcome(ok=False, failed_step="", failure=failure)
    head = msgspec.structs.replace(pool(records), outcome=failed)

    (cause,) = diff(base, head)

    assert cause.kind == Kind.OUTCOME_CHANGED
    assert wheres(cause) == [("pool_removed", "host.KV")]


def test_order_of_the_buffers_is_only_format(records):
    first, second = layers(records, 2)

    (cause,) = diff(pool(records, first, second), pool(records, second, first))

    assert cause.level == Level.FORMAT
