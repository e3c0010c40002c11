"""Fields in which two traces differ."""

import msgspec
import pytest

from tools.mutation.trace_fields import differing_fields, sections_of
from traces.schema.model import (
    SCHEMA,
    Argument,
    Call,
    EventAwaited,
    EventRecorded,
    Outcome,
    ScenarioRecord,
    Trace,
)

CALL = Call(
    call="Pool#1",
    parent="",
    caller="",
    step="build",
    role="constructor",
    part="",
    callee="Pool",
    arguments=(Argument(name="width", value=656, given=True),),
    returns=None,
    raises=None,
)
EVENTS = (
    EventRecorded(step="backup", name="start#1", stream="default", layer=None),
    EventAwaited(step="backup", name="start#1", stream="write"),
)
TRACE = Trace(
    schema=SCHEMA,
    scenario=ScenarioRecord(name="s", config={}),
    calls=(CALL,),
    tensors=(),
    events=EVENTS,
    digests=(),
    outcome=Outcome(ok=True, failed_step="", failure=None),
)


def with_call(**changes):
    return msgspec.structs.replace(TRACE, calls=(msgspec.structs.replace(CALL, **changes),))


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        (TRACE, set()),
        (
            with_call(arguments=(Argument(name="width", value=576, given=True),)),
            {"calls.arguments.value"},
        ),
        (
            with_call(arguments=(Argument(name="width", value=656, given=False),)),
            {"calls.arguments.given"},
        ),
        (with_call(arguments=()), {"calls.arguments.name"}),
        (with_call(step="reset"), {"calls.step"}),
        (msgspec.structs.replace(TRACE, calls=()), {"calls.number"}),
        (msgspec.structs.replace(TRACE, events=EVENTS[:1]), {"events.wait.number"}),
        (msgspec.structs.replace(TRACE, events=EVENTS[::-1]), {"events.order"}),
        (
            msgspec.structs.replace(TRACE, outcome=Outcome(ok=False, failed_step="", failure=None)),
            {"outcome.ok"},
        ),
    ],
)
def test_differing_fields(head, fields):
    assert differing_fields(TRACE, head) == fields


def test_sections():
    assert sections_of({"calls.step", "calls.arguments.value", "events.order"}) == {
        "calls",
        "events",
    }
