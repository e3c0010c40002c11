"""What is played on a stack: back up, poison, load into other slots, read layer by layer.

Every buffer that can be reached from a device pool takes part, whether or not a host pool mirrors
it: what nobody restores shows as a round trip that is not equal.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from traces.encode import slot_runs
from traces.model import Digest, DigestRecord, RoundTrip
from traces.targets.content import (
    RowBuffer,
    digest,
    overwrite,
    pattern,
    row_bytes,
    row_content,
    slots_of_rows,
)
from traces.targets.device_rows import launch_write
from traces.targets.sglang.assembly import Assembled
from traces.targets.sglang.bench import Bench
from traces.targets.sglang.memory import buffers_of
from traces.targets.sglang.reading import Reader
from traces.targets.sglang.rows import Plane, planes_of
from traces.targets.sglang.transfers import Transfers

STEPS = ("backup", "reload", "read")
_AUTHORS = ("first", "second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Tokens that are backed up together.

    Attributes:
        author: seeds what is written.
        device: device slots by domain.
        host: what the controller's write returned.
        extra: host slots of the sidecars with slots of their own, by pool name.
    """

    author: str
    device: dict[str, torch.Tensor]
    host: torch.Tensor
    extra: dict[str, torch.Tensor]


class Script:
    """Plays the steps of one scenario.

    Args:
        stack: what the release assembled.
        bench: the device, as the script itself works on it.
    """

    def __init__(self, stack: Assembled, *, bench: Bench) -> None:
        self._stack = stack
        self._bench = bench
        self._transfers = Transfers(stack)
        self._planes = tuple(self._find_planes())
        self._seeds = _seeds(self._planes)
        self._nodes: list[Node] = []

    def play(self, step: str) -> Iterator[DigestRecord]:
        """Play one of ``STEPS`` and yield what it shows."""
        yield from getattr(self, f"_{step}")()
        self._bench.synchronize()
        with self._bench.quiet():
            yield from list(self._digests(step))

    def _backup(self) -> Iterator[DigestRecord]:
        """Write two nodes on the device and back them up."""
        self._poison("before")
        self._transfers.hold("KV", pages=1)
        for pages, author in zip((2, 1), _AUTHORS, strict=True):
            slots = self._transfers.take(pages=pages)
            known = self._on_host(slots)
            for plane in self._planes:
                for buffer in plane.layers:
                    own = known[plane.domain.name]
                    content = self._content(plane, buffer, own, author)
                    launch_write(self._bench, buffer, own, content)
            host, extra = self._transfers.write(slots)
            self._nodes.append(Node(author=author, device=slots, host=host, extra=extra))
        self._transfers.finish_writing()
        yield from ()

    def _reload(self) -> Iterator[DigestRecord]:
        """Poison the device, load both nodes into other slots and compare."""
        self._poison("after")
        for node in self._nodes:
            self._transfers.give_back(node.device)
        self._transfers.hold_all(self._nodes[0].device)
        before = self._snapshot()
        loaded = [self._transfers.load(node.host, node.extra) for node in self._nodes]
        self._consumer = self._transfers.start_loading()
        yield from self._read_behind_load(loaded)
        self._bench.synchronize()
        with self._bench.quiet():
            pairs = zip(self._planes, before, strict=True)
            compared = [self._compared(plane, rows, loaded) for plane, rows in pairs]
        yield from compared
        self._loaded = loaded

    def _read_behind_load(self, loaded: list[dict[str, torch.Tensor]]) -> Iterator[DigestRecord]:
        """Read every layer while it is on its way, through every accessor that the pools have."""
        reader = Reader(
            bench=self._bench,
            stack=self._stack,
            planes=self._planes,
            slots=self._on_host(loaded[0]),
            page_indices=self._page_indices(loaded[0]),
        )
        known = self._on_host(self._nodes[0].device)
        written = {
            (plane.name, buffer.layer): self._content(
                plane, buffer, known[plane.domain.name], _AUTHORS[0]
            )
            for plane in self._planes
            for buffer in plane.layers
        }
        yield from reader.read_all(written)

    def _read(self) -> Iterator[DigestRecord]:
        """Finish: acknowledge the load and give everything back."""
        self._transfers.finish_loading()
        for slots in self._loaded:
            self._transfers.give_back(slots)
        yield from ()

    def _on_host(self, slots: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return slots as the script itself knows them: asking the device would order it."""
        with self._bench.quiet():
            return {name: own.cpu() for name, own in slots.items()}

    def _page_indices(self, slots: dict[str, torch.Tensor]) -> torch.Tensor:
        page = self._stack.page_size
        with self._bench.quiet():
            return slots["KV"][::page] // page

    def _find_planes(self) -> Iterator[Plane]:
        """Yield the planes of every device pool, sidecars first: they own the narrower part.

        A sidecar may be one plane of the KV pool itself; then it is the KV pool's plane here.
        """
        taken: set[int] = set()
        pools = self._stack.device_pools
        for name, pool in sorted(pools.items(), key=_kv_last):
            if name != "KV" and pool is pools.get("KV"):
                continue
            domain = self._transfers.domain_of(name)
            if domain is not None:
                host = self._transfers.host_pool_of(name)
                yield from planes_of(name, pool, domain, host=host, taken=taken)

    def _content(
        self, plane: Plane, buffer: RowBuffer, slots: torch.Tensor, author: str
    ) -> torch.Tensor:
        """Return what ``author`` writes; what a release calls a buffer is no part of it."""
        named = replace(buffer, label=f"{self._seeds[plane.name]}[{buffer.layer}]")
        return row_content(named, slots, author=author)

    def _poison(self, label: str) -> None:
        self._bench.synchronize()
        with self._bench.quiet():
            for name, pool in self._stack.device_pools.items():
                counts: Counter[tuple[int, ...]] = Counter()
                for buffer in buffers_of(pool):
                    shape = tuple(buffer.tensor.shape)
                    seed = f"{label}/{name}/{shape}/{counts[shape]}"
                    counts[shape] += 1
                    size = buffer.tensor.numel() * buffer.tensor.element_size()
                    if buffer.tensor.is_contiguous():
                        overwrite(buffer.tensor, pattern(seed, (1, size)))

    def _snapshot(self) -> list[list[torch.Tensor]]:
        self._bench.synchronize()
        with self._bench.quiet():
            return [[row_bytes(buffer.tensor) for buffer in plane.layers] for plane in self._planes]

    def _digests(self, step: str) -> Iterator[Digest]:
        for plane in self._planes:
            tensors = [buffer.tensor for buffer in plane.layers]
            yield Digest(step=step, owner=f"device.{plane.name}", sha256=digest(tensors))

    def _compared(
        self, plane: Plane, before: list[torch.Tensor], loaded: list[dict[str, torch.Tensor]]
    ) -> RoundTrip:
        wrong: set[int] = set()
        foreign: set[int] = set()
        for buffer, old in zip(plane.layers, before, strict=True):
            now = row_bytes(buffer.tensor)
            is_foreign = (now != old).any(dim=1)
            for node, slots in zip(self._nodes, loaded, strict=True):
                rows = buffer.rows_of(slots[plane.domain.name])
                want = self._content(plane, buffer, node.device[plane.domain.name], node.author)
                is_foreign[rows] = False
                bad = rows[(now[rows] != want).any(dim=1)]
                wrong.update(slots_of_rows(buffer, bad).tolist())
            foreign.update(slots_of_rows(buffer, is_foreign.nonzero().flatten()).tolist())
        return RoundTrip(
            step="reload",
            pool=plane.name,
            equal=not wrong,
            wrong_slots=_runs(wrong),
            foreign_slots=_runs(foreign),
        )


def _seeds(planes: Sequence[Plane]) -> dict[str, str]:
    """Return a name for each plane that no rename changes: pool, row shape and ordinal."""
    seeds: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for plane in planes:
        owner = plane.name.partition(".")[0]
        kind = f"{owner}/{tuple(plane.layers[0].tensor.shape[1:])}"
        seeds[plane.name] = f"{kind}/{counts[kind]}"
        counts[kind] += 1
    return seeds


def _kv_last(item: tuple[str, Any]) -> tuple[bool, str]:
    return item[0] == "KV", item[0]


def _runs(slots: set[int]) -> str:
    return slot_runs(torch.tensor(sorted(slots), dtype=torch.int64))
