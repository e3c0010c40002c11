"""Driver of a controller, as caches use it: allocate slots, write, load, wait, free."""

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from traces.targets.common.planes import SlotDomain
from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.errors import StageError

_KV = "KV"
_STATES_OF_A_NODE = 1


class ControllerDriver:
    """Drives the controller of one stack.

    ``host_slots`` has the numbers of host slots that backups took, by domain; nothing here frees
    them.
    """

    def __init__(self, stack: AssembledStack) -> None:
        self._stack = stack
        self._controller: Any = stack.controller
        self._entries = entries_of(stack.group)
        self._sources = dict(stack.sidecars)
        self._domains = dict(self._find_domains())
        self._held: list[dict[str, torch.Tensor]] = []
        self.host_slots: Counter[str] = Counter()

    def domain_of(self, pool: str) -> SlotDomain | None:
        """Return the slots that number the rows of a pool; None when they are unknown."""
        source = self._sources.get(pool, pool)
        if source == pool and pool not in self._domains:
            # A pool with neither slots nor an entry of its own follows the KV slots.
            source = _KV
        return self._domains.get(source)

    def domains_by_pool(self) -> dict[int, SlotDomain]:
        """Return the slots that number the rows of each pool, by the identity of the pool."""
        stack, domain_of = self._stack, self.domain_of
        pools = {id(pool): domain_of(name) for name, pool in stack.device_pools.items()}
        pools |= {id(stack.kvcache): domain_of(_KV), id(stack.allocator): domain_of(_KV)}
        if "MAMBA" in stack.device_pools:
            pools |= {id(stack.req_to_token_pool): domain_of("MAMBA")}
        return {key: domain for key, domain in pools.items() if domain is not None}

    def host_pool_of(self, pool: str) -> Any:  # noqa: ANN401 - any class of host pools
        """Return the host pool of that name; None without an entry."""
        return getattr(self._entries.get(pool), "host_pool", None)

    def take(self, *, pages: int) -> dict[str, torch.Tensor]:
        """Take device slots for a node in every domain.

        Raises:
            StageError: a pool of the scenario is too small.
        """
        return {name: self.take_one(name, pages=pages) for name in self._domains}

    def take_rest(self) -> list[dict[str, torch.Tensor]]:
        """Take all slots that are free: the KV slots at once, others page by page."""
        free = int(self._stack.full_allocator.available_size()) // self._stack.page_size
        slots = self.try_take_one(_KV, pages=free) if free else None
        taken = [] if slots is None else [{_KV: slots}]
        for name in sorted(self._domains.keys() - {_KV}):
            while (slots := self.try_take_one(name)) is not None:
                taken.append({name: slots})
        return taken

    def hold(self, domains: Iterable[str]) -> None:
        """Take a page, or a state, of each domain, so that later allocations get other slots."""
        self._held += [{domain: self.take_one(domain)} for domain in domains]

    def release_held(self) -> None:
        """Free every held slot."""
        for slots in self._held:
            self.return_slots(slots)
        self._held.clear()

    def return_slots(self, slots: dict[str, torch.Tensor]) -> None:
        """Free device slots."""
        for domain, own in slots.items():
            if domain == _KV:
                self._stack.full_allocator.free(own)
                continue
            entry = self._entries[domain]
            free = getattr(entry, "device_free_fn", None) or entry.device_pool.free
            free(own)

    def write(self, slots: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Back a node up.

        Returns:
            Host slots of the KV, and of every sidecar that has slots of its own.

        Raises:
            StageError: the controller had no room.
        """
        extras = [self._transfer(name, device=slots.get(name)) for name in self._sidecars()]
        host = self._controller.write(
            device_indices=slots[_KV], node_id=5, **_extra_pools(self._controller.write, extras)
        )
        if host is None:
            raise StageError("write: a roomy host must take a node; expected slots, got none")
        own = {
            name: extra.host_indices
            for name, extra in zip(self._sidecars(), extras, strict=True)
            if name in self._domains
        }
        self.host_slots.update({name: len(taken) for name, taken in {_KV: host, **own}.items()})
        return host, own

    def finish_writing(self) -> None:
        """Wait for every backup."""
        self._acknowledge(self._controller.ack_write_queue)

    def load(self, host: torch.Tensor, own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Queue loading a node.

        Returns:
            Device slots by domain.

        Raises:
            StageError: the controller had no room.
        """
        extras = [self._transfer(name, host=own.get(name)) for name in self._sidecars()]
        kv = self._controller.load(
            host_indices=host, node_id=5, **_extra_pools(self._controller.load, extras)
        )
        if kv is None:
            raise StageError("load: a roomy device must take a node; expected slots, got none")
        taken = {_KV: kv}
        for name, extra in zip(self._sidecars(), extras, strict=True):
            if name in self._domains:
                taken[name] = extra.device_indices
        return taken

    def start_loading(self) -> int:
        """Start the queued loads and make readers wait for them."""
        producer: int = self._controller.start_loading()
        self._controller.layer_done_counter.set_consumer(producer)
        return producer

    def finish_loading(self) -> None:
        """Wait for every load."""
        self._acknowledge(self._controller.ack_load_queue)

    @staticmethod
    def _acknowledge(queue: list[Any]) -> None:
        for ack in queue:
            ack.finish_event.synchronize()
        queue.clear()

    def _find_domains(self) -> Iterator[tuple[str, SlotDomain]]:
        page = self._stack.page_size
        yield _KV, SlotDomain(name=_KV, slot_num=self._stack.full_allocator.size, page_size=page)
        for name, entry in self._entries.items():
            follows = name in self._sources or getattr(entry, "share_indices_with_anchor", False)
            if name == _KV or follows or entry.device_pool is None:
                continue
            width = 1 if name == "MAMBA" else page
            yield name, SlotDomain(name=name, slot_num=entry.device_pool.size, page_size=width)

    def _sidecars(self) -> tuple[str, ...]:
        return tuple(name for name in self._entries if name != _KV)

    def take_one(self, domain: str, *, pages: int = 1) -> torch.Tensor:
        """Take the device slots of pages, or of a state.

        Raises:
            StageError: a pool of the scenario is too small.
        """
        slots = self.try_take_one(domain, pages=pages)
        if slots is None:
            raise StageError(f"{domain}: a fresh device must have slots; expected some, got none")
        return slots

    def try_take_one(self, domain: str, *, pages: int = 1) -> torch.Tensor | None:
        """Take the device slots of pages, or of a state; None when there are too few."""
        if domain == _KV:
            slots = self._stack.full_allocator.alloc(pages * self._stack.page_size)
        else:
            entry = self._entries[domain]
            need = self._domains[domain].page_size
            need = _STATES_OF_A_NODE if need == 1 else need
            take = getattr(entry, "device_alloc_fn", None) or entry.device_pool.alloc
            slots = take(need)
        found: torch.Tensor | None = slots
        return found

    def _transfer(
        self, name: str, *, device: torch.Tensor | None = None, host: torch.Tensor | None = None
    ) -> Any:  # noqa: ANN401 - the release's own class
        cls = self._stack.pool_transfer
        fields = inspect.signature(cls).parameters
        entry = self._entries[name]
        given: dict[str, Any] = {"name": entry.name}
        if name in self._domains:
            given |= {"device_indices": device} if host is None else {"host_indices": host}
        elif "indices_from_pool" in fields:
            source = self._sources.get(name, _KV)
            given["indices_from_pool"] = self._entries[source].name
        return cls(**given)


def _extra_pools(method: Any, extras: list[Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return the sidecars' part of a call; a controller without sidecars takes none."""
    takes_them = "extra_pools" in inspect.signature(method).parameters
    return {"extra_pools": extras} if takes_them else {}
