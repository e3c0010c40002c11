from types import SimpleNamespace

import pytest

from traces.recording.event_log import EventLog
from traces.recording.object_ids import OwnerNames
from traces.recording.probes import TransferObservation

SLOTS = {"device": "4-7", "host": "0-3"}


class DeferringEncoder:
    """Knows slots on a device only when it is settled."""

    def __init__(self):
        self.waiting = []

    def slots(self, tensor):
        if not tensor.is_cuda:
            # Another object at each call, as text that is written anew.
            return {"slots": "".join(list(SLOTS[tensor.name]))}
        holder = {"slots": ""}
        self.waiting.append((holder, tensor.name))
        return holder

    def settle(self):
        for holder, name in self.waiting:
            holder["slots"] = SLOTS[name]


@pytest.fixture
def encoder():
    return DeferringEncoder()


@pytest.fixture
def owners():
    return OwnerNames()


@pytest.fixture
def log(encoder, owners):
    return EventLog(None, encoder=encoder, owners=owners, buffers=None, label=lambda pool: pool)


def transfer(*, device_pool=None, on_device=(False, False)):
    sides = {
        f"{name}_slots": SimpleNamespace(name=name, is_cuda=is_cuda)
        for name, is_cuda in zip(("device", "host"), on_device, strict=True)
    }
    return TransferObservation(
        direction="load",
        host_pool="Host#1",
        device_pool=device_pool,
        plane="k",
        layer=1,
        rows=4,
        bytes=64,
        backend="kernel",
        stream="load",
        **sides,
    )


def test_pools_have_the_names_that_they_get_after_a_transfer(log, owners):
    log.add(transfer(), step="fill")
    log.add(transfer(device_pool="DRAFT"), step="fill")
    owners.name("Host#1", side="host", pool="KV")

    first, second = log.events()

    assert (first.pool, first.device_pool) == ("KV", "KV")
    assert (second.pool, second.device_pool) == ("KV", "DRAFT")
    assert (first.step, first.layer, first.row_bytes, first.bytes) == ("fill", 1, 16, 64)
    # Asked again, they are the same.
    assert log.events() == (first, second)


@pytest.mark.parametrize("on_device", [(False, False), (True, False), (False, True), (True, True)])
def test_slots_on_a_device_are_those_that_are_known_at_the_end(log, encoder, on_device):
    log.add(transfer(on_device=on_device), step="fill")
    encoder.settle()

    (event,) = log.events()

    assert (event.device_slots, event.host_slots) == ("4-7", "0-3")


def test_equal_slots_are_one_text(log):
    for _ in range(2):
        log.add(transfer(), step="fill")

    first, second = log.events()

    assert first.device_slots is second.device_slots
