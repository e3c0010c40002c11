"""Random traffic on a storage tier that fails, under random schedules of its threads."""

import hashlib

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from assembler.device import tensor_access
from assembler.names import ComponentType, PoolName
from assembler.storage.files import FOLDER_VARIABLE
from assembler.storage.hooks import NodeBackup, Prefetch
from assembler.storage.paged import PagedStorage
from tests.assembler.small_models import nsa_pool, params_of
from tests.assembler.stacks.builder_calls import shared_anchor
from tests.assembler.storage.stores import FailingBlobs
from traces.simulator import Schedule, SchedulePolicy, SimDevice
from traces.targets.common.content import overwrite, pattern

PAGE, MOST_PAGES, SEQUENCES = 4, 4, 1
OPTIONS = {"prefetch_policy": "wait_complete"}


class StorageTraffic(RuleBasedStateMachine):
    """A page that a prefetch reports has the bytes of its key; no slot is lost, nothing races."""

    @initialize(seed=st.integers(0, 10**6), policy=st.sampled_from(SchedulePolicy))
    def build(self, seed, policy):
        schedule = Schedule(seed=seed, policy=policy)
        self.device = SimDevice(schedule=schedule, capacity_bytes=None, raise_races=True)
        self.group, self.controller = shared_anchor(params_of(nsa_pool(self.device)))
        self.blobs = FailingBlobs()
        self.backups, self.prefetches, self.number = {}, {}, 0
        self.attach()

    def attach(self):
        self.controller.attach_storage_backend("file", PAGE, "m", OPTIONS)
        self.tier = self.controller.storage_tier
        self.tier.storage.blobs = self.blobs

    @rule(sequence=st.integers(0, SEQUENCES - 1), page_num=st.integers(1, MOST_PAGES))
    def back_up(self, sequence, page_num):
        slots = self.group.alloc(page_num * PAGE)
        if slots is None:
            return
        keys = self.keys(sequence, page_num)
        for key, slot in zip(keys, slots[::PAGE].tolist(), strict=True):
            self.write(key, slot)
        self.number += 1
        self.backups[self.number] = slots
        host = {ComponentType.FULL: slots}
        self.tier.start_backup(NodeBackup(node_id=self.number, keys=keys, host=host))

    @rule(
        sequence=st.integers(0, SEQUENCES - 1),
        page_num=st.integers(1, MOST_PAGES),
        is_healthy=st.booleans(),
    )
    def start_prefetch(self, sequence, page_num, is_healthy):
        if is_healthy:
            self.blobs.errors.clear()
        slots = self.group.alloc(page_num * PAGE)
        if slots is None:
            return
        self.number += 1
        request, keys = str(self.number), self.keys(sequence, page_num)
        host = {ComponentType.FULL: slots}
        prefetch = Prefetch(request_id=request, keys=keys, prefix_keys=(), host=host)
        if self.tier.start_prefetch(prefetch):
            self.prefetches[request] = (keys, slots)
        else:
            self.group.free(slots)

    @rule(page_num=st.integers(1, MOST_PAGES), abort=st.booleans())
    def store_and_fetch(self, page_num, abort):
        """Do what leads to a hit, in one step: single steps rarely come in this order."""
        self.blobs.errors.clear()
        self.back_up(0, page_num)
        while self.backups:
            self.poll_backups()
        self.start_prefetch(0, page_num, is_healthy=True)
        if self.prefetches:
            self.finish(sorted(self.prefetches)[-1], abort=abort)

    @precondition(lambda self: self.prefetches)
    @rule(data=st.data(), abort=st.booleans())
    def finish_prefetch(self, data, abort):
        self.finish(data.draw(st.sampled_from(sorted(self.prefetches))), abort=abort)

    def finish(self, request, *, abort):
        while (result := self.tier.finish_prefetch(request, abort=abort)) is None:
            pass
        keys, slots = self.prefetches.pop(request)
        firsts = slots[::PAGE].tolist()[: result.page_num]
        for key, slot in zip(keys, firsts, strict=False):
            self.check(key, slot)
        self.overwrite_and_free(slots)

    @rule()
    def poll_backups(self):
        for number in self.tier.finished_backups():
            self.overwrite_and_free(self.backups.pop(number))

    @rule()
    def reset(self):
        self.controller.reset()
        self.forget()

    @rule()
    def detach_and_attach(self):
        self.controller.detach_storage_backend()
        self.forget()
        self.attach()

    @rule(operation=st.sampled_from(["get", "put", "exists", "remove"]))
    def fail(self, operation):
        self.blobs.fail(operation)

    @precondition(lambda self: self.blobs.kept)
    @rule(data=st.data())
    def damage(self, data):
        name = data.draw(st.sampled_from(sorted(self.blobs.kept)))
        self.blobs.kept[name] = self.blobs.kept[name][:-1] + b"?"

    @invariant()
    def every_slot_has_one_owner(self):
        if hasattr(self, "group"):
            owned = [*self.backups.values(), *(slots for _, slots in self.prefetches.values())]
            assert sum(map(len, owned)) + self.group.available_size() == self.group.size
            assert self.device.races == []

    def teardown(self):
        if hasattr(self, "controller"):
            self.controller.shutdown()
            self.forget()
            self.every_slot_has_one_owner()

    def forget(self):
        """Use the slots of everything that was ended; a thread that still touches them races."""
        for slots in self.backups.values():
            self.overwrite_and_free(slots)
        for _, slots in self.prefetches.values():
            self.overwrite_and_free(slots)
        self.backups, self.prefetches = {}, {}

    def keys(self, sequence, page_num):
        tokens = [sequence] * (page_num * PAGE)
        return tuple(self.tier.page_keys(tokens, prior=None, namespace=None))

    def blocks(self, key, slot):
        for name in (PoolName.KV, PoolName.INDEXER):
            pool = self.group.get_pool(name)
            for place, block in enumerate(pool.page_blocks(slot)):
                label = hashlib.sha256(f"{name} {key} {place}".encode()).hexdigest()
                yield block, pattern(label, (1, block.nbytes))

    def write(self, key, slot):
        for block, content in self.blocks(key, slot):
            writes = (tensor_access(block),)
            self.device.host_access(label="write", reads=(), writes=writes)
            overwrite(block, content)

    def check(self, key, slot):
        for block, content in self.blocks(key, slot):
            reads = (tensor_access(block),)
            self.device.host_access(label="check", reads=reads, writes=())
            assert torch.equal(block.view(torch.uint8).view(-1), content.view(-1))

    def overwrite_and_free(self, slots):
        for slot in slots[::PAGE].tolist():
            self.write("somebody else", slot)
        self.group.free(slots)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))


def run_traffic():
    machine = StorageTraffic.TestCase
    machine.settings = settings(
        max_examples=25,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    machine().runTest()


def test_what_storage_brings_is_what_was_stored_under_every_schedule():
    run_traffic()


def test_traffic_finds_pages_that_are_said_to_arrive_and_do_not(monkeypatch):
    monkeypatch.setattr(PagedStorage, "fetch_page", lambda self, pool, page_hash, slot: True)
    with pytest.raises(AssertionError):
        run_traffic()
