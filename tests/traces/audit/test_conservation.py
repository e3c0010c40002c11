"""Bytes of transfers against rows, and every layer once."""

import msgspec
import pytest

from traces.audit.conservation import byte_mismatches, count_slots
from traces.schema.model import Failure, Outcome

DEVICE_LAYERS = (0, 1)


def wheres(recording):
    return [(str(cause.kind), cause.where) for cause in byte_mismatches({"a": recording})]


@pytest.fixture
def moved(made):
    """Two layers of 656-byte rows that are backed up, with changes to the host or the events."""

    def make(*events, host=(2, 1344, 1, 656), config=None, outcome=None, name="kv_buffer"):
        tensors = [made.tensor(name=f"kv_buffer[{layer}]") for layer in DEVICE_LAYERS]
        tensors.append(made.tensor(owner="host.KV", name=name, shape=host, object="Host#1"))
        return made.recording("a", tensors=tensors, events=events, config=config, outcome=outcome)

    return make


def test_runs_of_slots_are_counted():
    assert count_slots("") == 0
    assert count_slots("7") == 1
    assert count_slots("64-127,192") == 65


def test_rows_times_bytes_are_conserved(made, moved):
    assert wheres(moved(made.transfer(layer=0), made.transfer(layer=1))) == []


def test_a_transfer_of_narrower_rows_is_a_mismatch(made, moved):
    recording = moved(
        made.transfer(layer=0, bytes=128 * 576), made.transfer(layer=1, bytes=128 * 576)
    )
    cause = byte_mismatches({"a": recording})[0]
    assert cause.where == "build_kv_only_stack: transfers of KV.kv"
    assert (cause.before, cause.after) == (128 * 656, 128 * 576)


@pytest.mark.parametrize(("layout", "count"), [("page_first_direct", 0), ("layer_first", 1)])
def test_slots_may_be_pages_where_the_host_keeps_pages_in_one_piece(made, layout, count):
    """Two pages of 32 rows: the last row is 95 of 576."""
    device = made.tensor(name="kv_buffer[0]", shape=(576, 1, 656))
    paged = made.transfer(device_slots="1-2", bytes=2 * 32 * 656)
    recording = made.recording(
        "a", tensors=[device], events=[paged], config={"layout": layout, "page_size": 16}
    )
    assert len(wheres(recording)) == count


def test_pages_beyond_the_buffer_are_none(made):
    device = made.tensor(name="kv_buffer[0]", shape=(576, 1, 656))
    paged = made.transfer(device_slots="100-101", bytes=2 * 32 * 656)
    config = {"layout": "page_first_direct", "page_size": 16}
    recording = made.recording("a", tensors=[device], events=[paged], config=config)
    assert len(wheres(recording)) == 1


def test_a_host_of_narrower_rows_is_a_mismatch_before_anything_moves(moved):
    failure = Failure(type="RuntimeError", message="The size of tensor a (576) must match")
    outcome = Outcome(ok=False, failed_step="backup", failure=failure)
    narrow = moved(host=(2, 1344, 1, 576), outcome=outcome)
    [cause] = byte_mismatches({"a": narrow})
    assert cause.where == "build_kv_only_stack: host.KV, rows of device.KV.kv"
    assert (cause.before, cause.after) == (656, 576)
    assert wheres(moved(host=(2, 1344, 1, 656), outcome=outcome)) == []


@pytest.mark.parametrize(
    "host", [(1344, 2, 1, 656), (21, 2, 64, 1, 656)], ids=["page_first", "page_first_direct"]
)
def test_rows_are_found_in_every_layout(made, moved, host):
    assert wheres(moved(made.transfer(layer=0), made.transfer(layer=1), host=host)) == []


def test_a_layout_that_splits_rows_by_head_has_no_row_to_look_for(moved):
    assert wheres(moved(host=(21, 1, 64, 2, 82), config={"layout": "page_head"})) == []
    assert wheres(moved(host=(21, 1, 64, 2, 82), config={"layout": "layer_first"})) != []


def test_device_buffers_that_a_host_pool_refers_to_are_not_its_rows(made, moved):
    recording = moved(host=(2, 1344, 1, 576))
    own = made.tensor(owner="host.KV", name="device_pool.kv_buffer[0]", aliases="device.KV.x")
    tensors = (*recording.trace.tensors, own)
    recording = msgspec.structs.replace(
        recording, trace=msgspec.structs.replace(recording.trace, tensors=tensors)
    )
    assert len(wheres(recording)) == 1


def test_tokens_of_a_paged_row_count_by_the_page(made):
    """A page of 64 index keys is one row of 8448 bytes; the slots are those of the tokens."""
    index = made.tensor(name="index_k_with_scale_buffer[0]", shape=(9, 8448))
    right = made.transfer(pool="INDEXER", plane="index_k", bytes=2 * 8448)
    assert wheres(made.recording("a", tensors=[index], events=[right])) == []
    wrong = made.transfer(pool="INDEXER", plane="index_k", bytes=2 * 8192)
    assert wheres(made.recording("a", tensors=[index], events=[wrong])) == [
        ("row_bytes_mismatch", "build_kv_only_stack: transfers of INDEXER.index_k")
    ]


def test_states_of_all_layers_may_lie_in_one_buffer(made):
    states = made.tensor(owner="device.MAMBA", name="temporal", shape=(2, 6, 4, 8))
    events = [
        made.transfer(pool="MAMBA", plane="temporal", layer=layer, device_slots="1-2",
                      host_slots="0-1", bytes=2 * 32)
        for layer in (0, 1)
    ]  # fmt: skip
    assert wheres(made.recording("a", tensors=[states], events=events)) == []
    assert wheres(made.recording("a", tensors=[states], events=events[1:])) == [
        ("layers_changed", "build_kv_only_stack: backup MAMBA.temporal")
    ]


def test_a_layer_that_is_moved_twice_is_told(made, moved):
    twice = moved(made.transfer(layer=0), made.transfer(layer=0), made.transfer(layer=1))
    [cause] = byte_mismatches({"a": twice})
    assert (str(cause.kind), cause.before, cause.after) == ("layers_changed", [0, 1], [0, 0, 1])


def test_a_layer_that_is_missing_is_told(made, moved):
    backup = (made.transfer(layer=0), made.transfer(layer=1))
    complete = moved(*backup, made.transfer("load", layer=0), made.transfer("load", layer=1))
    assert wheres(complete) == []
    assert wheres(moved(*backup, made.transfer("load", layer=0))) == [
        ("layers_changed", "build_kv_only_stack: load KV.kv_buffer")
    ]


def test_a_step_that_was_cut_short_is_not_judged_by_its_layers(made, moved):
    failure = Failure(type="RuntimeError", message="no")
    outcome = Outcome(ok=False, failed_step="backup", failure=failure)
    assert wheres(moved(made.transfer(layer=0), outcome=outcome)) == []
