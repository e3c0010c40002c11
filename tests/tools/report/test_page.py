"""The HTML report: what the page holds."""

import json
import re

import msgspec

from tests.tools.report.verdicts import DROPPED, verdict
from tools.report.html.history import GoldenCommit
from tools.report.html.memory_map import bytes_text, memory_map
from tools.report.html.page import PageContent, render_page
from tools.report.html.timeline import timeline
from traces.schema.copies import Copy
from traces.schema.model import EventAwaited, EventRecorded, Recording, Transfer
from traces.schema.verdict import SourceHunk


def recording(make_trace, name, **changes) -> Recording:
    return Recording(trace=msgspec.structs.replace(make_trace(name), **changes), sites=None)


def with_device_row(make_trace, *, device: int, host: int) -> Recording:
    trace = make_trace("nsa_fp8", width=host)
    [on_host] = trace.tensors
    on_device = msgspec.structs.replace(
        on_host, owner="device.KV", side="device", row_bytes=device, bytes=256 * device
    )
    return Recording(trace=msgspec.structs.replace(trace, tensors=(on_device, on_host)), sites=None)


def page(make_trace, **changes) -> str:
    content = PageContent(
        verdict=verdict(DROPPED),
        base={"nsa_fp8": with_device_row(make_trace, device=656, host=656)},
        head={"nsa_fp8": with_device_row(make_trace, device=656, host=576)},
    )
    return render_page(msgspec.structs.replace(content, **changes) if changes else content)


def transfer(**changes) -> Transfer:
    one = Transfer(
        step="backup",
        direction="backup",
        pool="KV",
        device_pool="KV",
        plane="kv",
        layer=0,
        device_slots="0-63",
        host_slots="64-127",
        rows=64,
        row_bytes=656,
        bytes=64 * 656,
        backend="kernel",
        stream="write",
    )
    return msgspec.structs.replace(one, **changes)


def test_page_names_the_cause_its_line_and_what_it_leads_to(make_trace):
    text = page(make_trace)
    assert "<title>goldentrace: fail, native: worktree against golden</title>" in text
    assert '<code class="before">656</code>' in text
    assert "assembler/stacks.py:123" in text
    assert "shape_changed host.KV.kv_buffer [2,656] -&gt; [2,576] (3 times)" in text


def test_lines_of_both_sides_at_the_place_are_shown(make_trace):
    lines = SourceHunk(
        file="assembler/stacks.py",
        base_line=123,
        head_line=123,
        before=("    width=pool.width,",),
        after=(),
    )
    cause = msgspec.structs.replace(DROPPED, source=lines, effect="Rows do not fit.")
    content = PageContent(verdict=verdict(cause), base={}, head={})
    assert "<del>-     width=pool.width,</del>" in render_page(content)
    assert "override_kv_cache_dim is no longer given. Rows do not fit.</p>" in render_page(content)
    same = msgspec.structs.replace(lines, after=lines.before)
    cause = msgspec.structs.replace(DROPPED, source=same)
    control = render_page(PageContent(verdict=verdict(cause), base={}, head={}))
    assert "      width=pool.width,\n" in control
    assert "<del>" not in control


def test_page_needs_nothing_from_elsewhere(make_trace):
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*", page(make_trace)) == []
    assert "url(" not in page(make_trace)


def test_rows_of_unlike_size_are_named_beside_the_scenario(make_trace):
    assert "KV.kv: device 656 B, host 576 B" in page(make_trace)
    [pool] = memory_map(with_device_row(make_trace, device=656, host=576).trace)
    [row] = pool.rows
    assert (row.device_bytes, row.host_bytes, row.differs) == (656, 576, True)
    [equal] = memory_map(with_device_row(make_trace, device=656, host=656).trace)
    assert not equal.rows[0].differs


def test_row_without_a_host_row_is_not_mirrored(make_trace):
    both = with_device_row(make_trace, device=656, host=656).trace
    trace = msgspec.structs.replace(both, tensors=both.tensors[:1])
    [pool] = memory_map(trace)
    assert pool.rows[0].is_alone
    assert not memory_map(both)[0].rows[0].is_alone


def test_list_of_buffers_is_one_bar_and_shared_storage_counts_once(make_trace):
    [host] = make_trace("a").tensors
    first = msgspec.structs.replace(host, name="k_buffer[0]", attribute="k_buffer", index=(0,))
    second = msgspec.structs.replace(first, name="k_buffer[1]", index=(1,))
    view = msgspec.structs.replace(first, name="k_buffer[2]", index=(2,), aliases="host.KV.x")
    trace = msgspec.structs.replace(make_trace("a"), tensors=(first, second, view))
    [pool] = memory_map(trace)
    [bar] = pool.buffers
    assert (bar.name, bar.number, bar.bytes) == ("host.KV k_buffer", 3, 2 * 256 * 656)


def test_sizes_are_in_binary_units():
    assert [bytes_text(n) for n in (0, 1023, 1536, 3 * 2**30)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "3.0 GiB",
    ]


def test_timeline_joins_the_record_of_an_event_to_its_wait(make_trace):
    events = (
        transfer(),
        EventRecorded(step="backup", name="done", stream="write", layer=None),
        EventAwaited(step="read", name="done", stream="default"),
        EventAwaited(step="read", name="never recorded", stream="default"),
    )
    line = timeline(recording(make_trace, "a", events=events).trace)
    assert line["lanes"] == ["write", "default"]
    assert line["steps"] == [(0, "backup"), (2, "read")]
    assert [bar[:3] for bar in line["bars"]] == [
        (0, 0, "backup"),
        (1, 0, "record"),
        (2, 1, "wait"),
        (3, 1, "wait"),
    ]
    assert line["edges"] == [(1, 0, 2, 1, "done")]


def test_copy_by_torch_is_a_bar_on_its_stream(make_trace):
    copy = Copy(
        step="backup",
        pool="host.Cache#0",
        operation="copy_",
        source="",
        source_offset=0,
        target="host.Cache#0.rows",
        target_offset=0,
        indices=(),
        shape=(64,),
        bytes=256,
        stream="write",
    )
    line = timeline(recording(make_trace, "a", events=(copy,)).trace)
    assert line["lanes"] == ["write"]
    assert line["bars"] == [
        (0, 0, "copy", "copy_ from other memory to host.Cache#0.rows: 256 B"),
    ]


def test_equal_sides_are_drawn_once(make_trace):
    one = with_device_row(make_trace, device=656, host=656)
    text = render_page(PageContent(verdict=verdict(), base={"nsa_fp8": one}, head={"nsa_fp8": one}))
    assert "both sides" in text
    assert "base, golden" not in text
    assert "Nothing differs." in text


def test_text_cannot_end_the_script(make_trace):
    bad = transfer(pool="</script><b>")
    content = PageContent(
        verdict=verdict(),
        base={},
        head={"a": recording(make_trace, "a", events=(bad,))},
    )
    text = render_page(content)
    embedded = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert embedded is not None
    [line] = json.loads(embedded[1])["timelines"]["a"]
    assert "</script><b>" in line["line"]["bars"][0][3]


def test_history_lists_commits(make_trace):
    commit = GoldenCommit(date="2026-11-29", commit="abc1234", subject="Rows <wider>", number=7)
    text = render_page(PageContent(verdict=verdict(), base={}, head={}, history=(commit,)))
    assert "Rows &lt;wider&gt;" in text
    assert 'id="history"' not in render_page(PageContent(verdict=verdict(), base={}, head={}))
