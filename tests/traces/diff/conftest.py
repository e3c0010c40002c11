"""Recordings of a pretended stack, and records made by hand."""

from collections.abc import Callable

import msgspec
import pytest

from tests.traces.diff.nsa_stack import play_nsa
from traces.schema.model import (
    SCHEMA,
    Argument,
    Call,
    Failure,
    Outcome,
    Recording,
    ScenarioRecord,
    TensorRecord,
    Trace,
    name_of_label,
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
        return Call(
            call=label,
            parent=parent,
            caller=name_of_label(parent),
            step=step,
            role=role,
            callee=callee,
            arguments=tuple(arguments),
            returns=made,
            raises=None if raises is None else Failure(type=raises[0], message=raises[1]),
        )

    def builder(self, label: str, **given: object) -> Call:
        return self.call(label, role="builder", **given)

    def operation(self, label: str, **given: object) -> Call:
        return self.call(label, role="operation", **given)

    def tensor(
        self, owner: str, name: str, shape: tuple[int, ...], **fields: object
    ) -> TensorRecord:
        stride = tuple(1 for _ in shape)
        record = TensorRecord(
            owner=owner,
            side=owner.partition(".")[0],
            pool=owner.partition(".")[2],
            object=f"{owner}#1",
            name=name,
            planes=(),
            layer=None,
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
        return msgspec.structs.replace(trace, **fields)


@pytest.fixture
def records() -> Records:
    """Makes small traces by hand."""
    return Records()
