"""Content of the rows of a stack's device pools: write, poison, snapshot, digest."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from traces.schema.model import Digest
from traces.targets.common.content import (
    RowBuffer,
    digest,
    overwrite,
    pattern,
    row_bytes,
    row_content,
)
from traces.targets.common.planes import Plane, planes_of
from traces.targets.common.pool_buffers import buffers_of
from traces.targets.common.rows import launch_write
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.held_pools import device_pools, host_pools
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.storage.identity import identity_seed

_STATES = "MAMBA"


class RowContents:
    """The rows of every device pool of one stack.

    In ``planes`` sidecars come first: their planes take precedence over the KV pool's.
    """

    def __init__(
        self, stack: AssembledStack, *, device: ScriptDevice, transfers: ControllerDriver
    ) -> None:
        self._stack = stack
        self._device = device
        self.planes = tuple(_planes(stack, transfers))
        self._seeds = _seeds(self.planes)

    def content(
        self, plane: Plane, buffer: RowBuffer, slots: torch.Tensor, author: str
    ) -> torch.Tensor:
        """Return the content that ``author`` writes; it does not depend on names of a release."""
        seed = identity_seed(self._stack.scenario, plane)
        named = replace(buffer, label=f"{seed}{self._seeds[plane.name]}[{buffer.layer}]")
        return row_content(named, slots, author=author)

    def write(self, slots: dict[str, torch.Tensor], author: str) -> None:
        """Launch writing the rows of a node; ``slots`` by domain are known to the host."""
        for plane in self.planes:
            own = slots[plane.domain.name]
            for buffer in plane.layers:
                launch_write(self._device, buffer, own, self.content(plane, buffer, own, author))

    def slot_limit(self, domain: str) -> int:
        """Return the number above all slots of a domain of which every plane has the row."""
        planes = [plane for plane in self.planes if plane.domain.name == domain]
        return min(
            buffer.tensor.shape[0] * buffer.slots_per_row
            for plane in planes
            for buffer in plane.layers
        )

    def on_host(self, slots: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return copies of slots on the host, without ordering any device work."""
        with self._device.pause_interception():
            return {name: own.cpu() for name, own in slots.items()}

    def poison(self, label: str) -> None:
        """Overwrite every buffer of every device pool, once all work is done."""
        self._device.synchronize()
        with self._device.pause_interception():
            for name, pool in self._stack.device_pools.items():
                counts: Counter[tuple[int, ...]] = Counter()
                for buffer in buffers_of(pool):
                    shape = tuple(buffer.tensor.shape)
                    seed = f"{label}/{name}/{shape}/{counts[shape]}"
                    counts[shape] += 1
                    size = buffer.tensor.numel() * buffer.tensor.element_size()
                    if buffer.tensor.is_contiguous():
                        overwrite(buffer.tensor, pattern(seed, (1, size)))

    def snapshot(self) -> list[list[torch.Tensor]]:
        """Return the bytes of all rows by plane and layer, once all work is done."""
        self._device.synchronize()
        with self._device.pause_interception():
            return [[row_bytes(buffer.tensor) for buffer in plane.layers] for plane in self.planes]

    def digests(self, step: str) -> Iterator[Digest]:
        """Yield the digest of every plane."""
        for plane in self.planes:
            content = digest([buffer.tensor for buffer in plane.layers])
            owner = f"device.{plane.name}"
            yield Digest(step=step, owner=owner, pool=plane.pool, sha256=content)


def _planes(stack: AssembledStack, transfers: ControllerDriver) -> Iterator[Plane]:
    """Yield the planes of every device pool.

    A sidecar may be one plane of the KV pool itself; then it is the KV pool's plane here.
    """
    # What a host pool has as its own are buffers that copies go through, whoever made them.
    taken = {
        value.data_ptr()
        for held in host_pools(stack)
        for value in getattr(held.pool, "__dict__", {}).values()
        if isinstance(value, torch.Tensor)
    }
    pools = stack.device_pools
    for name, pool in sorted(pools.items(), key=lambda item: (item[0] == "KV", item[0])):
        if name != "KV" and pool is pools.get("KV"):
            continue
        domain = transfers.domain_of(name)
        if domain is not None:
            host = transfers.host_pool_of(name)
            yield from planes_of(name, pool, domain, host=host, taken=taken)
    states = transfers.domain_of(_STATES) if _STATES in pools else None
    if states is not None:
        host = transfers.host_pool_of(_STATES)
        # What belongs to a slot of state counts, whether or not it was registered with the states.
        for held in device_pools(stack):
            if held.outer and held.outer[-1].pool is stack.req_to_token_pool:
                yield from planes_of(_STATES, held.pool, states, host=host, taken=taken)


def _seeds(planes: Sequence[Plane]) -> dict[str, str]:
    """Return a seed for each plane that no rename changes: pool, row shape and ordinal."""
    seeds: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for plane in planes:
        kind = f"{plane.pool}/{tuple(plane.layers[0].tensor.shape[1:])}"
        seeds[plane.name] = f"{kind}/{counts[kind]}"
        counts[kind] += 1
    return seeds
