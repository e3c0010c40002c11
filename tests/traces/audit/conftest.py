"""Small hand-made recordings: literal calls, buffers, transfers and round trips."""

from types import SimpleNamespace

import pytest

from tests.traces.record_facts import objects_of, part_of, path_of
from traces.schema.labels import name_of_label
from traces.schema.model import (
    SCHEMA,
    Argument,
    Call,
    Location,
    Outcome,
    Reading,
    Recording,
    RoundTrip,
    ScenarioRecord,
    Sites,
    TensorRecord,
    Trace,
    Transfer,
)
from traces.schema.races import Race, RaceAccess

STACKS = "assembler/stacks.py"


def call(
    label,
    given,
    *,
    parent="",
    role="constructor",
    line=1,
    left_out=None,
    returns=None,
):
    """One call and its line; ``left_out`` are arguments that defaults filled in."""
    arguments = [Argument(name=name, value=value, given=True) for name, value in given.items()]
    arguments += [
        Argument(name=name, value=value, given=False) for name, value in (left_out or {}).items()
    ]
    made = Call(
        call=label,
        parent=parent,
        caller=name_of_label(parent),
        step="build",
        role=role,
        part=part_of(label.partition("#")[0], role),
        callee=label.partition("#")[0],
        arguments=tuple(arguments),
        returns=returns,
        raises=None,
    )
    return made, line


def recording(
    name="a",
    *calls,
    config=None,
    tensors=(),
    events=(),
    digests=(),
    defaults=None,
    outcome=None,
    failure=None,
):
    """A recording of some calls; the player itself makes those without a parent."""
    lines = {
        one.call: Location(file=STACKS if one.parent else "/player.py", line=line)
        for one, line in calls
    }
    trace = Trace(
        schema=SCHEMA,
        scenario=ScenarioRecord(
            name=name, config={"builder": "build_kv_only_stack", "page_size": 64, **(config or {})}
        ),
        calls=tuple(one for one, _ in calls),
        tensors=tuple(tensors),
        events=tuple(events),
        digests=tuple(digests),
        outcome=outcome or Outcome(ok=True, failed_step="", failure=None),
        objects=objects_of((one for one, _ in calls), tensors),
    )
    sites = Sites(
        calls=lines,
        definitions={one.callee: Location(file=STACKS, line=100) for one, _ in calls},
        events=tuple(None for _ in events),
        failure=failure,
        defaults=defaults or {},
    )
    return Recording(trace=trace, sites=sites)


def transfer(direction="backup", **changes):
    """A transfer of two pages of 64 rows of 656 bytes of layer 0."""
    fields = {
        "step": "backup" if direction == "backup" else "reload",
        "direction": direction,
        "pool": "KV",
        "device_pool": changes.get("pool", "KV"),
        "plane": "kv_buffer",
        "layer": 0,
        "device_slots": "64-191",
        "host_slots": "0-127",
        "rows": 128,
        "row_bytes": 656,
        "bytes": 128 * 656,
        "backend": "kernel",
        "stream": direction,
    }
    return Transfer(**{**fields, **changes})


def tensor(owner="device.KV", name="kv_buffer[0]", shape=(576, 1, 656), **changes):
    """One buffer of bytes, of one layer on the device and of all of them on the host."""
    side, _, pool = owner.partition(".")
    size = 1
    for length in shape:
        size *= length
    fields = {
        "owner": owner,
        "is_named": True,
        "side": side,
        "pool": pool,
        "object": "Pool#1",
        "name": name,
        "attribute": path_of(name).attribute,
        "index": path_of(name).index,
        "planes": ("kv_buffer",),
        "layer": 0 if side == "device" else None,
        "layer_num": 1 if side == "device" else shape[0],
        "row_bytes": shape[-1],
        "slots_per_row": 1,
        "shape": shape,
        "dtype": "uint8",
        "stride": tuple(1 for _ in shape),
        "layout": "",
        "bytes": size,
        "pinned": False,
        "aliases": "",
    }
    return TensorRecord(**{**fields, **changes})


def trip(rows="KV.kv_buffer", wrong="", foreign=""):
    """One round trip, equal unless slots are wrong."""
    pool, _, plane = rows.partition(".")
    return RoundTrip(
        step="reload",
        pool=pool,
        plane=plane,
        equal=not wrong,
        wrong_slots=wrong,
        foreign_slots=foreign,
    )


def reading(accessor="get_key_buffer", *, waited=False, equal=True):
    """What an accessor of the pool KV handed out behind a load."""
    return Reading(
        step="reload", pool="KV", accessor=accessor, stream="any", waited=waited, equal=equal
    )


def race(first="load", second="attention", *, access="read", accessor="", **place):
    """Two operations that nothing orders, the second of which reads or writes."""
    return Race(
        **{"step": "reload", "pool": "KV", "buffer": "kv_buffer", "layer": 0, **place},
        first=RaceAccess(operation=first, accessor="", on="stream", access="write"),
        second=RaceAccess(operation=second, accessor=accessor, on="stream", access=access),
        text="one and another",
    )


@pytest.fixture
def made():
    return SimpleNamespace(
        call=call,
        recording=recording,
        transfer=transfer,
        tensor=tensor,
        trip=trip,
        reading=reading,
        race=race,
    )
