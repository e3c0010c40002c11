"""Ends of prefixes: tokens that a match serves from the device, and those that a load brings back.

Full KV is needed for every token, windows for the last ones, and a state at the very end.

Source: sglang 0.5.12 ``unified_radix_cache.py`` and ``unified_cache_components``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from assembler.cache.nodes import CacheNode
from assembler.cache.prefixes import MatchResult
from assembler.cache.transfers import LoadingNodes
from assembler.names import ComponentType


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixNeeds:
    """Needs of a model: the parts of a prefix without which it cannot go on.

    Attributes:
        window_tokens: last tokens that need window slots; None for all, 0 without such layers.
        has_state: whether the last token needs a state.
    """

    window_tokens: int | None
    has_state: bool

    def match(self, path: Sequence[CacheNode], root: CacheNode) -> MatchResult:
        """Return the longest prefixes of a path that the device, and that both sides can serve."""
        found = _PrefixEnds(needs=self, root=root)
        for node in path:
            found.extend(node)
        last_host = found.best
        while last_host is not root and not last_host.is_backed_up:
            assert last_host.parent is not None, "a matched node has a way to its root"
            last_host = last_host.parent
        return MatchResult(
            device_prefix_len=found.device_depth,
            host_hit_length=found.best_depth - found.device_depth,
            last_device_node=found.device,
            last_host_node=last_host,
            best_match_node=found.best,
        )

    def missing(self, node: CacheNode) -> LoadingNodes:
        """Return what a load must bring back before the device serves the prefix up to ``node``."""
        path = node.path()
        full = [part for part in path if part.is_evicted]
        missing = {ComponentType.FULL: full, ComponentType.SWA: self._missing_windows(path)}
        if self.has_state and ComponentType.MAMBA in node.missing_on_device():
            missing[ComponentType.MAMBA] = [node]
        return LoadingNodes(missing={part: nodes for part, nodes in missing.items() if nodes})

    def lock_tokens(self, path: Sequence[CacheNode]) -> int:
        """Return how many last tokens of a path need their windows."""
        if self.window_tokens is None:
            return sum(len(node) for node in path)
        return self.window_tokens

    def _missing_windows(self, path: Sequence[CacheNode]) -> list[CacheNode]:
        """Return the nodes whose windows only the host has, among those that need one."""
        wanted, covered = self.lock_tokens(path), 0
        nodes: list[CacheNode] = []
        for node in reversed(path):
            if covered >= wanted:
                break
            if ComponentType.SWA in node.missing_on_device():
                nodes.append(node)
            covered += len(node)
        return nodes[::-1]


class _PrefixEnds:
    """The ends of a path that grows node by node: on the device alone, and on both sides."""

    def __init__(self, *, needs: PrefixNeeds, root: CacheNode) -> None:
        self._needs = needs
        self._depth = 0
        self._is_resident = True
        self._window_run = 0
        self._device_window_run = 0
        self.best = self.device = root
        self.best_depth = self.device_depth = 0

    def extend(self, node: CacheNode) -> None:
        """Take the next node of the path."""
        length, on_device, on_host = len(node), node.device, node.host
        self._depth += length
        self._is_resident = self._is_resident and on_device.full is not None
        is_whole = is_served = True
        if self._needs.window_tokens != 0:
            here = on_device.swa
            there = on_host.swa if here is None else here
            here_num, there_num = (0 if part is None else len(part) for part in (here, there))
            # A node that has all of its window slots continues the run of those before it.
            self._window_run = there_num + (self._window_run if there_num == length else 0)
            self._device_window_run = here_num + (
                self._device_window_run if here_num == length else 0
            )
            wanted = min(self._needs.window_tokens or self._depth, self._depth)
            is_whole, is_served = self._window_run >= wanted, self._device_window_run >= wanted
        if self._needs.has_state:
            has_state = on_device.mamba is not None
            is_served = is_served and has_state
            is_whole = is_whole and (has_state or on_host.mamba is not None)
        if is_whole:
            self.best, self.best_depth = node, self._depth
        if is_served and self._is_resident:
            self.device, self.device_depth = node, self._depth
