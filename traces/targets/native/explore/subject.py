"""A native stack under random traffic, compared with a model of its contents."""

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

import torch

from assembler.errors import TransferError
from assembler.names import ComponentType
from assembler.owner import EvictParams
from traces.explore import steps
from traces.explore.config import TrafficConfig
from traces.explore.steps import FAULT_SITES, TrafficStep
from traces.explore.subject import (
    QueueViolationError,
    RefusalViolationError,
    SlotsViolationError,
    unexpected_errors_as_violations,
)
from traces.simulator import SimDevice
from traces.targets.common.rows import launch_read
from traces.targets.native.explore.faults import FaultInjector
from traces.targets.native.explore.invariants import StackInvariants
from traces.targets.native.explore.request_traffic import RequestTraffic
from traces.targets.native.explore.small_stack import (
    LayerRead,
    build_small_stack,
    open_simulated_device,
)
from traces.targets.native.explore.storage_traffic import StorageTraffic
from traces.targets.native.explore.traffic_model import (
    LaunchedLoad,
    PendingRead,
    ReservedSlots,
    TrafficModel,
)
from traces.targets.native.scenarios import scenario_of_config

_MAX_LOADS_IN_FLIGHT = 3


class NativeTrafficSubject:
    """One stack, its simulated device, perhaps shared with other subjects, and the model.

    One with a shared device has no storage.
    """

    def __init__(self, config: TrafficConfig, device: SimDevice | None = None) -> None:
        self._seed = config.seed
        self._faults = FaultInjector()
        self._device = open_simulated_device(config) if device is None else device
        scenario = scenario_of_config(config.scenario.config, config.scenario.name)
        if device is not None:
            # Threads of storage are a block of their own, which those of the subjects cannot open.
            scenario = replace(scenario, storage_backend=None)
        with unexpected_errors_as_violations():
            self._stack = build_small_stack(scenario, device=self._device, faults=self._faults)
        self._cache = self._stack.cache
        self._model = TrafficModel()
        self._invariants = StackInvariants(stack=self._stack, state=self._model)
        self._requests = RequestTraffic(
            self._stack, model=self._model, faults=self._faults, seed=config.seed
        )
        self._storage = StorageTraffic(
            self._stack, model=self._model, faults=self._faults, reset=self._reset
        )

    def live_nodes(self) -> list[int]:
        """Return the numbers of the nodes that are on the device or on the host."""
        return list(self._model.nodes)

    def apply(self, step: TrafficStep) -> None:
        """Take a step and check slots and races; raises ViolationError."""
        with unexpected_errors_as_violations():
            self._apply(step)
            self._model.forget_dropped()
            self._invariants.check_slots()
        self._invariants.check_races()

    def finish(self) -> None:
        """Finish what is queued, compare all bytes, reset, and expect every slot to be free."""
        self._faults.disarm()
        with unexpected_errors_as_violations():
            self._release_reserved()
            self._drain_queues()
            self._launch()
            while self._model.launched:
                self._forward(-1)
            self._drain_queues()
            self._storage.finish()
            self._invariants.check_locks()
            with self._storage.survived():
                self._reset()
            self._invariants.check_slots()
            with self._storage.survived():
                self._stack.controller.shutdown()
        self._invariants.check_races()

    def _apply(self, step: TrafficStep) -> None:  # noqa: C901 - one branch for each step
        match step:
            case steps.Insert() | steps.Extend() | steps.AbortRequest():
                self._requests.apply(step)
            case steps.Backup() if step.node in self._model.nodes:
                self._backup(step.node)
            case steps.LoadBack() if step.node in self._model.nodes:
                self._load(step.node)
            case steps.Backup() | steps.LoadBack():
                pass
            case steps.CheckWrites():
                self._cache.writing_check(write_back=step.wait)
            case steps.CheckLoads():
                self._cache.loading_check()
            case steps.Launch():
                self._launch()
            case steps.Forward():
                self._forward(step.node)
            case steps.Evict():
                self._evict(step)
            case steps.EvictHost():
                self._evict_host(step)
            case steps.ReserveSlots():
                self._reserve_slots(step)
            case steps.ReleaseReserved():
                self._release_reserved()
            case steps.InjectFault():
                self._faults.arm(step.site, after=step.after, times=step.times)
            case steps.StepDevice():
                self._device.host_access(label="advance", reads=(), writes=())
            case steps.DrainQueues():
                self._drain_queues()
            case steps.ResetCache():
                with self._storage.survived():
                    self._reset()
            case (
                steps.Fetch()
                | steps.CheckFetch()
                | steps.AbortFetch()
                | steps.CheckStorage()
                | steps.DetachStorage()
            ):
                self._storage.apply(step)
            case _:
                assert_never(step)

    def _backup(self, number: int) -> None:
        node = self._model.nodes[number].node
        with self._faults.allow(*FAULT_SITES), self._faults.injected_only():
            if self._cache.write_backup(node) or self._faults.fired:
                return
            room = {part: self._stack.host_owner(part).available_size() for part in node.device}
            self._expect_no_room(f"backup of node {number}", node.device, room)

    def _load(self, number: int) -> None:
        node = self._model.nodes[number].node
        missing = self._model.nodes[number].missing_slots()
        with self._faults.allow(*FAULT_SITES), self._faults.injected_only():
            queued = len(self._stack.controller.load_queue)
            if self._cache.load_back(node) is not None:
                if len(self._stack.controller.load_queue) > queued:
                    self._model.locks[number] = self._cache.inc_lock_ref(node)
                    self._model.queued.append(number)
                return
            if not self._faults.fired:
                owners = self._stack.device_slots
                room = {part: owners[part].available_size() for part in missing}
                self._expect_no_room(f"load of node {number}", missing, room)

    @staticmethod
    def _expect_no_room(
        what: str, wanted: Mapping[ComponentType, torch.Tensor], room: dict[ComponentType, int]
    ) -> None:
        if all(len(slots) <= room[part] for part, slots in wanted.items()):
            need = {str(part): len(slots) for part, slots in wanted.items()}
            raise RefusalViolationError(f"{what} needs {need}, refused with {room} free")

    def _launch(self) -> None:
        queued = self._model.queued
        with self._faults.allow(*FAULT_SITES), self._faults.injected_only():
            producer = self._launched_at()
            if producer is None:
                return
            if (producer < 0) != (not queued):
                raise QueueViolationError(f"nodes {queued} were queued; launched at {producer}")
            if queued:
                self._model.launched.append(LaunchedLoad(producer=producer, numbers=queued))
            self._model.queued = []
            return
        self._release(queued)
        self._model.queued = []

    def _launched_at(self) -> int | None:
        """Launch; return the place in the ring, or None where the ring is rightly full."""
        try:
            return self._cache.ready_to_load()
        except TransferError:
            controller = self._stack.controller
            if controller.load_queue and len(controller.ack_load_queue) >= _MAX_LOADS_IN_FLIGHT:
                return None
            raise

    def _release(self, numbers: list[int]) -> None:
        for number in numbers:
            lock = self._model.locks.pop(number)
            self._cache.dec_lock_ref(self._model.nodes[number].node, lock.to_dec_params())

    def _forward(self, number: int) -> None:
        """Read the nodes of the oldest launch, and one more that is ready by then."""
        state = self._model
        batch = state.launched.pop(0) if state.launched else LaunchedLoad(producer=-1, numbers=[])
        later = {*state.queued, *(at for launched in state.launched for at in launched.numbers)}
        readers = list(batch.numbers)
        waiting = list(state.known(later))
        is_other = number in state.nodes and number not in readers
        # Nodes that others share may be loaded for them, later.
        if is_other and not state.nodes[number].shares_nodes(waiting):
            readers.append(number)
        self._stack.controller.layer_done_counter.set_consumer(batch.producer)
        for read in self._stack.reads:
            read.getter()
            for reader in readers:
                self._read(reader, read)
        self._release(batch.numbers)

    def _read(self, number: int, read: LayerRead) -> None:
        """Copy a node's rows of one layer on the default stream, to be compared later."""
        known = self._model.nodes[number]
        slots = known.slots(self._stack.rows[read.pool][0].component, "device")
        if slots is None:
            return
        contents = known.content[read.pool]
        for buffer, content in zip(self._stack.rows[read.pool], contents, strict=True):
            if buffer.layer == read.layer:
                copied = launch_read(self._device, buffer, slots)
                reader_name = f"reader of node {number} in {buffer.label}"
                wanted = known.rows(buffer, content, len(slots))
                self._model.pending_reads.append(
                    PendingRead(reader=reader_name, copied=copied, content=wanted)
                )

    def _evict(self, step: steps.Evict) -> None:
        component = ComponentType(step.part)
        owners = self._stack.device_slots
        if component not in owners:
            return
        wanted = {component: self._slots_of(component, step.pages)}
        before = {part: owner.available_size() for part, owner in owners.items()}
        with self._faults.allow(*FAULT_SITES), self._faults.injected_only():
            freed = self._cache.evict(
                EvictParams(
                    num_tokens=wanted.get(ComponentType.FULL, 0),
                    swa_num_tokens=wanted.get(ComponentType.SWA, 0),
                    mamba_num=wanted.get(ComponentType.MAMBA, 0),
                )
            )
            reported = {
                ComponentType.FULL: freed.num_tokens_evicted,
                ComponentType.SWA: freed.swa_num_tokens_evicted,
                ComponentType.MAMBA: freed.mamba_num_evicted,
            }
            for part, owner in owners.items():
                got = owner.available_size() - before[part]
                _expect_freed(f"device {part}", got, reported[part])

    def _evict_host(self, step: steps.EvictHost) -> None:
        component = ComponentType(step.part)
        if component not in self._stack.device_slots:
            return
        pool = self._stack.host_owner(component)
        before = pool.available_size()
        reported = self._cache.evict_host(self._slots_of(component, step.pages), component)
        _expect_freed(f"host {component}", pool.available_size() - before, reported)

    def _slots_of(self, component: ComponentType, pages: int) -> int:
        return pages if component is ComponentType.MAMBA else pages * self._stack.tokens

    def _reserve_slots(self, step: steps.ReserveSlots) -> None:
        component = ComponentType(step.part)
        owners = self._stack.device_slots
        if component not in owners:
            return
        pool = self._stack.host_owner(component)
        owner = owners[component] if step.side == "device" else pool
        need = owner.available_size() - self._slots_of(component, step.spare)
        slots = owner.alloc(need) if need > 0 else None
        if slots is not None:
            self._model.reserved.append(ReservedSlots(owner=owner, slots=slots))

    def _release_reserved(self) -> None:
        for reserved in self._model.reserved:
            reserved.owner.free(reserved.slots)
        self._model.reserved.clear()

    def _reset(self) -> None:
        """Reset the cache, which frees reserved host slots, too."""
        self._cache.reset()
        self._model.forget_cache()

    def _drain_queues(self) -> None:
        self._device.synchronize()
        self._invariants.check_races()
        self._cache.writing_check()
        self._cache.loading_check()
        self._invariants.check_queues()
        for read in self._model.pending_reads:
            self._invariants.compare(read.reader, read.copied, read.content)
        self._model.pending_reads.clear()
        for number in self._model.nodes:
            self._invariants.check_node(number)


def _expect_freed(what: str, got: int, reported: int) -> None:
    if got != reported:
        raise SlotsViolationError(f"{what}: {got} slots freed, {reported} reported")
