"""What pools tell others about their memory is compared with that memory."""

import msgspec
import pytest

from traces.audit.exports import mismatched_buffers, mismatched_pages, mismatched_slices
from traces.audit.readiness import unready_reads
from traces.schema.pools import ExportedBuffer, PageAccess, PoolAccessor, PoolAnswer, RankSlices


def exported(plane="k", layer=0, **changes):
    """A whole layer of ten pages of 96 bytes, one of two layers."""
    fields = {"offset": 0, "bytes": 960, "item_bytes": 96, "held_bytes": 960, "page_bytes": 96}
    known = {"pool": "KV", "plane": plane, "layer": layer, "layers": 2}
    return ExportedBuffer(**{**known, **fields, **changes})


WHOLE = (exported("k", 0), exported("k", 1), exported("v", 0), exported("v", 1))


def answer(*buffers, holder="kv_cache"):
    return PoolAnswer(
        step="pools",
        holder=holder,
        method="get_buf_infos",
        buffers=buffers,
        views=(),
        values=None,
        reason="",
    )


def accessor(method="get_kv_buffer", planes=("KV.k", "KV.v"), **changes):
    record = PoolAccessor(
        step="reload",
        holder="kv_cache",
        method=method,
        planes=planes,
        layers="0-1",
        stream=f"read.{method}",
        read=False,
        waited=True,
        reason="",
    )
    return msgspec.structs.replace(record, **changes)


def page(use="read", **changes):
    record = PageAccess(
        step="pools",
        holder="host.KV",
        method=f"{use}_page",
        use=use,
        pages=6,
        page_bytes=64,
        first=(),
        order="aa",
        missing_bytes=0,
        foreign_bytes=0,
        shared_bytes=0,
        reason="",
    )
    return msgspec.structs.replace(record, **changes)


def slices(**changes):
    """Slices from 2 ranks to 16, each of which gets the one head that it holds."""
    fields = {"sources": 2, "targets": 16, "items": 1, "missing": 0, "wrong": 0, "ranks": ""}
    return RankSlices(**{**fields, **changes})


def complaints(made, rule, *digests):
    recording = made.recording("a", digests=digests)
    return [(cause.where, cause.before, cause.after) for cause in rule({"a": recording})]


def test_whole_layers_in_the_order_of_the_accessors_are_right(made):
    assert complaints(made, mismatched_buffers, answer(*WHOLE), accessor()) == []


@pytest.mark.parametrize(
    ("wrong", "rule", "expected", "got"),
    [
        (exported("v", 1, item_bytes=6), "an item of KV.v must be a page", 96, 6),
        (exported("v", 1, bytes=961), "KV.v must end with its buffer", 960, 961),
        (
            exported("v", 1, bytes=864),
            "KV.v must be whole",
            960,
            {"offset": 0, "bytes": 864},
        ),
        (
            exported("v", 1, offset=96, bytes=864, held_bytes=864),
            "KV.v must be whole",
            960,
            {"offset": 96, "bytes": 864},
        ),
    ],
)
def test_a_piece_that_is_not_its_layer_is_found(made, wrong, rule, expected, got):
    found = complaints(made, mismatched_buffers, answer(*WHOLE[:3], wrong))
    assert found == [(f"kv_cache.get_buf_infos: {rule}", expected, got)]


def test_a_pointer_to_other_memory_is_found(made):
    other = exported("", None, pool="", layers=0, held_bytes=0, page_bytes=0)
    assert complaints(made, mismatched_buffers, answer(*WHOLE, other)) == [
        (
            "kv_cache.get_buf_infos: a pointer must be in a pool's buffer",
            "a known buffer",
            "other memory",
        )
    ]


def test_memory_without_slots_is_only_held_against_its_end(made):
    table = exported("requests.table", None, pool="", layers=0, offset=8, bytes=100, page_bytes=0)
    assert complaints(made, mismatched_buffers, answer(*WHOLE, table)) == []


def test_values_before_keys_are_found_where_an_accessor_says_so(made):
    swapped = answer(*WHOLE[2:], *WHOLE[:2])
    rule = "kv_cache.get_buf_infos: KV.k must come before KV.v"
    assert complaints(made, mismatched_buffers, swapped, accessor()) == [
        (rule, ["KV.k", "KV.v"], ["KV.v", "KV.k"])
    ]
    assert complaints(made, mismatched_buffers, swapped) == []


def test_planes_of_two_pools_have_no_order_of_their_own(made):
    windows = [msgspec.structs.replace(one, pool="SWA") for one in WHOLE]
    crossed = msgspec.structs.replace(accessor(), planes=("SWA.v", "KV.k"))
    assert complaints(made, mismatched_buffers, answer(*WHOLE, *windows), crossed) == []


def test_a_layer_that_is_missing_or_doubled_is_found(made):
    doubled = answer(WHOLE[0], WHOLE[0], *WHOLE[2:])
    assert complaints(made, mismatched_buffers, doubled) == [
        ("kv_cache.get_buf_infos: KV.k must be given out once", 1, 2),
        ("kv_cache.get_buf_infos: every layer of KV.k must be given out", [0, 1], [0]),
    ]


def test_layers_that_two_methods_share_are_complete(made):
    rest = msgspec.structs.replace(answer(WHOLE[1], WHOLE[3]), method="get_dense_buf_infos")
    assert complaints(made, mismatched_buffers, answer(WHOLE[0], WHOLE[2]), rest) == []


def test_layers_that_two_holders_share_are_complete_where_one_has_just_the_rest(made):
    """The state of a rank is its dense layers; its sparse ones are told by the pool."""
    dense = answer(WHOLE[0], WHOLE[2], holder="disaggregation")
    sparse, whole = answer(WHOLE[1], WHOLE[3]), answer(*WHOLE)
    rule = "disaggregation.get_buf_infos: every layer of KV.k must be given out"

    assert complaints(made, mismatched_buffers, sparse, dense) == []
    assert complaints(made, mismatched_buffers, whole, dense)[0] == (rule, [0, 1], [0])


def test_what_is_forwarded_is_told_of_the_pool_that_answers(made):
    wrong = (*WHOLE[:3], exported("v", 1, item_bytes=6))
    inner, outer = answer(*wrong, holder="kv_cache.full"), answer(*wrong)
    assert [where for where, *_ in complaints(made, mismatched_buffers, inner, outer)] == [
        "kv_cache.full.get_buf_infos: an item of KV.v must be a page"
    ]


def test_pages_that_are_their_backups_are_right(made):
    assert complaints(made, mismatched_pages, page(), page("write"), page("describe")) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"missing_bytes": 8}, "it must use every byte of a page's backup"),
        ({"foreign_bytes": 8}, "it must use no byte of other pages"),
        ({"shared_bytes": 8}, "no byte may belong to two pages"),
    ],
)
def test_a_page_of_other_bytes_is_found(made, changes, rule):
    assert complaints(made, mismatched_pages, page(**changes)) == [
        (f"host.KV.read_page: {rule}", 0, 8)
    ]


def test_a_setter_that_writes_elsewhere_than_the_getter_reads_is_found(made):
    assert complaints(made, mismatched_pages, page(), page("write", order="bb")) == [
        ("host.KV.write_page: it must write each byte where read_page reads it", "aa", "bb")
    ]
    # Addresses may come in another order: storage keeps one object for each.
    assert complaints(made, mismatched_pages, page(), page("describe", order="bb")) == []


def test_a_method_that_could_not_be_called_is_no_fault(made):
    assert complaints(made, mismatched_pages, page(missing_bytes=8, reason="ValueError")) == []


def test_an_accessor_that_alone_does_not_wait_is_found(made):
    raw = accessor("get_raw", ("KV.k",), waited=False)
    assert complaints(made, unready_reads, accessor(), raw) == [
        ("kv_cache.get_raw", "waits for the layer", "does not wait")
    ]


@pytest.mark.parametrize("changes", [{"waited": True}, {"read": True}, {"planes": ("KV.scale",)}])
def test_an_accessor_that_waits_or_was_read_or_is_alone_is_not(made, changes):
    """Control: the accessor of the test above, but for one field."""
    raw = accessor("get_raw", ("KV.k",), waited=False)
    raw = msgspec.structs.replace(raw, **changes)
    assert complaints(made, unready_reads, accessor(), raw) == []


def test_a_pool_of_which_no_accessor_waits_is_guarded_by_the_pool_in_front_of_it(made):
    pair = [accessor(name, waited=False) for name in ("get_kv_buffer", "get_raw")]
    assert complaints(made, unready_reads, *pair) == []


def test_slices_that_bring_each_rank_its_own_items_are_right(made):
    sliced = msgspec.structs.replace(answer(), slices=(slices(),))
    assert complaints(made, mismatched_slices, sliced) == []


@pytest.mark.parametrize("lacking", [{"wrong": 12}, {"missing": 12}])
def test_slices_of_which_a_rank_gets_other_items_are_found(made, lacking):
    sliced = msgspec.structs.replace(answer(), slices=(slices(ranks="1-6,9-14", **lacking),))
    got = {"ranks": "1-6,9-14", "missing": 0, "wrong": 0, **lacking}
    assert complaints(made, mismatched_slices, sliced) == [
        (
            "kv_cache.get_buf_infos: every receiving rank must get its own items",
            "all of them",
            {"2 to 16 ranks": got},
        )
    ]
