"""Facts that a recorder would put into hand-made records, from the names that tests give them."""

import re
from collections.abc import Iterable

import msgspec

from traces.diff.values import references_in
from traces.recording.failures import failure_of
from traces.recording.probes import BufferPath
from traces.schema.labels import name_of_label
from traces.schema.model import Call, Failure, Part, TensorRecord
from traces.targets.common.probes import builder_part

_PARTS: dict[str, Part] = {
    "PoolEntry": "entry",
    "HostPoolGroup": "group",
    "HybridCacheController": "controller",
}


def part_of(callee: str, role: str) -> Part:
    """Return what a callee makes or belongs to."""
    if role == "builder":
        return builder_part(callee)
    name = callee.partition(".")[0]
    return _PARTS.get(name, "pool" if role == "constructor" else "")


def objects_of(calls: Iterable[Call], tensors: Iterable[TensorRecord] = ()) -> dict[str, str]:
    """Return the class of every object that records refer to, in order of first sight."""
    values = [msgspec.to_builtins((call.arguments, call.returns)) for call in calls]
    labels = [*references_in(values), *(tensor.object for tensor in tensors)]
    return {label: name_of_label(label) for label in labels if name_of_label(label)}


def path_of(name: str) -> BufferPath:
    """Return the path of a buffer's name: ``k_buffer[3]``."""
    index = tuple(map(int, re.findall(r"\[(\d+)\]", name)))
    return BufferPath(text=name, attribute=re.sub(r"\[\d+\]", "", name), index=index)


def failure(type_name: str, message: str) -> Failure:
    """Return the failure that an exception of a type and text gives."""
    base = TypeError if type_name == "TypeError" else Exception
    return failure_of(type(type_name, (base,), {})(message))
