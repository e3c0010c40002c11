"""Names that a target changed from release to release are one difference, told once."""

from traces.diff import compare_sides
from traces.diff.aliases import NO_ALIASES, Aliases
from traces.schema.model import Recording
from traces.schema.pools import ByteRange, ExportedBuffer, PoolAnswer
from traces.schema.verdict import Kind, Level

RENAMED = Aliases(
    callees={"NSAIndexerPoolHost": "DSAIndexerPoolHost", "MLATokenToKVPoolHost": "MLAHost"},
    parameters={"*.override_kv_cache_dim": "row_width", "PoolEntry.host_pool": "host"},
    buffers={"kv_buffer": "rows"},
)


def newest(nsa, *edits):
    recording, _ = RENAMED.applied(nsa(*edits))
    return recording


def test_every_trace_of_an_old_name_is_brought_to_the_newest(nsa):
    recording, used = RENAMED.applied(nsa())
    calls = {call.callee: call for call in recording.trace.calls}

    assert {"DSAIndexerPoolHost", "MLAHost"} <= calls.keys()
    assert calls["MLAHost"].call == "MLAHost#1"
    assert calls["MLAHost"].returns == {"ref": "MLAHost#1"}
    assert calls["DSAIndexerPoolHost"].arguments[1].value == {"ref": "MLAHost#1"}
    assert [item.name for item in calls["MLAHost"].arguments] == [
        "layout",
        "row_width",
        "device_pool",
        "page_size",
    ]
    host = next(one for one in recording.trace.tensors if one.owner == "host.KV")
    assert (host.object, host.name) == ("MLAHost#1", "rows")
    assert recording.sites.calls["MLAHost#1"].file == "assembler/stacks.py"
    assert recording.sites.definitions["MLAHost"].line == 12
    assert ("MLATokenToKVPoolHost", "MLAHost") in used
    assert ("PoolEntry.host_pool", "PoolEntry.host") in used


def test_rename_alone_changes_no_behaviour(nsa):
    causes = compare_sides({"nsa": nsa()}, {"nsa": newest(nsa)}, aliases=RENAMED)

    assert {(cause.kind, cause.level) for cause in causes} == {(Kind.RENAMED, Level.INTERFACE)}
    assert ("NSAIndexerPoolHost", "DSAIndexerPoolHost") in {
        (cause.before, cause.after) for cause in causes
    }


def test_without_the_table_the_same_rename_is_more_than_a_rename(nsa):
    """Control: two classes, two parameters and a buffer at once are more than it can guess."""
    causes = compare_sides({"nsa": nsa()}, {"nsa": newest(nsa)}, aliases=NO_ALIASES)

    assert {cause.level for cause in causes} > {Level.INTERFACE}


def test_fault_behind_a_rename_is_named_by_the_newest_name(nsa):
    head = newest(nsa, "drop override in attach")

    cause, *others = compare_sides({"nsa": nsa()}, {"nsa": head}, aliases=RENAMED)

    assert (cause.kind, cause.parameter) == (Kind.ARGUMENT_DROPPED, "row_width")
    assert (cause.before, cause.after, cause.callee) == (656, None, "MLAHost")
    assert {other.kind for other in others} == {Kind.RENAMED}


def test_going_back_a_release_reads_the_rename_backwards(nsa):
    causes = compare_sides({"nsa": newest(nsa)}, {"nsa": nsa()}, aliases=RENAMED)

    assert ("DSAIndexerPoolHost", "NSAIndexerPoolHost") in {
        (cause.before, cause.after) for cause in causes
    }


def test_planes_that_pools_answer_have_their_newest_names(records):
    exported = ExportedBuffer(
        pool="KV",
        plane="kv_buffer",
        layer=0,
        layers=1,
        offset=0,
        bytes=8,
        item_bytes=8,
        held_bytes=8,
        page_bytes=8,
    )
    answer = PoolAnswer(
        step="pools",
        holder="kv_cache",
        method="get_kv_buffer_infos",
        buffers=(exported,),
        views=(ByteRange(buffer="KV.kv_buffer[0]", first=0, bytes=8),),
        values=None,
        reason="",
    )
    recording, _ = RENAMED.applied(Recording(trace=records.trace(digests=(answer,)), sites=None))
    (found,) = recording.trace.digests

    assert (found.buffers[0].plane, found.views[0].buffer) == ("rows", "KV.rows[0]")
    assert found.method == "get_kv_buffer_infos"
