"""No verdict depends on what a label says: with every label renamed, audit and diff find the same.

Labels are names of streams and device events, of operations and accesses, and the texts of
messages. One switch renames all of them where the adapters and the simulated device make them; the
verdicts, their labels translated back, must stay, on sound stacks and on faulty ones.
"""

import codecs
import json
import re

import msgspec
import pytest
import torch

from assembler.controller.layer_done import LayerDoneCounter
from assembler.host_pools.base import HostKVCache
from traces.audit import audit
from traces.diff import compare_sides
from traces.recording.call_recorder import CallRecorder
from traces.schema.model import (
    HOST,
    EventAwaited,
    EventRecorded,
    Message,
    Reading,
    Transfer,
    TreeMatch,
)
from traces.schema.races import Race, RaceAccess
from traces.schema.verdict import Kind
from traces.simulator.device import SimDevice
from traces.simulator.streams import SimStream
from traces.targets.common.labels import OperationLabel
from traces.targets.native import device_side
from traces.targets.native.run import run_scenario_on_every_buffer
from traces.targets.native.scenarios import registry

SPARSE = "shared_anchor.dsv32_fp8.page_first"
STATES = "mamba.qwen3_next.layer_first.kernel.wb"
_NUMBER = re.compile(r"\d+")
WINDOWS = "swa.gemma3.page_first_direct"


class DeafStream(SimStream):
    """A stream that nothing makes wait."""

    def wait_event(self, event):
        pass


class Labels:
    """The switch: renames labels while it is on, and knows what they were.

    Letters are rotated by 13 places: no word stays, digits and signs do.
    """

    def __init__(self):
        self.is_on = False
        self.originals = {}

    def rename(self, label):
        if not self.is_on or label == HOST:
            return label
        renamed = codecs.encode(label, "rot13")
        self.originals[renamed] = str(label)
        # Places are shown with starred numbers, too.
        self.originals[_NUMBER.sub("*", renamed)] = _NUMBER.sub("*", label)
        if isinstance(label, OperationLabel):
            return OperationLabel(
                renamed, operation=label.operation, place=label.place, accessor=label.accessor
            )
        return renamed

    def restore(self, text):
        for renamed in sorted(self.originals, key=len, reverse=True):
            text = text.replace(renamed, self.originals[renamed])
        return text


@pytest.fixture
def labels(monkeypatch):
    switch = Labels()

    def rename_argument(owner, name, position, keyword):
        original = getattr(owner, name)

        def renamed(self, *args, **kwargs):
            if keyword in kwargs:
                kwargs[keyword] = switch.rename(kwargs[keyword])
            else:
                args = (*args[:position], switch.rename(args[position]), *args[position + 1 :])
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, renamed)

    rename_argument(SimDevice, "_open_stream", 0, "name")
    rename_argument(SimDevice, "new_event", 0, "name")
    rename_argument(SimDevice, "launch", 0, "label")
    rename_argument(SimDevice, "host_access", 0, "label")
    rename_argument(CallRecorder, "record_message", 1, "text")
    return switch


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


CASES = [
    (no_fault, SPARSE, set()),
    (drop_layer_wait, SPARSE, {Kind.ORDER_EDGE_REMOVED, Kind.READ_BEFORE_READY}),
    (drop_layer_wait, WINDOWS, {Kind.ORDER_EDGE_REMOVED, Kind.READ_BEFORE_READY}),
    (drop_backup_wait, SPARSE, {Kind.ORDER_EDGE_REMOVED, Kind.READ_BEFORE_READY}),
    (drop_last_layer, SPARSE, {Kind.TRANSFER_REMOVED, Kind.LAYERS_CHANGED}),
    (drop_last_layer, STATES, {Kind.TRANSFER_REMOVED, Kind.LAYERS_CHANGED}),
    (add_unmirrored_buffer, SPARSE, {Kind.DECLARED_NOT_ASSEMBLED}),
]


def verdict(base, head):
    """Everything that audit and diff say, as text."""
    found = (*compare_sides({"s": base}, {"s": head}), *audit({"s": head}, recorded={}))
    return msgspec.json.encode(found).decode()


def kinds(text):
    return {Kind(cause["kind"]) for cause in json.loads(text)}


@pytest.mark.parametrize(
    ("fault", "prefix", "expected"),
    CASES,
    ids=[f"{fault.__name__}-{prefix}" for fault, prefix, _ in CASES],
)
def test_verdicts_on_real_stacks_do_not_depend_on_labels(
    fault, prefix, expected, labels, monkeypatch
):
    scenario = next(one for name, one in registry().items() if name.startswith(prefix))

    def run(*, is_on, is_faulty):
        labels.is_on = is_on
        with monkeypatch.context() as patch:
            if is_faulty:
                fault(patch)
            return run_scenario_on_every_buffer(scenario, device="sim:latest:0")

    plain = verdict(run(is_on=False, is_faulty=False), run(is_on=False, is_faulty=True))
    renamed = verdict(run(is_on=True, is_faulty=False), run(is_on=True, is_faulty=True))

    assert expected <= kinds(plain)
    assert labels.originals
    assert labels.restore(renamed) == plain
    if fault is drop_backup_wait:
        assert renamed != plain


def renamed_records(recording, labels):
    """Return a recording with the labels in its records renamed."""

    def rename(record):
        fields = {
            EventAwaited: ("name", "stream"),
            EventRecorded: ("name", "stream"),
            Transfer: ("stream",),
            Message: ("text",),
            Race: ("text",),
            Reading: ("stream",),
        }.get(type(record), ())
        changes = {name: labels.rename(getattr(record, name)) for name in fields}
        return msgspec.structs.replace(record, **changes)

    trace = recording.trace
    return msgspec.structs.replace(
        recording,
        trace=msgspec.structs.replace(
            trace,
            events=tuple(map(rename, trace.events)),
            digests=tuple(map(rename, trace.digests)),
        ),
    )


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


def test_verdicts_on_a_package_do_not_depend_on_labels(labels):
    scenario = next(one for name, one in registry().items() if name.startswith(SPARSE))
    recorded = run_scenario_on_every_buffer(scenario, device="sim:latest:0")
    base, head = (package_side(recorded, faulty=faulty) for faulty in (False, True))
    plain = verdict(base, head)
    labels.is_on = True
    renamed = verdict(renamed_records(base, labels), renamed_records(head, labels))

    assert {Kind.ORDER_EDGE_REMOVED, Kind.READ_BEFORE_READY} <= kinds(plain)
    assert renamed != plain
    assert labels.restore(renamed) == plain
