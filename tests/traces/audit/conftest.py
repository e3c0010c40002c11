"""Small hand-made recordings: literal calls, buffers, transfers and round trips."""

from types import SimpleNamespace

import pytest

from traces.schema.model import (
    SCHEMA,
    Argument,
    Call,
    Location,
    Message,
    Outcome,
    Recording,
    RoundTrip,
    ScenarioRecord,
    Sites,
    TensorRecord,
    Trace,
    Transfer,
)

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
        step="build",
        role=role,
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
        "plane": "kv_buffer",
        "layer": 0,
        "device_slots": "64-191",
        "host_slots": "0-127",
        "bytes": 128 * 656,
        "backend": "kernel",
        "stream": direction,
    }
    return Transfer(**{**fields, **changes})


def tensor(owner="device.KV", name="kv_buffer[0]", shape=(576, 1, 656), **changes):
    """One buffer of bytes."""
    size = 1
    for length in shape:
        size *= length
    fields = {
        "owner": owner,
        "object": "Pool#1",
        "name": name,
        "shape": shape,
        "dtype": "uint8",
        "stride": tuple(1 for _ in shape),
        "layout": "",
        "bytes": size,
        "pinned": False,
        "aliases": "",
    }
    return TensorRecord(**{**fields, **changes})


def trip(pool="KV.kv_buffer", wrong="", foreign=""):
    """One round trip, equal unless slots are wrong."""
    return RoundTrip(
        step="reload", pool=pool, equal=not wrong, wrong_slots=wrong, foreign_slots=foreign
    )


def race(text):
    return Message(step="reload", level="error", text=f"race: {text}")


@pytest.fixture
def made():
    return SimpleNamespace(
        call=call, recording=recording, transfer=transfer, tensor=tensor, trip=trip, race=race
    )
