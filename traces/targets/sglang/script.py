"""What is played on a stack: back up, poison, load into other slots, read layer by layer.

Every buffer that can be reached from a device pool takes part, whether or not a host pool mirrors
it: what nobody restores shows as a round trip that is not equal. Where the entry opened its
storage, what was backed up goes there and back; where it made a tree of the release, the tree
itself plays then. At the end the functions that the entries of the group were given are called.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from traces.schema.model import DigestRecord, RoundTrip
from traces.targets.common.content import row_bytes
from traces.targets.common.planes import Plane
from traces.targets.common.round_trip import RoundTripComparison
from traces.targets.sglang.accessor_reads import AccessorReader
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.callbacks import run_callbacks
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.storage.tier_driver import (
    HostPages,
    StorageTierDriver,
    capture_thread_errors,
)
from traces.targets.sglang.tree_script import TreeScript, is_tree

TREE = "tree"
STORAGE = "storage"
_CALLBACKS = "callbacks"
_CONTROLLER_STEPS = ("backup", "reload", "finish")
# Token ids of a node begin at a multiple of this.
_TOKENS = 1000
_AUTHORS = ("first", "second")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUpNode:
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


class ScenarioScript:
    """Plays the steps of one scenario.

    Args:
        stack: what the release assembled.
        bench: the device, as the script itself works on it.

    Attributes:
        steps: what there is to play, in order.
    """

    def __init__(self, stack: AssembledStack, *, bench: ScriptDevice) -> None:
        self._stack = stack
        self._script_device = bench
        self._transfers = ControllerDriver(stack)
        self._rows = RowContents(stack, bench=bench, transfers=self._transfers)
        self._nodes: list[BackedUpNode] = []
        self.steps = (
            *_CONTROLLER_STEPS,
            *([STORAGE] if getattr(stack.controller, "enable_storage", False) else []),
            *([TREE] if is_tree(stack.cache) else []),
            _CALLBACKS,
        )
        self._notes: list[str] = []

    def take_notes(self) -> list[str]:
        """Return, once, why something that belongs to the scenario was not played."""
        notes, self._notes = self._notes, []
        return notes

    def play(self, step: str) -> Iterator[DigestRecord]:
        """Play one of ``steps`` and yield what it shows."""
        yield from getattr(self, f"_{step}")()
        self._script_device.synchronize()
        if step in _CONTROLLER_STEPS:
            with self._script_device.quiet():
                yield from list(self._rows.digests(step))

    def _backup(self) -> Iterator[DigestRecord]:
        """Write two nodes on the device and back them up."""
        self._rows.poison("before")
        self._transfers.hold("KV", pages=1)
        for pages, author in zip((2, 1), _AUTHORS, strict=True):
            slots = self._transfers.take(pages=pages)
            self._rows.write(self._rows.on_host(slots), author)
            host, extra = self._transfers.write(slots)
            self._nodes.append(BackedUpNode(author=author, device=slots, host=host, extra=extra))
        self._transfers.finish_writing()
        yield from ()

    def _reload(self) -> Iterator[DigestRecord]:
        """Poison the device, load both nodes into other slots and compare."""
        self._rows.poison("after")
        for node in self._nodes:
            self._transfers.return_slots(node.device)
        self._transfers.hold_all(self._nodes[0].device)
        before = self._rows.snapshot()
        loaded = [self._transfers.load(node.host, node.extra) for node in self._nodes]
        self._transfers.start_loading()
        yield from self._read_behind_load(loaded)
        self._script_device.synchronize()
        with self._script_device.quiet():
            pairs = zip(self._rows.planes, before, strict=True)
            compared = [self._compared("reload", *pair, loaded) for pair in pairs]
        yield from compared
        self._loaded = loaded

    def _read_behind_load(self, loaded: list[dict[str, torch.Tensor]]) -> Iterator[DigestRecord]:
        """Read every layer while it is on its way, through every accessor that the pools have."""
        reader = AccessorReader(
            bench=self._script_device,
            stack=self._stack,
            planes=self._rows.planes,
            slots=self._rows.on_host(loaded[0]),
            page_indices=self._page_indices(loaded[0]),
        )
        known = self._rows.on_host(self._nodes[0].device)
        written = {
            (plane.name, buffer.layer): self._rows.content(
                plane, buffer, known[plane.domain.name], _AUTHORS[0]
            )
            for plane in self._rows.planes
            for buffer in plane.layers
        }
        yield from reader.read_all(written)

    def _finish(self) -> Iterator[DigestRecord]:
        """Acknowledge the load and give everything back."""
        self._transfers.finish_loading()
        for slots in self._loaded:
            self._transfers.return_slots(slots)
        yield from ()

    def _storage(self) -> Iterator[DigestRecord]:
        """Write both nodes to storage, fetch them into other host slots and load those.

        Another rank's storage is another process's: what this rank does not write is not fetched.
        """
        written = [
            (HostPages(host=node.host, extra=node.extra), self._tokens(number, node))
            for number, node in enumerate(self._nodes, start=1)
        ]
        with capture_thread_errors() as ended:
            tier = StorageTierDriver(self._stack, ended)
            for pages, tokens in written:
                tier.write(pages, tokens)
            fetched = [tier.fetch(pages, tokens) for pages, tokens in written]
        found = [pages for pages in fetched if pages is not None]
        if len(found) < len(fetched):
            self._notes.append("not played: loading from storage what this rank does not store")
            return
        self._rows.poison(STORAGE)
        before = self._rows.snapshot()
        loaded = [self._transfers.load(pages.host, pages.extra) for pages in found]
        self._transfers.start_loading()
        self._script_device.synchronize()
        with self._script_device.quiet():
            pairs = zip(self._rows.planes, before, strict=True)
            compared = [self._compared(STORAGE, *pair, loaded) for pair in pairs]
        yield from compared
        self._transfers.finish_loading()

    @staticmethod
    def _tokens(number: int, node: BackedUpNode) -> range:
        """Return the token ids of a node."""
        return range(number * _TOKENS, number * _TOKENS + len(node.host))

    def _tree(self) -> Iterator[DigestRecord]:
        """Let the tree back up, evict, match and load by its own policy."""
        self._transfers.release_held()
        play = TreeScript(
            self._stack, bench=self._script_device, rows=self._rows, transfers=self._transfers
        )
        yield from play.play()
        self._notes += play.notes

    def _callbacks(self) -> Iterator[DigestRecord]:
        """Ask every callback of every pool what it does when the pool is full."""
        stack = self._stack
        run_callbacks(stack.group, stack.cache, stack.evictions)
        yield from ()

    def _page_indices(self, slots: dict[str, torch.Tensor]) -> torch.Tensor:
        page = self._stack.page_size
        with self._script_device.quiet():
            return slots["KV"][::page] // page

    def _compared(
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
        return comparison.record(step=step, pool=plane.name)
