"""Script over the storage tier: pages are stored, fetched into other host slots, and lost."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import torch

from assembler.controller.storage_tier import StorageTier
from assembler.device import tensor_access
from assembler.host_pools.base import HostKVCache
from assembler.names import ComponentType, PoolName
from assembler.storage.files import FOLDER_VARIABLE
from assembler.storage.hooks import NodeBackup, Prefetch, PrefetchResult
from assembler.storage.paged import PagedStorage
from traces.schema.model import Digest, StepRecord
from traces.schema.storage_records import StorageMatch
from traces.simulator import SimDevice
from traces.targets.common.content import digest, overwrite, pattern, poison
from traces.targets.common.labels import FoundRace
from traces.targets.common.runtime import open_device
from traces.targets.native.builders import MODEL_NAME, build_stack, builder_inputs
from traces.targets.native.errors import NativeScenarioError
from traces.targets.native.models import FAMILY_OF
from traces.targets.native.pools import RankGroups, geometry_of
from traces.targets.native.races import RowPlaces
from traces.targets.native.rows import host_pools_by_name, row_buffers, tensors_of
from traces.targets.native.scenarios import NativeScenario

BACKEND = "file"
PAGES = 4
WINDOW_PAGES = 2
FEWEST_PAGES = 2
OPTIONS: dict[str, object] = {"prefetch_policy": "wait_complete", "prefetch_timeout_max": 93}

_POOLS = {
    ComponentType.FULL: PoolName.KV,
    ComponentType.SWA: PoolName.SWA,
    ComponentType.MAMBA: PoolName.MAMBA,
}

Slots: TypeAlias = Mapping[ComponentType, torch.Tensor]
Step: TypeAlias = Callable[[], Iterator[StorageMatch] | None]


@contextmanager
def storage_folder(path: str) -> Iterator[None]:
    """Let files of pages lie below ``path`` where storage is attached meanwhile."""
    # By a variable: an option would be recorded, and the folder is another one in every run.
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = path
    try:
        yield
    finally:
        if before is None:
            del os.environ[FOLDER_VARIABLE]
        else:
            os.environ[FOLDER_VARIABLE] = before


class StorageTierScript:
    """The steps of one storage scenario, run with real pools on a device."""

    def __init__(
        self, scenario: NativeScenario, *, device: str, groups: RankGroups | None = None
    ) -> None:
        """Prepare a run; ``groups`` are process groups, None for those of this process only."""
        self._scenario = scenario
        self._groups = groups
        self._device = open_device(device)
        self._geometry = geometry_of(scenario)
        self._places = RowPlaces()
        self._known_race_num = 0
        self._folder = tempfile.TemporaryDirectory(prefix="goldentrace-")
        self._steps: dict[str, Step] = {
            "build": self._build,
            "store": self._store,
            "fetch": lambda: self._fetch("fetch"),
            "short": self._fetch_too_few,
            "torn": self._fetch_torn,
            "missing": self._fetch_missing,
            "reattach": self._reattach,
            "shutdown": self._shut_down,
        }

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps, in order."""
        return tuple(self._steps)

    def run_step(self, step: str) -> Iterator[StepRecord]:
        """Run one of :attr:`steps`; yield what a prefetch brought, then digests of host pools."""
        yield from self._steps[step]() or ()
        self._device.synchronize()
        for name, pool in self._hosts.items():
            content = digest(tensors_of(pool))
            yield Digest(step=step, owner=f"host.{name.name}", pool=name.name, sha256=content)

    def new_races(self) -> Iterator[FoundRace]:
        """Yield the races that a simulated device found since the last call, equal ones once."""
        found = self._device.races if isinstance(self._device, SimDevice) else []
        races = [self._places.found_race(race) for race in found[self._known_race_num :]]
        self._known_race_num = len(found)
        yield from {race.record: race for race in reversed(races)}.values()

    def _build(self) -> None:
        """Build the stack, attach storage with options of its own, poison the host pools."""
        pools = FAMILY_OF[self._scenario.model].make_pools(self._geometry, self._device)
        plan = builder_inputs(self._scenario, self._geometry, pools, self._groups)
        cache = build_stack(plan)
        self._controller = cache.cache_controller
        self._group = cache.host_pool_group
        self._hosts = host_pools_by_name(self._group)
        if isinstance(self._device, SimDevice):
            rows = row_buffers(pools.mirrored, start_layer=self._geometry.start_layer)
            self._places.learn(rows, self._device)
        self._controller.detach_storage_backend()
        self._attach()
        poison([tensor for pool in self._hosts.values() for tensor in tensors_of(pool)], "before")

    def _attach(self) -> None:
        with storage_folder(self._folder.name):
            self._controller.attach_storage_backend(
                BACKEND,
                prefetch_threshold=FEWEST_PAGES * self._scenario.page_size,
                model_name=MODEL_NAME,
                storage_backend_extra_config=OPTIONS,
            )

    def _store(self) -> None:
        """Write host rows, store them, and wait until they are kept."""
        tokens = range(PAGES * self._scenario.page_size)
        self._keys = tuple(self._tier.page_keys(tokens, prior=None, namespace="tenant"))
        self._stored = self._take_slots()
        self._content: dict[tuple[PoolName, int], list[torch.Tensor]] = {}
        for name, pool in self._hosts.items():
            for number, slot in enumerate(self._first_slots(name, self._stored)):
                self._content[name, number] = self._write_page(pool, slot, f"{name.name} {number}")
        self._tier.start_backup(NodeBackup(node_id=41, keys=self._keys, host=self._stored))
        ended: list[int] = []
        while not ended:
            ended = self._tier.finished_backups()
        if ended != [41]:
            raise NativeScenarioError(f"backup: must end once; expected [41], got {ended}")

    def _write_page(self, pool: HostKVCache, slot: int, label: str) -> list[torch.Tensor]:
        """Write a page of a host pool and return its bytes, block by block."""
        blocks = pool.page_blocks(slot)
        writes = tuple(map(tensor_access, blocks))
        self._device.host_access(label=f"write {label}", reads=(), writes=writes)
        content = []
        for place, block in enumerate(blocks):
            own = pattern(f"{label} block {place}", (1, block.nbytes))
            overwrite(block, own)
            content.append(own.view(-1))
        return content

    def _fetch(self, phase: str) -> Iterator[StorageMatch]:
        """Fetch all pages into other host slots and compare every page that arrived."""
        slots = self._take_slots()
        is_taken = self._start(phase, self._keys, slots)
        result: PrefetchResult | None = None
        while is_taken and result is None:
            result = self._tier.finish_prefetch(phase, abort=False)
        arrived = PrefetchResult(page_num=0, components=frozenset()) if result is None else result
        page_size = self._scenario.page_size
        yield StorageMatch(
            step=phase,
            backend=BACKEND,
            sequence="first",
            phase=phase,
            asked=len(self._keys) * page_size,
            available=None,
            hits=None,
            arrived=arrived.page_num * page_size,
            pools={
                _POOLS[component].name: len(slots[component]) // self._page_size_of(component)
                for component in sorted(arrived.components)
            },
            is_over=True,
            equal=self._is_equal(slots, arrived) if arrived.page_num else None,
        )
        self._give_back(slots)

    def _fetch_too_few(self) -> None:
        """Ask for less than the threshold, and for a second prefetch beyond the rate limit."""
        slots = self._take_slots()
        page = self._scenario.page_size
        few = {**slots, ComponentType.FULL: slots[ComponentType.FULL][:page]}
        if self._start("few", self._keys[:1], few):
            raise NativeScenarioError("prefetch: too few pages are refused; expected no, got yes")
        limit, self._tier.prefetch_capacity_limit = self._tier.prefetch_capacity_limit, 0
        if self._start("limited", self._keys, slots):
            raise NativeScenarioError("prefetch: the rate is limited; expected no, got yes")
        self._tier.prefetch_capacity_limit = limit
        self._give_back(slots)

    def _fetch_torn(self) -> Iterator[StorageMatch]:
        """Cut the stored third page of the anchor short, and fetch."""
        name = self._storage.page_name(PoolName.KV, self._keys[2])
        file = Path(self._folder.name) / f"{name}.page"
        if file.exists():
            file.write_bytes(file.read_bytes()[:-1])
        return self._fetch("torn")

    def _fetch_missing(self) -> Iterator[StorageMatch]:
        """Remove the second page of every pool, and fetch."""
        for name in self._hosts:
            self._storage.blobs.remove(self._storage.page_name(name, self._keys[1]))
        return self._fetch("missing")

    def _reattach(self) -> Iterator[StorageMatch]:
        """Store the pages again, detach storage, attach it and fetch what is still there."""
        self._tier.start_backup(NodeBackup(node_id=42, keys=self._keys, host=self._stored))
        while not self._tier.finished_backups():
            pass
        self._controller.detach_storage_backend()
        self._attach()
        return self._fetch("reattach")

    def _shut_down(self) -> None:
        """End the threads; every host slot is free again."""
        self._controller.shutdown()
        self._give_back(self._stored)
        self._folder.cleanup()
        for name, pool in self._hosts.items():
            left = pool.available_size()
            if name in _POOLS.values() and left != pool.size:
                rule = f"no slot may leak; expected {pool.size} free, got {left}"
                raise NativeScenarioError(f"host.{name.name}: {rule}")

    def _start(self, request: str, keys: Sequence[str], slots: Slots) -> bool:
        prefetch = Prefetch(request_id=request, keys=tuple(keys), prefix_keys=(), host=slots)
        return self._tier.start_prefetch(prefetch)

    def _take_slots(self) -> dict[ComponentType, torch.Tensor]:
        """Take host slots for every component: all pages, a window, or one state."""
        pages = {ComponentType.SWA: WINDOW_PAGES, ComponentType.MAMBA: 1}
        taken = {}
        for component, name in _POOLS.items():
            if name in self._hosts:
                pool = self._hosts[name]
                slots = pool.alloc(pages.get(component, PAGES) * pool.page_size)
                if slots is None:
                    raise NativeScenarioError(f"host.{name.name}: must have room; got none")
                taken[component] = slots
        return taken

    def _give_back(self, slots: Slots) -> None:
        for component, indices in slots.items():
            self._hosts[_POOLS[component]].free(indices)

    def _first_slots(self, name: PoolName, slots: Slots) -> list[int]:
        """Return the first slot of each page of a pool; those on the anchor's slots have its."""
        own = {pool: component for component, pool in _POOLS.items()}
        component = own.get(name, ComponentType.FULL)
        first: list[int] = slots[component][:: self._hosts[name].page_size].tolist()
        return first

    def _is_equal(self, slots: Slots, arrived: PrefetchResult) -> bool:
        """Compare every page that arrived with what was stored of it."""
        own = {pool: component for component, pool in _POOLS.items()}
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        for name, pool in self._hosts.items():
            component = own.get(name, ComponentType.FULL)
            is_full = component is ComponentType.FULL
            if not is_full and component not in arrived.components:
                continue
            firsts = self._first_slots(name, slots)
            for number, slot in enumerate(firsts[: arrived.page_num] if is_full else firsts):
                blocks = [block.view(-1).view(torch.uint8) for block in pool.page_blocks(slot)]
                pairs += zip(blocks, self._content[name, number], strict=True)
        return all(torch.equal(block, content) for block, content in pairs)

    def _page_size_of(self, component: ComponentType) -> int:
        return self._hosts[_POOLS[component]].page_size

    @property
    def _tier(self) -> StorageTier:
        tier = self._controller.storage_tier
        if tier is None:
            raise NativeScenarioError("storage: must be attached; expected a tier, got none")
        return tier

    @property
    def _storage(self) -> PagedStorage:
        storage = self._tier.storage
        assert isinstance(storage, PagedStorage), "the backend of this script keeps pages"
        return storage
