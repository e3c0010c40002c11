"""Declared differences: the declared fields are hidden, and nothing else is."""

import msgspec
import pytest

from traces.errors import TraceFormatError
from traces.schema.canonical import render
from traces.schema.model import (
    SCHEMA,
    Argument,
    Call,
    Outcome,
    Record,
    ScenarioRecord,
    TensorRecord,
    Trace,
)
from traces.targets.native.parity import (
    DECLARED_DIFFERENCES,
    blank_declared_fields,
    comparable_text,
)

PINNED = {(TensorRecord, "pinned"): "a device without pinned memory"}


def trace_of(*, pinned: bool = True, bytes_: int = 8, aliases: str = "x", value: object = 64):
    argument = Argument(name="page_size", value=value, given=True)
    call = Call(
        call="build#1",
        parent="",
        step="build",
        role="builder",
        callee="build",
        arguments=(argument,),
        returns=None,
        raises=None,
    )
    tensor = TensorRecord(
        owner="host.KV",
        object="Pool#1",
        name="kv_buffer",
        shape=(2, 4),
        dtype="uint8",
        stride=(4, 1),
        layout="layer_first",
        bytes=bytes_,
        pinned=pinned,
        aliases=aliases,
    )
    return Trace(
        schema=SCHEMA,
        scenario=ScenarioRecord(name="a", config={}),
        calls=(call,),
        tensors=(tensor,),
        events=(),
        digests=(),
        outcome=Outcome(ok=True, failed_step="", failure=None),
    )


def test_every_declaration_names_a_field_and_a_reason():
    for (kind, field), reason in DECLARED_DIFFERENCES.items():
        assert issubclass(kind, Record)
        assert field in kind.__struct_fields__
        assert reason.strip()


def test_nothing_declared_leaves_every_byte():
    assert blank_declared_fields(trace_of(), declared={}) == trace_of()
    assert comparable_text("any\r\ntext", declared={}) == "any\r\ntext"


def test_declared_field_is_hidden():
    pinned, pageable = render(trace_of()), render(trace_of(pinned=False))
    assert comparable_text(pinned, declared={}) != comparable_text(pageable, declared={})
    assert comparable_text(pinned, declared=PINNED) == comparable_text(pageable, declared=PINNED)


def test_field_beside_a_declared_one_is_still_compared():
    one, other = render(trace_of()), render(trace_of(bytes_=9))
    assert comparable_text(one, declared=PINNED) != comparable_text(other, declared=PINNED)


def test_field_of_the_same_name_in_another_kind_of_record_is_still_compared():
    declared = {(TensorRecord, "name"): "why"}
    hidden = blank_declared_fields(trace_of(), declared=declared)
    assert hidden.tensors[0].name == ""
    assert hidden.calls[0].arguments[0].name == "page_size"


def test_records_inside_records_are_reached():
    declared = {(Argument, "value"): "why"}
    hidden = blank_declared_fields(trace_of(value=64), declared=declared)
    assert hidden.calls[0].arguments[0].value == 0
    assert hidden == blank_declared_fields(trace_of(value=1), declared=declared)


def test_none_where_there_was_a_number_is_still_a_difference():
    declared = {(Argument, "value"): "why"}
    number = blank_declared_fields(trace_of(value=64), declared=declared)
    assert number != blank_declared_fields(trace_of(value=None), declared=declared)


def test_hidden_trace_is_still_a_trace():
    declared = {
        (TensorRecord, "pinned"): "why",
        (TensorRecord, "shape"): "why",
        (TensorRecord, "bytes"): "why",
    }
    text = comparable_text(render(trace_of()), declared=declared)
    [tensor] = msgspec.json.decode(text, type=Trace).tensors
    assert (tensor.pinned, tensor.shape, tensor.bytes) == (False, (), 0)
    assert tensor.aliases == "x"


def test_text_that_is_no_trace_is_refused():
    with pytest.raises(TraceFormatError):
        comparable_text("{}", declared=PINNED)
