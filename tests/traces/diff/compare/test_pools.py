"""What pools answer is compared by holder and method; what one side lacks is no difference."""

import msgspec
import pytest

from traces.diff import compare_sides, diff
from traces.schema.model import Location, Recording
from traces.schema.pools import (
    ExportedBuffer,
    PageAccess,
    PoolAccessor,
    PoolAnswer,
    RowWrite,
    WrittenRows,
)
from traces.schema.verdict import Kind, Level

LINE = Location(file="pkg/pools.py", line=40)


def exported(plane, *, item=96):
    return ExportedBuffer(
        pool="KV",
        plane=plane,
        layer=0,
        layers=1,
        offset=0,
        bytes=960,
        item_bytes=item,
        held_bytes=960,
        page_bytes=96,
    )


def answer(*buffers, holder="kv_cache", reason=""):
    return PoolAnswer(
        step="pools",
        holder=holder,
        method="get_buf_infos",
        buffers=buffers,
        views=(),
        values=None,
        reason=reason,
    )


def accessor(*, waited=True, planes=("KV.k",)):
    return PoolAccessor(
        step="reload",
        holder="kv_cache",
        method="get_raw",
        planes=planes,
        layers="0",
        stream="read.get_raw",
        read=False,
        waited=waited,
        reason="",
    )


def page(order):
    return PageAccess(
        step="pools",
        holder="host.KV",
        method="get_data_page",
        use="read",
        pages=6,
        page_bytes=64,
        first=(),
        order=order,
        missing_bytes=0,
        foreign_bytes=0,
        shared_bytes=0,
        reason="",
    )


def writes(plane="KV.k", *, slots="64", content="aa", unknown="", reason=""):
    rows = WrittenRows(plane=plane, layers="0-3", slots=slots, content=content)
    return RowWrite(
        step="writes",
        holder="kv_cache",
        method="set_kv_buffer",
        rows=(rows,),
        unknown=unknown,
        reason=reason,
    )


def compared(records, before, after):
    """The causes between traces with some records, as kind and place."""
    base, head = (records.trace(digests=tuple(side)) for side in (before, after))
    return [(cause.kind, cause.where) for cause in diff(base, head)]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (answer(exported("k"), exported("v")), answer(exported("v"), exported("k")), "layers"),
        (answer(exported("k")), answer(exported("k", item=6)), "bytes"),
        (answer(exported("k")), answer(reason="ValueError: no"), "outcome"),
    ],
)
def test_pointers_lengths_and_errors_differ_by_their_kind(records, before, after, kind):
    assert compared(records, [before], [after]) == [
        (f"{kind}_changed", "kv_cache.get_buf_infos in pools")
    ]
    assert compared(records, [before], [before]) == []


def test_an_accessor_that_no_longer_waits_has_lost_an_edge(records):
    assert compared(records, [accessor()], [accessor(waited=False)]) == [
        (Kind.ORDER_EDGE_REMOVED, "kv_cache.get_raw in reload")
    ]
    assert compared(records, [accessor()], [accessor(planes=("KV.v",))]) == [
        (Kind.LAYERS_CHANGED, "kv_cache.get_raw in reload")
    ]


def test_pages_in_another_order_are_other_bytes(records):
    assert compared(records, [page("aa")], [page("bb")]) == [
        (Kind.BYTES_CHANGED, "host.KV.get_data_page in pools")
    ]


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        (writes("KV.v"), "layers"),
        (writes(slots="65"), "layers"),
        (writes(content="bb"), "bytes"),
        (writes(reason="ValueError: no"), "outcome"),
    ],
)
def test_rows_that_a_setter_writes_differ_by_place_and_by_content(records, after, kind):
    assert compared(records, [writes()], [after]) == [
        (f"{kind}_changed", "kv_cache.set_kv_buffer in writes")
    ]
    assert compared(records, [after], [after]) == []


def test_only_the_fields_and_items_that_differ_are_shown(records):
    base = records.trace(digests=(answer(exported("k"), exported("v")),))
    head = records.trace(digests=(answer(exported("k"), exported("v", item=6)),))
    (cause,) = diff(base, head)
    assert (cause.before, cause.after) == (
        {"buffers": [{"item_bytes": 96}]},
        {"buffers": [{"item_bytes": 6}]},
    )


def test_a_change_in_the_pool_that_is_forwarded_to_is_one_cause(records):
    sides = [
        [answer(exported("k", item=item), holder=f"kv_cache{inner}") for inner in (".inner", "")]
        for item in (96, 6)
    ]
    base, head = (records.trace(digests=tuple(side)) for side in sides)
    (cause,) = diff(base, head)
    assert cause.where == "kv_cache.inner.get_buf_infos in pools"
    assert [one.where for one in cause.consequences] == ["kv_cache.get_buf_infos in pools"]


def test_how_a_method_fails_on_both_sides_is_of_the_interface(records):
    base = records.trace(digests=(answer(reason="ValueError: one"),))
    levels = {
        reason: diff(base, records.trace(digests=(answer(reason=reason),)))[0].level
        for reason in ("KeyError: two", "")
    }
    assert levels == {"KeyError: two": Level.INTERFACE, "": Level.BEHAVIOUR}


def test_a_setter_that_takes_an_unknown_name_is_another_interface(records):
    base = records.trace(digests=(writes(),))
    levels = {
        (one.unknown, one.reason): diff(base, records.trace(digests=(one,)))[0].level
        for one in (writes(unknown="key", reason="not known"), writes(reason="ValueError: no"))
    }
    assert levels == {
        ("key", "not known"): Level.INTERFACE,
        ("", "ValueError: no"): Level.BEHAVIOUR,
    }


def with_records(recording, *records):
    trace = msgspec.structs.replace(recording.trace, digests=(*recording.trace.digests, *records))
    definitions = {**recording.sites.definitions, "kv_cache.get_buf_infos": LINE}
    sites = msgspec.structs.replace(recording.sites, definitions=definitions)
    return Recording(trace=trace, sites=sites)


def test_a_method_that_one_side_lacks_is_no_difference(nsa):
    base = with_records(nsa(), answer(exported("k")))
    head = with_records(nsa(), answer(exported("k")), answer(exported("v"), holder="new"))
    assert compare_sides({"nsa": base}, {"nsa": head}) == ()


def test_a_difference_is_at_the_line_of_the_method(nsa):
    """Control: both sides have the method of the test above."""
    base = with_records(nsa(), answer(exported("k")))
    head = with_records(nsa(), answer(exported("k", item=6)))
    (cause,) = compare_sides({"nsa": base}, {"nsa": head})
    assert (cause.kind, cause.location) == (Kind.BYTES_CHANGED, LINE)
