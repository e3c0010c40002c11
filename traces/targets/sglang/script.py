"""Script of a scenario: back up, poison, load into other slots, read layer by layer.

Every buffer that can be reached from a device pool takes part: one that no load restores shows as
an unequal round trip. Pages go to storage and back where it is open; then a tree is driven.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType

import torch

from traces.schema.model import RoundTrip, StepRecord
from traces.targets.common.content import row_bytes
from traces.targets.common.planes import Plane
from traces.targets.common.round_trip import RoundTripComparison
from traces.targets.sglang.accessor_reads import AccessorReader
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.callbacks import run_callbacks
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.decode_requests import STEP as DECODE
from traces.targets.sglang.decode_requests import DecodeRequests, is_decode_server
from traces.targets.sglang.disaggregation import (
    answering_functions,
    slice_answers,
    state_answers,
)
from traces.targets.sglang.fences import FenceScript
from traces.targets.sglang.held_pools import (
    HeldPool,
    allocator_of,
    device_pools,
    host_group,
    host_pools,
)
from traces.targets.sglang.host_copies import STEP as COPIES
from traces.targets.sglang.host_copies import HostCopies
from traces.targets.sglang.host_pages import HostPages
from traces.targets.sglang.host_writes import HostWrites
from traces.targets.sglang.models import served_name
from traces.targets.sglang.own_slots import OwnSlots
from traces.targets.sglang.page_accesses import NumberedHostMemory, PageReader
from traces.targets.sglang.pool_answers import KnownMemory, ask_all
from traces.targets.sglang.pressure import PressureScript
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.row_writers import STEP as WRITES
from traces.targets.sglang.row_writers import RowWriters
from traces.targets.sglang.scenarios import REGISTERED_BACKENDS
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.slot_census import STEP as CENSUS
from traces.targets.sglang.slot_census import SlotCensus
from traces.targets.sglang.slot_operations import STEP as SLOTS
from traces.targets.sglang.slot_operations import SlotOperations
from traces.targets.sglang.storage_script import STORAGE, StorageScript, StoredNode, stored_nodes
from traces.targets.sglang.translated_slots import STEP as TRANSLATED
from traces.targets.sglang.translated_slots import TranslatedCopies, translated_pools
from traces.targets.sglang.tree_ledger import counted_pools
from traces.targets.sglang.tree_script import is_tree
from traces.targets.sglang.tree_steps import TreeSteps

POOLS = "pools"
_CONTROLLER_STEPS = ("backup", "reload", "finish")  # they end with a digest of every plane
_AUTHORS = ("first", "second")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUpNode:
    """Tokens that are backed up together."""

    author: str  # seeds the content of their rows
    device: dict[str, torch.Tensor]  # device slots by domain
    host: torch.Tensor  # what the controller's write returned
    # Host slots of the sidecars with slots of their own, by pool name.
    extra: dict[str, torch.Tensor]


class SglangScript:
    """Steps of one scenario; ``steps`` has their names in order."""

    def __init__(
        self,
        stack: AssembledStack,
        *,
        device: ScriptDevice,
        host_writes: HostWrites,
        reads_pages: bool,
    ) -> None:
        self._stack = stack
        self._host_writes = host_writes
        self._reads_pages = reads_pages
        self._definitions: dict[str, FunctionType] = {}
        self._device = device
        self._transfers = ControllerDriver(stack)
        self._rows = RowContents(stack, device=device, transfers=self._transfers)
        self._nodes: list[BackedUpNode] = []
        self._loaded: list[dict[str, torch.Tensor]] = []
        self._pools = tuple(counted_pools(stack))
        self._tree = TreeSteps(
            stack, device=device, rows=self._rows, transfers=self._transfers, pools=self._pools
        )
        self._steps: dict[str, Callable[[], Iterator[StepRecord]]] = {"backup": self._back_up_nodes}
        if stack.scenario.storage_backend == REGISTERED_BACKENDS:
            self._steps[STORAGE] = self._use_registered_backends
        else:
            self._steps |= self._all_steps()
        self.steps = tuple(self._steps)
        self._notes: list[str] = []

    def _all_steps(self) -> dict[str, Callable[[], Iterator[StepRecord]]]:
        steps: dict[str, Callable[[], Iterator[StepRecord]]] = {
            POOLS: self._ask_pools,
            "reload": self._reload_nodes,
            "finish": self._finish_reload,
            "fence": self._copy_behind_forward,
        }
        if translated_pools(self._stack):
            steps[TRANSLATED] = self._copy_translated
        if self._has_storage:
            steps[STORAGE] = self._store_and_fetch
        if is_tree(self._stack.cache):
            steps |= self._tree.steps
        else:
            steps["pressure"] = self._run_out_of_sidecars
        if self._has_storage and is_decode_server(self._stack.cache):
            steps[DECODE] = self._compute_tokens
        steps[CENSUS] = self._count_slots
        steps["callbacks"] = self._call_callbacks
        steps[COPIES] = self._copy_to_host
        steps[SLOTS] = self._operate_on_slots
        steps[WRITES] = self._write_rows
        if is_tree(self._stack.cache):
            steps |= self._tree.last_steps
        return steps

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The rows of all device pools."""
        return self._rows.planes

    def take_notes(self) -> list[str]:
        """Return, once, why a part of the scenario did not run, a line each."""
        notes, self._notes = self._notes, []
        return [*notes, *self._tree.take_notes()]

    def take_definitions(self) -> dict[str, FunctionType]:
        """Return, once, the functions of the methods that records name, by holder and method."""
        definitions, self._definitions = self._definitions, {}
        return definitions

    def run_step(self, step: str) -> Iterator[StepRecord]:
        """Run one of :attr:`steps`; yield its comparisons, then the digests of all planes."""
        yield from self._steps[step]()
        self._device.synchronize()
        if step in _CONTROLLER_STEPS:
            with self._device.pause_interception():
                yield from list(self._rows.digests(step))

    def _back_up_nodes(self) -> Iterator[StepRecord]:
        """Write two nodes on the device and back them up."""
        self._rows.poison("before")
        self._transfers.hold(["KV"])
        for pages, author in zip((2, 1), _AUTHORS, strict=True):
            slots = self._transfers.take(pages=pages)
            self._rows.write(self._rows.on_host(slots), author)
            host, extra = self._transfers.write(slots)
            self._nodes.append(BackedUpNode(author=author, device=slots, host=host, extra=extra))
        self._transfers.finish_writing()
        yield from ()

    def _ask_pools(self) -> Iterator[StepRecord]:
        """Ask every pool for what it tells others about its memory."""
        device, host = device_pools(self._stack), host_pools(self._stack)
        others = (*host, *host_group(self._stack))
        memory = KnownMemory(self._rows.planes, device=device, host=host)
        with self._device.pause_interception():
            yield from ask_all(device, others, memory, step=POOLS)
            yield from state_answers(self._stack, memory, step=POOLS)
            if self._reads_pages:
                yield from slice_answers(memory, step=POOLS)
            for pool in host if self._reads_pages else ():
                yield from self._page_accesses(pool, memory)
        self._definitions |= answering_functions()
        for pool in (*device, *others):
            self._definitions |= pool.definitions()

    def _page_accesses(self, held: HeldPool, memory: KnownMemory) -> Iterator[StepRecord]:
        """Compare the page methods of a host pool with what was backed up into it."""
        domain = self._transfers.domain_of(held.name)
        assert domain is not None, "a host pool's slots are its own or another pool's"
        own = NumberedHostMemory(held.pool, is_device=memory.is_device)
        slots = [node.extra.get(domain.name, node.host).cpu() for node in self._nodes]
        reader = PageReader(
            held,
            memory=own,
            page_size=domain.page_size,
            slots=torch.cat(slots),
            backed_up=own.backed_up(held.pool, self._host_writes),
        )
        yield from reader.accesses(step=POOLS)

    def _reload_nodes(self) -> Iterator[StepRecord]:
        """Poison the device, load both nodes into other slots and compare."""
        self._rows.poison("after")
        for node in self._nodes:
            self._transfers.return_slots(node.device)
        self._transfers.hold(self._nodes[0].device)
        before = self._rows.snapshot()
        loaded = [self._transfers.load(node.host, node.extra) for node in self._nodes]
        self._transfers.start_loading()
        yield from self._read_during_load(loaded)
        yield from self._compare_planes("reload", before, loaded)
        self._loaded = loaded

    def _read_during_load(self, loaded: list[dict[str, torch.Tensor]]) -> Iterator[StepRecord]:
        """Read every layer before the load has finished, through every accessor of the pools."""
        reader = AccessorReader(
            self._stack, device=self._device, planes=self._rows.planes, slots=loaded[0]
        )
        slots = self._rows.on_host(self._nodes[0].device)
        written = {
            (plane.name, buffer.layer): self._rows.content(
                plane, buffer, slots[plane.domain.name], _AUTHORS[0]
            )
            for plane in self._rows.planes
            for buffer in plane.layers
        }
        yield from reader.read_all(written)

    def _finish_reload(self) -> Iterator[StepRecord]:
        """Wait for the loads and free their slots."""
        self._transfers.finish_loading()
        for slots in self._loaded:
            self._transfers.return_slots(slots)
        yield from ()

    def _copy_translated(self) -> Iterator[StepRecord]:
        """Back up and load while the slots of pools are translated."""
        TranslatedCopies(self._stack, device=self._device, transfers=self._transfers).run()
        yield from ()

    def _copy_behind_forward(self) -> Iterator[StepRecord]:
        """Back up and load while a forward pass writes the same slots."""
        FenceScript(
            self._stack, device=self._device, rows=self._rows, transfers=self._transfers
        ).run()
        yield from ()

    def _run_out_of_sidecars(self) -> Iterator[StepRecord]:
        """Back up and load while the sidecars are full, so that the controller has to evict."""
        PressureScript(
            self._stack, pools=self._pools, rows=self._rows, transfers=self._transfers
        ).run()
        yield from ()

    def _store_and_fetch(self) -> Iterator[StepRecord]:
        """Write both nodes to storage and fetch them, whole and while pages are missing."""
        script, nodes = self._storage_script()
        yield from script.run_own_backend(nodes)
        self._notes += script.notes

    def _use_registered_backends(self) -> Iterator[StepRecord]:
        """Write both nodes to every backend that the release registers, and fetch them."""
        script, nodes = self._storage_script()
        model_name = served_name(self._stack.scenario.model)
        yield from script.run_registered_backends(nodes, model_name=model_name)
        self._notes += script.notes

    def _storage_script(self) -> tuple[StorageScript, tuple[StoredNode, ...]]:
        script = StorageScript(
            self._stack,
            rows=self._rows,
            transfers=self._transfers,
            compare=self._compare_planes,
        )
        pages = {node.author: HostPages(host=node.host, extra=node.extra) for node in self._nodes}
        return script, stored_nodes(pages)

    @property
    def _has_storage(self) -> bool:
        return bool(getattr(self._stack.controller, "enable_storage", False))

    def _compute_tokens(self) -> Iterator[StepRecord]:
        """Have a decode server copy the rows of its requests while they run."""
        self._transfers.release_held()
        yield from DecodeRequests(
            self._stack, rows=self._rows, transfers=self._transfers, pools=self._pools
        ).run()

    def _count_slots(self) -> Iterator[StepRecord]:
        """Count the slots that every pool hands out, once nothing holds any but nodes."""
        self._transfers.release_held()
        self._tree.flush()
        yield from SlotCensus(self._stack, pools=self._pools, device=self._device).run()

    def _call_callbacks(self) -> Iterator[StepRecord]:
        """Call every callback of every pool entry."""
        run_callbacks(self._stack.group, self._stack.cache, self._stack.evictions)
        yield from ()

    def _operate_on_slots(self) -> Iterator[StepRecord]:
        """Run the pools' own operations on slots, when everything else is over."""
        operations = SlotOperations(self._rows.planes, self._transfers.domains_by_pool())
        with self._device.pause_interception():
            for held in device_pools(self._stack):
                yield from operations.of_pool(held, step=SLOTS)

    def _write_rows(self) -> Iterator[StepRecord]:
        """Write rows by the setters of every device pool."""
        writers = RowWriters(self._rows.planes, self._transfers.domains_by_pool())
        with self._device.pause_interception():
            yield from writers.write_all(device_pools(self._stack))

    def _copy_to_host(self) -> Iterator[StepRecord]:
        """Copy slots to the host and back, by every pool and by the allocator before them."""
        allocator = allocator_of(self._stack)
        self._definitions |= allocator.definitions()
        slots = OwnSlots(self._stack, rows=self._rows, transfers=self._transfers)
        domains = self._transfers.domains_by_pool()
        with slots.taken() as own:
            copies = HostCopies(device=self._device, planes=self._rows.planes, slots=own)
            pools = []
            for held in (*device_pools(self._stack), allocator):
                found = (domains.get(id(one.pool)) for one in (held, *held.outer))
                pools.append((held, next(filter(None, found), None)))
            yield from copies.of_pools(pools)

    def _compare_planes(
        self, step: str, before: list[list[torch.Tensor]], loaded: list[dict[str, torch.Tensor]]
    ) -> list[RoundTrip]:
        """Compare every plane with the nodes' content, once all work is done."""
        self._device.synchronize()
        with self._device.pause_interception():
            return [
                self._compare_plane(step, plane, rows, loaded)
                for plane, rows in zip(self._rows.planes, before, strict=True)
            ]

    def _compare_plane(
        self,
        step: str,
        plane: Plane,
        before: list[torch.Tensor],
        loaded: list[dict[str, torch.Tensor]],
    ) -> RoundTrip:
        comparison = RoundTripComparison()
        for buffer, old in zip(plane.layers, before, strict=True):
            now = row_bytes(buffer.tensor)
            own = [buffer.rows_of(slots[plane.domain.name]) for slots in loaded]
            for node, rows in zip(self._nodes, own, strict=True):
                slots = node.device[plane.domain.name]
                written = self._rows.content(plane, buffer, slots, node.author)
                comparison.compare_rows(buffer, rows, served=now[rows], written=written)
            comparison.compare_rest(buffer, old, loaded=own)
        return comparison.record(step=step, pool=plane.pool, plane=plane.plane)
