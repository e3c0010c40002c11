"""Invariants of a native stack under random traffic."""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from assembler.device_pools.base import SlotAllocator
from assembler.host_pools.base import HostKVCache
from traces.explore.subject import (
    BytesViolationError,
    QueueViolationError,
    RaceViolationError,
    SlotsViolationError,
)
from traces.simulator import DetectedRace
from traces.targets.native.explore.host_rows import host_content
from traces.targets.native.explore.small_stack import SmallStack
from traces.targets.native.explore.traffic_model import TrafficModel

_MAX_RACES_SHOWN = 2
_GUARDED_PREFIX = "assembler/"


class StackInvariants:
    """Checks of a stack against the model; each raises a violation or returns."""

    def __init__(self, *, stack: SmallStack, state: TrafficModel) -> None:
        self._stack = stack
        self._model = state

    def check_node(self, number: int) -> None:
        """Compare the bytes of a node on both sides; the device is idle."""
        known = self._model.nodes[number]
        # A queued load has given its nodes slots that hold nothing yet, shared ones among them.
        is_queued = known.shares_nodes(self._model.known(self._model.queued))
        for name, contents in known.content.items():
            buffers = self._stack.rows[name]
            device = known.slots(buffers[0].component, "device")
            if device is not None and not is_queued:
                for buffer, content in zip(buffers, contents, strict=True):
                    subject = f"node {number} on the device in {buffer.label}"
                    wanted = known.rows(buffer, content, len(device))
                    self.compare(subject, buffer.tensor[buffer.rows_of(device)], wanted)
            host = known.slots(buffers[0].component, "host")
            if host is not None:
                mirrored = host_content(self._stack.mirrors[name], host)
                for buffer, rows, content in zip(buffers, mirrored, contents, strict=True):
                    wanted = known.rows(buffer, content, len(host))
                    self.compare(f"node {number} on the host in {buffer.label}", rows, wanted)

    @staticmethod
    def compare(subject: str, got: torch.Tensor, content: torch.Tensor) -> None:
        """Expect the rows in ``got`` to have the bytes of ``content``."""
        rows = got.contiguous().reshape(len(content), -1).view(torch.uint8)
        if not torch.equal(rows, content):
            wrong = (rows != content).any(dim=1).nonzero().flatten().tolist()
            raise BytesViolationError(f"{subject}: rows {wrong} of {len(content)} are wrong")

    def check_queues(self) -> None:
        """Expect that no work is left; the device is idle and acknowledgements were checked."""
        controller = self._stack.controller
        left = {
            "write_queue": len(controller.write_queue),
            "ack_write_queue": len(controller.ack_write_queue),
            "ack_load_queue": len(controller.ack_load_queue),
            "ongoing_write_through": len(self._stack.cache.ongoing_write_through),
            "load_queue": len(controller.load_queue) - len(self._model.queued),
            "ongoing_load_back": len(self._stack.cache.ongoing_load_back) - len(self._model.queued),
        }
        for name, number in left.items():
            if number:
                raise QueueViolationError(f"{name}: {number} left when all work was done")

    def check_locks(self) -> None:
        """Expect that no node is locked."""
        for node in self._stack.cache.nodes():
            if node.lock_ref or node.host_lock_ref:
                locks = f"{node.lock_ref} locks and {node.host_lock_ref} of storage"
                raise QueueViolationError(f"node {node.id}: {locks} left at the end")

    def check_slots(self) -> None:
        """Expect that every slot is free or has one owner."""
        nodes = list(self._stack.cache.nodes())
        prefetches = self._stack.cache.ongoing_prefetch.values()
        for component, owner in self._stack.device_slots.items():
            on_device = [node.device[component] for node in nodes if component in node.device]
            self._check_owner(f"device {component}", owner, on_device)
            on_host = [node.host[component] for node in nodes if component in node.host]
            on_host += [one.host[component] for one in prefetches if component in one.host]
            self._check_owner(f"host {component}", self._stack.host_owner(component), on_host)

    def _check_owner(
        self, what: str, owner: SlotAllocator | HostKVCache, taken: list[torch.Tensor]
    ) -> None:
        reserved = [one.slots for one in self._model.reserved if one.owner is owner]
        slots = [slot for part in (*taken, *reserved) for slot in part.tolist()]
        if len(set(slots)) != len(slots):
            twice = sorted(slot for slot, times in Counter(slots).items() if times > 1)
            raise SlotsViolationError(f"{what}: slots {twice} have two owners")
        free = owner.available_size()
        if len(slots) + free != owner.size:
            got = f"{len(slots)} slots owned and {free} free of {owner.size}"
            raise SlotsViolationError(f"{what}: {got}")

    def check_races(self) -> None:
        """Expect that the device saw no race."""
        if self._stack.device.races:
            raise RaceViolationError("\n".join(_describe_races(self._stack.device.races)))


def _describe_races(races: Sequence[DetectedRace]) -> Iterator[str]:
    """Yield the first races with the lines that led there, and how many more there are."""
    for race in races[:_MAX_RACES_SHOWN]:
        yield str(race)
        for actor in (race.first, race.second):
            path = actor.site.path.split(" < ")
            if lines := [line for line in path if line.startswith(_GUARDED_PREFIX)]:
                yield f"  {actor.label!r} comes from {' < '.join(lines)}"
    if len(races) > _MAX_RACES_SHOWN:
        yield f"and {len(races) - _MAX_RACES_SHOWN} more of the kind"
