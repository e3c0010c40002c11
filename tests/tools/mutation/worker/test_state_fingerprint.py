"""The state of a stack as a digest: equal, or another one."""

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from tools.mutation.worker.state_fingerprint import fingerprint


@dataclass(slots=True)
class Slotted:
    free: list = field(default_factory=list)


def state(**attributes):
    return fingerprint({"root": SimpleNamespace(**attributes)})


def test_fingerprint_ignores_identity_and_order_of_attributes():
    assert state(a=[1], b=torch.zeros(3)) == state(b=torch.zeros(3), a=[1])


@pytest.mark.parametrize(
    "other",
    [
        {"a": [2], "b": torch.zeros(3)},
        {"a": [1], "b": torch.ones(3)},
        {"a": [1], "b": torch.zeros(3, dtype=torch.int32)},
        {"a": [1], "b": torch.zeros(3, 1)},
        {"a": (1,), "b": torch.zeros(3)},
    ],
)
def test_fingerprint_sees_what_differs(other):
    assert state(a=[1], b=torch.zeros(3)) != state(**other)


def test_fingerprint_sees_slots_closures_and_sharing():
    def made(number):
        return lambda: number

    assert state(a=Slotted([1])) != state(a=Slotted([2]))
    assert state(a=made(1)) != state(a=made(2))
    shared = [1]
    assert state(a=shared, b=shared) != state(a=[1], b=[1])


def test_what_threads_change_while_it_is_looked_through_is_read():
    class Changes(str):
        def __repr__(self):
            waiting.append("more")
            named[len(named)] = "more"
            return "changes"

    waiting, named = deque([Changes()]), {"first": Changes()}
    assert state(a=waiting) != state(a=deque())
    assert state(a=named) != state(a={})


def test_fingerprint_sees_the_content_of_numpy_arrays():
    assert state(a=np.zeros(3)) == state(a=np.zeros(3))
    assert state(a=np.zeros(3)) != state(a=np.ones(3))


def test_nothing_is_told_of_an_object_that_only_its_extension_can_read():
    assert state(a=msgspec.json.Encoder()) == ""
    assert state(a=threading.Lock()) != ""
    assert state(a=torch.float32) != ""
    assert state(a=Slotted()) != ""
    assert state(a=[].append) != ""


def test_state_behind_a_method_of_a_builtin_and_a_view_of_a_mapping_counts():
    assert state(a=[1].append) != state(a=[2].append)
    assert state(a=MappingProxyType({1: 2})) == state(a=MappingProxyType({1: 2}))
    assert state(a=MappingProxyType({1: 2})) != state(a=MappingProxyType({1: 3}))


def test_fingerprint_of_a_storage_held_weakly_is_not_its_address():
    def kept_with(tensor, other):
        return state(kept=tensor, known=[StorageWeakRef(other.untyped_storage())])

    one, other = torch.zeros(3), torch.zeros(3)
    assert kept_with(one, one) == kept_with(other, other)
    assert kept_with(one, one) != kept_with(one, other)


def test_fingerprint_sees_where_a_count_stands():
    begun = itertools.count()
    next(begun)
    assert state(number=itertools.count()) == state(number=itertools.count())
    assert state(number=begun) != state(number=itertools.count())


def test_fingerprint_tells_addresses_by_what_lies_there():
    def table_of(rows):
        table = torch.tensor([rows.data_ptr() + 8, 7], dtype=torch.uint64)
        return state(rows=rows, table=table, first=rows.data_ptr())

    # Both live at once: memory that is given back may be handed out again.
    one, other = torch.zeros(64), torch.zeros(64)
    assert one.data_ptr() != other.data_ptr()
    assert table_of(one) == table_of(other)


def test_fingerprint_sees_an_address_beside_the_right_one():
    rows = torch.zeros(64)
    right, wrong = (torch.tensor([rows.data_ptr() + skip]) for skip in (0, 4))
    assert state(rows=rows, table=right) != state(rows=rows, table=wrong)


def test_fingerprint_does_not_tell_when_something_was_done():
    assert state(created=time.monotonic()) == state(created=time.monotonic())
    assert state(created=time.time()) == state(created=time.time())
    assert state(timeout=30.5) != state(timeout=30.25)


def test_fingerprint_does_not_tell_from_which_line_something_was_done():
    assert state(sites=[("tools/one.py", 3)]) == state(sites=[("tools/one.py", 4)])
    assert state(sizes=[("rows", 3)]) != state(sizes=[("rows", 4)])
