"""Recordings of a pretended stack, and records made by hand."""

from collections.abc import Callable

import msgspec
import pytest

from tests.traces.diff.nsa_stack import play_nsa
from tests.traces.record_facts import failure, objects_of, part_of, path_of
from traces.schema.labels import name_of_label
from traces.schema.model import (
    SCHEMA,
    Argument,
    Call,
    Outcome,
    Recording,
    ScenarioRecord,
    TensorRecord,
    Trace,
)


@pytest.fixture
def nsa() -> Callable[..., Recording]:
    """Plays the stack with edits: ``nsa("drop override in attach")``."""
    return play_nsa


class Records:
    """Makes literal records with as few words as possible."""

    def call(
        self,
        label: str,
        *,
        parent: str = "",
        role: str = "constructor",
        step: str = "",
        defaulted: dict | None = None,
        returns: object = None,
        raises: tuple[str, str] | None = None,
        **given: object,
    ) -> Call:
        callee = label.partition("#")[0]
        arguments = [Argument(name=name, value=value, given=True) for name, value in given.items()]
        arguments += [
            Argument(name=name, value=value, given=False)
            for name, value in (defaulted or {}).items()
        ]
        made = {"ref": label} if role == "constructor" and raises is None else returns
        raised = None if raises is None else failure(*raises)
        error = None if raised is None else raised.unbound
        return Call(
            call=label,
            parent=parent,
            caller=name_of_label(parent),
            step=step,
            role=role,
            part=part_of(callee, role),
            callee=callee,
            arguments=tuple(arguments),
            returns=made,
            raises=raised,
            # Of a recorded callable the recorder knows itself what did not fit.
            unbound=error if error is not None and error.function == callee else None,
        )

    def builder(self, label: str, **given: object) -> Call:
        return self.call(label, role="builder", **given)

    def operation(self, label: str, **given: object) -> Call:
        return self.call(label, role="operation", **given)

    def tensor(
        self,
        owner: str,
        name: str,
        shape: tuple[int, ...],
        *,
        is_named: bool = True,
        **fields: object,
    ) -> TensorRecord:
        stride, path = tuple(1 for _ in shape), path_of(name)
        record = TensorRecord(
            owner=owner,
            is_named=is_named,
            side=owner.partition(".")[0],
            pool=owner.partition(".")[2],
            object=f"{owner}#1",
            name=name,
            attribute=path.attribute,
            index=path.index,
            planes=(),
            layer=None,
            layer_num=0,
            row_bytes=0,
            slots_per_row=0,
            shape=shape,
            dtype="uint8",
            stride=stride,
            layout="",
            bytes=1,
            pinned=False,
            aliases="",
        )
        return msgspec.structs.replace(record, **fields)

    def trace(self, *calls: Call, **fields: object) -> Trace:
        trace = Trace(
            schema=SCHEMA,
            scenario=ScenarioRecord(name="small", config={}),
            calls=calls,
            tensors=(),
            events=(),
            digests=(),
            outcome=Outcome(ok=True, failed_step="", failure=None),
        )
        trace = msgspec.structs.replace(trace, **fields)
        return msgspec.structs.replace(trace, objects=objects_of(trace.calls, trace.tensors))


@pytest.fixture
def records() -> Records:
    """Makes small traces by hand."""
    return Records()
