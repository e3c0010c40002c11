"""Bytes of transfers against rows, and every layer once."""

import pytest

from traces.audit.conservation import byte_mismatches
from traces.schema.model import Failure, Outcome

DEVICE_LAYERS = (0, 1)


def wheres(recording):
    return [(str(cause.kind), cause.where) for cause in byte_mismatches({"a": recording})]


@pytest.fixture
def moved(made):
    """Two layers of 656-byte rows that are backed up, with changes to the host or the events."""

    def make(*events, host=656, outcome=None):
        tensors = [made.tensor(name=f"kv_buffer[{layer}]", layer=layer) for layer in DEVICE_LAYERS]
        tensors.append(made.tensor("host.KV", "kv_buffer", row_bytes=host, object="Host#1"))
        return made.recording("a", tensors=tensors, events=events, outcome=outcome)

    return make


def test_rows_times_bytes_are_conserved(made, moved):
    assert wheres(moved(made.transfer(layer=0), made.transfer(layer=1))) == []


def test_a_transfer_of_narrower_rows_is_a_mismatch(made, moved):
    recording = moved(
        made.transfer(layer=0, bytes=128 * 576), made.transfer(layer=1, bytes=128 * 576)
    )
    cause = byte_mismatches({"a": recording})[0]
    assert cause.where == "build_kv_only_stack: transfers of KV.kv_buffer"
    assert (cause.before, cause.after) == (128 * 656, 128 * 576)


def test_a_transfer_of_rows_of_no_known_buffer_is_not_judged(made, moved):
    """Control: the same bytes as above, of a plane that the device's buffers do not have."""
    narrow = [made.transfer(layer=layer, plane="x", bytes=128 * 576) for layer in DEVICE_LAYERS]
    assert wheres(moved(*narrow)) == []


def test_a_host_of_narrower_rows_is_a_mismatch_before_anything_moves(moved):
    failure = Failure(type="RuntimeError", message="The size of tensor a (576) must match")
    outcome = Outcome(ok=False, failed_step="backup", failure=failure)
    [cause] = byte_mismatches({"a": moved(host=576, outcome=outcome)})
    assert cause.where == "build_kv_only_stack: host.KV, rows of device.KV.kv_buffer"
    assert (cause.before, cause.after) == (656, 576)
    assert wheres(moved(outcome=outcome)) == []


def test_a_host_whose_rows_are_not_known_is_not_judged(moved):
    assert wheres(moved(host=0)) == []


def test_a_plane_that_another_pool_mirrors_needs_no_rows_here(made, moved):
    index = made.tensor(name="index_k[0]", shape=(9, 8448), planes=("index_k",))
    recording = moved(made.transfer(layer=0), made.transfer(layer=1))
    tensors = (*recording.trace.tensors, index)
    other = made.transfer(pool="INDEXER", device_pool="KV", plane="index_k", bytes=2 * 8448, rows=2)
    events = (*recording.trace.events, other)
    assert wheres(made.recording("a", tensors=tensors, events=events)) == []


def test_a_moved_plane_without_rows_of_its_width_is_a_mismatch_beside_one_that_fits(made, moved):
    """Control: the plane above, moved by this pool."""
    index = made.tensor(name="index_k[0]", shape=(9, 8448), planes=("index_k",))
    recording = moved(made.transfer(layer=0), made.transfer(layer=1))
    own = made.transfer(plane="index_k", bytes=2 * 8448, rows=2)
    made_here = made.recording(
        "a", tensors=(*recording.trace.tensors, index), events=(*recording.trace.events, own)
    )
    assert wheres(made_here) == [
        ("row_bytes_mismatch", "build_kv_only_stack: host.KV, rows of device.KV.index_k")
    ]


def test_pages_of_index_keys_are_rows(made):
    """A page of 64 index keys is one row of 8448 bytes; the slots are those of the tokens."""
    index = made.tensor("device.INDEXER", "index_k[0]", (9, 8448), planes=("index_k",))
    right = made.transfer(pool="INDEXER", plane="index_k", rows=2, bytes=2 * 8448)
    assert wheres(made.recording("a", tensors=[index], events=[right])) == []
    wrong = made.transfer(pool="INDEXER", plane="index_k", rows=2, bytes=2 * 8192)
    assert wheres(made.recording("a", tensors=[index], events=[wrong])) == [
        ("row_bytes_mismatch", "build_kv_only_stack: transfers of INDEXER.index_k")
    ]


def test_states_of_all_layers_may_lie_in_one_buffer(made):
    states = made.tensor(
        "device.MAMBA", "temporal", (2, 6, 4, 8), planes=("temporal",), layer=None, row_bytes=32
    )
    events = [
        made.transfer(pool="MAMBA", plane="temporal", layer=layer, rows=2, bytes=2 * 32)
        for layer in (0, 1)
    ]
    assert wheres(made.recording("a", tensors=[states], events=events)) == []
    for lost in (events[1:], events[:1]):
        assert wheres(made.recording("a", tensors=[states], events=lost)) == [
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
