"""Recording of a stranger's package by name: nothing of it is known to this project."""

from dataclasses import dataclass
from types import ModuleType

import pytest
import torch

from tests.traces.recording.fresh_package import WATCH, recorded
from traces import Recorder, RecorderError, diff, record
from traces.schema.copies import Copy
from traces.schema.verdict import Level

COPIES = (
    "    cache.host.rows[0].copy_(cache.device.rows[3])\n",
    "    cache.device.rows[0].copy_(cache.host.rows[3])\n",
)


def test_calls_buffers_and_copies_of_a_fresh_package_are_recorded(fresh):
    recorder = recorded(fresh())
    trace = recorder.trace

    assert [call.callee for call in trace.calls] == [
        "run",
        "build_cache",
        "Pool",
        "Pool",
        "Cache",
        "Pool.allocate",
        "Pool.allocate",
        "Cache.save",
        "Cache.load_in_thread",
        "Ready",
        "Ready.wait",
        "Cache.load",
        "Ready.set",
    ]
    assert [(one.owner, one.name, one.shape) for one in trace.tensors] == [
        ("device.Pool", "rows", (4, 4)),
        ("device.Pool#2", "rows", (8, 4)),
    ]
    copies = [event for event in trace.events if isinstance(event, Copy)]
    assert [(one.operation, one.source, one.target, one.indices) for one in copies] == [
        ("index", "device.Pool.rows", "", ("0-1",)),
        ("index_put_", "", "device.Pool#2.rows", ("0-1",)),
        ("copy_", "device.Pool.rows", "device.Pool#2.rows", ()),
        ("copy_", "device.Pool#2.rows", "device.Pool.rows", ()),
        ("index", "device.Pool#2.rows", "", ("0-1",)),
        ("index_put_", "", "device.Pool.rows", ("1-2",)),
    ]
    assert (copies[2].source_offset, copies[2].target_offset, copies[2].bytes) == (12, 0, 16)
    assert {site.file for site in recorder.sites.events} == {"fresh/cache.py"}


def test_two_runs_are_equal(fresh):
    assert diff(recorded(fresh()), recorded(fresh())) == ()


@pytest.mark.parametrize(
    ("replacement", "kind", "named"),
    [
        (("policy, layers=3", "policy"), "argument_dropped", "layers"),
        (("Cache(pool, host,", "Cache(host, pool,"), "argument_changed", "device"),
        (("build_cache(4,", "build_cache(6,"), "argument_changed", "blocks"),
        (("        ready.wait()\n", ""), "call_removed", "Ready.wait"),
        (("cache.save(slots, stored)", "pass"), "call_removed", "Cache.save"),
        (
            ("".join(COPIES), "".join(reversed(COPIES))),
            "transfer_",
            "happens at another place in the order of transfers",
        ),
        ((COPIES[0], ""), "transfer_removed", "no longer happens"),
        (("cache.device.rows[3]", "cache.device.rows[2]"), "transfer_changed", "copy_ device.Pool"),
    ],
    ids=["dropped", "swapped", "shape", "wait", "call", "reordered copies", "copy", "another row"],
)
def test_change_is_named(fresh, replacement, kind, named):
    before = recorded(fresh())

    causes = diff(before, recorded(fresh(replacement)))

    wanted = [one for one in causes if one.kind.startswith(kind) and one.level is Level.BEHAVIOUR]
    texts = [f"{one.callee} {one.parameter} {one.where} {one.message}" for one in wanted]
    assert any(named in text for text in texts), [one.headline() for one in causes]
    assert all(one.location is not None for one in wanted)


def test_changed_shape_follows_from_its_argument(fresh):
    before = recorded(fresh())

    first, *_ = diff(before, recorded(fresh(("build_cache(4,", "build_cache(6,"))))

    shapes = [one for one in first.consequences if one.kind == "shape_changed"]
    assert [one.where for one in shapes] == ["device.Pool.rows", "device.Pool#2.rows"]


@pytest.mark.parametrize(
    "replacements",
    [
        [("    pool = Pool(blocks)", "    local = Pool(blocks)"), ("Cache(pool,", "Cache(local,")],
        [("Pool(2 * blocks, width=host_width)", "Pool(width=host_width, blocks=2 * blocks)")],
    ],
    ids=["renamed local", "reordered keywords"],
)
def test_refactor_is_green(fresh, replacements):
    assert diff(recorded(fresh()), recorded(fresh(*replacements))) == ()


def test_value_that_changes_from_run_to_run_is_named_with_its_field(fresh):
    extra = """
    import itertools
    stamps = itertools.count()

    def serve(request):
        return None
    """
    module = fresh(extra=extra)

    @dataclass
    class Request:
        tokens: int
        stamp: int

    def run() -> Recorder:
        with record(watch=[module.serve]) as recorder:
            module.serve(Request(3, next(module.stamps)))
        return recorder

    (cause,) = diff(run(), run())

    found = (cause.kind, cause.callee, cause.parameter, cause.before, cause.after)
    assert found == ("argument_changed", "serve", "request.stamp", 0, 1)


def test_dataclass_of_an_unwatched_module_is_recorded_by_its_fields(fresh):
    module = fresh()

    with record(watch=["fresh.pools", "fresh.cache:build_cache", module.Cache]) as recorder:
        module.build_cache(2, policy=module.Policy("lru", limit=3))

    (policy,) = [one.value for one in recorder.calls[0].arguments if one.name == "policy"]
    assert policy == {"object": "Policy", "fields": {"name": "lru", "limit": 3}}


def test_plain_dataclass_made_before_the_recording_is_recorded_by_its_fields(fresh):
    def run(limit: int) -> Recorder:
        module = fresh()
        policy = module.Policy("lru", limit=limit)
        with record(watch=WATCH) as recorder:
            module.build_cache(2, policy=policy)
        return recorder

    first, *_ = diff(run(3), run(4))

    assert (first.kind, first.parameter) == ("argument_changed", "policy.limit")
    assert (first.before, first.after) == (3, 4)


def test_unknown_type_says_what_to_register(fresh):
    module = fresh()

    class Odd:
        pass

    watch = ["fresh.pools", "fresh.cache:build_cache", "fresh.cache:Cache"]
    wanted = (
        r"build_cache.policy: type must be known; expected a watched class, one with declared "
        r"fields, or a plain form in values=, got .*Odd"
    )
    with pytest.raises(RecorderError, match=wanted), record(watch=watch):
        module.build_cache(2, policy=Odd())

    values = {Odd: lambda odd: "odd"}
    with record(watch=watch, values=values) as recorder:
        module.build_cache(2, policy=Odd())
    assert recorder.calls[0].arguments[-1].value == "odd"


def test_recording_that_saw_nothing_is_an_error(fresh):
    fresh()

    wanted = "record: must see something; expected a call, a tensor or an event, got none"
    with pytest.raises(RecorderError, match=wanted), record(watch=WATCH):
        pass


def test_pool_made_before_the_recording_and_a_buffer_made_late_are_seen(fresh):
    extra = """
    class Lazy:
        def fill(self, width):
            self.rows = torch.ones(2, width)

        def copy_from(self, other):
            self.rows.copy_(other.rows)
    """
    module = fresh(extra=extra)
    old, late = module.Lazy(), module.Lazy()
    old.fill(4)

    with record(watch=WATCH) as recorder:
        late.fill(4)
        late.copy_from(old)

    assert [(one.object, one.shape) for one in recorder.tensors] == [
        ("Lazy#1", (2, 4)),
        ("Lazy#2", (2, 4)),
    ]
    (copied,) = recorder.events
    assert (copied.source, copied.target) == ("device.Lazy#2.rows", "device.Lazy.rows")
    assert recorder.calls[1].arguments[0].value == {"ref": "Lazy#1"}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_streams_events_and_copies_of_a_gpu_are_recorded(fresh):
    extra = """
    class GpuCache:
        def __init__(self):
            self.rows = torch.zeros(4, 4, device="cuda")
            self.host = torch.zeros(8, 4, pin_memory=True)
            self.stream = torch.cuda.Stream()

        def load(self, slots):
            with torch.cuda.stream(self.stream):
                staged = self.host[4:6].to("cuda", non_blocking=True)
                self.rows.index_copy_(0, slots, staged)
                loaded = torch.cuda.Event()
                loaded.record(self.stream)
            torch.cuda.current_stream().wait_event(loaded)
    """

    def run(module: ModuleType) -> Recorder:
        with record(watch=WATCH) as recorder:
            module.GpuCache().load(torch.tensor([2, 3], device="cuda"))
        return recorder

    first, second = run(fresh(extra=extra)), run(fresh(extra=extra))

    staged, loaded, marked, waited = first.events
    assert (staged.operation, staged.source_offset, staged.stream) == ("_to_copy", 16, "stream#1")
    assert staged.source.endswith(".host")
    assert (loaded.operation, loaded.indices, loaded.stream) == (
        "index_copy_",
        ("2-3",),
        "stream#1",
    )
    assert (marked.stream, waited.stream, waited.name) == ("stream#1", "default", marked.name)
    assert diff(first, second) == ()
    lost = run(fresh(("    torch.cuda.current_stream().wait_event(loaded)\n", ""), extra=extra))
    assert [one.kind for one in diff(first, lost)] == ["order_edge_removed"]
