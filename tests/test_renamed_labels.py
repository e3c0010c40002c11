"""No verdict depends on what anything is called: renamed recordings have the same causes.

One switch renames every function, class, object, owner, buffer, stream, device event and text in
the recordings of both sides. What audit and diff say then, translated back, must be what they say
of the recordings as they are, on sound stacks and on faulty ones.
"""

import json
import logging
from functools import cache

import msgspec
import pytest
import torch

from assembler.controller.layer_done import LayerDoneCounter
from assembler.host_pools.base import HostKVCache
from assembler.stacks import attach
from tests.traces.renaming import Names, renamed_recording
from traces.audit import audit
from traces.diff import compare_sides
from traces.schema.canonical import render
from traces.schema.model import (
    EventAwaited,
    Race,
    RaceAccess,
    Reading,
    TreeMatch,
)
from traces.schema.verdict import Kind
from traces.simulator.device import SimDevice
from traces.simulator.streams import SimStream
from traces.targets.native import device_side
from traces.targets.native.run import run_scenario_on_every_buffer
from traces.targets.native.scenarios import registry

SPARSE = "shared_anchor.dsv32_fp8.page_first"
ATTACHED = "hiradix_nsa.dsv32_fp8.page_first.kernel"
STATES = "mamba.qwen3_next.layer_first.kernel.wb"
WINDOWS = "swa.gemma3.page_first_direct"


class DeafStream(SimStream):
    """A stream that nothing makes wait."""

    def wait_event(self, event):
        pass


def no_fault(monkeypatch):
    del monkeypatch


def drop_layer_wait(monkeypatch):
    monkeypatch.setattr(LayerDoneCounter, "wait_until", lambda self, threshold: None)


def drop_backup_wait(monkeypatch):
    """The backup runs without waiting for what attention wrote: a race, and other order."""
    open_stream = SimDevice.new_stream

    def new_stream(self, name):
        stream = open_stream(self, name)
        if name == "write":
            stream.__class__ = DeafStream
        return stream

    monkeypatch.setattr(SimDevice, "new_stream", new_stream)


def drop_last_layer(monkeypatch):
    load = HostKVCache.load_to_device_per_layer

    def without_last(self, *, layer_id, **arguments):
        if layer_id < self.layer_num - 1:
            load(self, layer_id=layer_id, **arguments)

    monkeypatch.setattr(HostKVCache, "load_to_device_per_layer", without_last)


def add_unmirrored_buffer(monkeypatch):
    make = device_side.make_token_pool

    def with_scales(*arguments, **keywords):
        pool = make(*arguments, **keywords)
        own = pool.mirrored()[0]
        row_num = len(own.plane_buffers(own.geometry.planes[0].name)[0])
        pool._scales = [torch.zeros(row_num, 4) for _ in range(pool.layer_num)]
        return pool

    monkeypatch.setattr(device_side, "make_token_pool", with_scales)


class Around:
    """A callable around a builder: a function of that name would be recorded as a builder too."""

    def __init__(self, monkeypatch, *, dropped=(), added=None, warning=""):
        self.build = attach.build_shared_anchor_stack
        self.dropped, self.added, self.warning = dropped, added or {}, warning
        monkeypatch.setattr(attach, "build_shared_anchor_stack", self)

    def __call__(self, **arguments):
        if self.warning:
            logging.getLogger("assembler.stacks").warning(self.warning)
        kept = {name: value for name, value in arguments.items() if name not in self.dropped}
        return self.build(**kept, **self.added)


def drop_override(monkeypatch):
    """The host rows of sparse attention get the width of the model: a keyword is lost."""
    Around(monkeypatch, dropped=("override_kv_cache_dim",))


def pass_unknown_keyword(monkeypatch):
    """A builder is called with a keyword that it does not have."""
    Around(monkeypatch, added={"tp_rank": 1})


def warn_in_a_builder(monkeypatch):
    Around(monkeypatch, warning="row 7 of 9")


def add_device_layer(monkeypatch):
    """The pools of one side have a layer more."""
    layers = device_side.consecutive_layers
    monkeypatch.setattr(
        device_side,
        "consecutive_layers",
        lambda num, *, start_layer: layers(num + 1, start_layer=start_layer),
    )


CASES = [
    (no_fault, SPARSE, set()),
    (no_fault, WINDOWS, set()),
    (drop_layer_wait, SPARSE, {Kind.ORDER_EDGE_REMOVED, Kind.READ_BEFORE_READY}),
    (drop_backup_wait, SPARSE, {Kind.ORDER_EDGE_REMOVED, Kind.READ_BEFORE_READY}),
    (drop_last_layer, STATES, {Kind.TRANSFER_REMOVED, Kind.LAYERS_CHANGED}),
    (add_unmirrored_buffer, SPARSE, {Kind.DECLARED_NOT_ASSEMBLED}),
    (drop_override, ATTACHED, {Kind.ARGUMENT_DROPPED, Kind.OUTCOME_CHANGED}),
    (pass_unknown_keyword, ATTACHED, {Kind.ARGUMENT_ADDED, Kind.OUTCOME_CHANGED}),
    (warn_in_a_builder, ATTACHED, {Kind.OUTCOME_CHANGED}),
    (add_device_layer, SPARSE, {Kind.LAYERS_CHANGED}),
]


def verdict(base, head, names=None):
    """Everything that audit and diff say, as text, in an order that no name decides."""
    found = (*compare_sides({"s": base}, {"s": head}), *audit({"s": head}, recorded={}))
    text = msgspec.json.encode(found).decode()
    return json.dumps(in_any_order(json.loads(text if names is None else names.restore(text))))


def in_any_order(value):
    """Sort causes and consequences: equal ranks are sorted by names."""
    if isinstance(value, dict):
        return {key: in_any_order(item) for key, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return sorted(map(in_any_order, value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


def kinds(text):
    causes = json.loads(text)
    parts = (one for cause in causes for one in (cause, *cause["consequences"]))
    return {Kind(one["kind"]) for one in parts}


@pytest.fixture(scope="module")
def sound():
    """Runs a scenario without a fault, once."""

    @cache
    def run(prefix):
        return run_scenario_on_every_buffer(scenario_of(prefix), device="sim:latest:0")

    return run


def scenario_of(prefix):
    return next(one for name, one in registry().items() if name.startswith(prefix))


@pytest.mark.parametrize(
    ("fault", "prefix", "expected"),
    CASES,
    ids=[f"{fault.__name__}-{prefix}" for fault, prefix, _ in CASES],
)
def test_verdicts_on_real_stacks_do_not_depend_on_names(
    fault, prefix, expected, sound, monkeypatch
):
    base = sound(prefix)
    with monkeypatch.context() as patch:
        fault(patch)
        head = run_scenario_on_every_buffer(scenario_of(prefix), device="sim:latest:0")
    names = Names()
    others = renamed_recording(base, names), renamed_recording(head, names)

    plain = verdict(base, head)

    assert expected <= kinds(plain)
    assert verdict(*others, names) == plain
    assert (compare_sides({"s": base}, {"s": head}) == ()) is (fault is no_fault)


def test_no_name_is_left_in_a_renamed_recording(sound):
    """Control: the switch reaches every function, class, owner and buffer."""
    recording = renamed_recording(sound(SPARSE), Names())
    text = render(recording.trace)

    for name in ("build_shared_anchor_stack", "HybridCacheController", "MLATokenToKVPoolHost"):
        assert name in render(sound(SPARSE).trace)
        assert f'"callee":"{name}"' not in text
        assert f'"caller":"{name}"' not in text
        assert f"{name}#" not in text
    assert '"owner":"host.KV"' not in text
    assert '"name":"kv_buffer' not in text
    assert '"stream":"load"' not in text


def package_side(recording, *, faulty):
    """Add to a recording what the adapter of a package records of a load.

    A faulty side has an accessor that no longer waits, its race, and a tree that finds less.
    """
    accessors = ("get_key_buffer", "get_value_buffer")
    late = accessors[:1] if faulty else ()
    waits = [
        EventAwaited(step="reload", name="load@1", stream=f"read.{name}")
        for name in accessors
        if name not in late
    ]
    races = [
        Race(
            step="reload",
            pool="KV",
            buffer="kv_buffer",
            layer=0,
            first=RaceAccess(operation="load", accessor="", on="stream", access="write"),
            second=RaceAccess(operation="attention", accessor=name, on="stream", access="read"),
            text=f"load of KV.kv_buffer[0] on stream and attention reads it by {name} on stream",
        )
        for name in late
    ]
    readings = [
        Reading(
            step="reload",
            pool="KV",
            accessor=name,
            stream=f"read.{name}",
            waited=name not in late,
            equal=name not in late,
        )
        for name in accessors
    ]
    match = TreeMatch(
        step="tree",
        sequence="first",
        phase="loaded",
        found=not faulty,
        missing="0-3" if faulty else "",
        elsewhere="",
    )
    trace, sites = recording.trace, recording.sites
    events = (*trace.events, *waits, *races)
    return msgspec.structs.replace(
        recording,
        trace=msgspec.structs.replace(
            trace, events=events, digests=(*trace.digests, *readings, match)
        ),
        sites=msgspec.structs.replace(
            sites, events=(*sites.events, *[None] * (len(events) - len(trace.events)))
        ),
    )


def test_verdicts_on_a_package_do_not_depend_on_names(sound):
    base, head = (package_side(sound(SPARSE), faulty=faulty) for faulty in (False, True))
    names = Names()
    others = renamed_recording(base, names), renamed_recording(head, names)

    plain = verdict(base, head)

    assert {Kind.ORDER_EDGE_REMOVED, Kind.READ_BEFORE_READY} <= kinds(plain)
    assert verdict(*others, names) == plain
